import numpy as np
import pytest
import torch
import yaml

from recbole_mm.config.load import load_config
from recbole_mm.config.plain import config_from_plain, config_to_plain


@pytest.mark.parametrize("dataset", ["demo", "ml-100k"])
def test_a_config_survives_plain_yaml_json_and_a_safe_checkpoint(tmp_path, dataset):
    config = load_config("SASRec", dataset, overrides={"learning_rate": np.float64(0.01)})

    plain = config_to_plain(config)
    torch.save(plain, tmp_path / "config.pth")
    through_yaml = yaml.safe_load(yaml.safe_dump(plain))
    through_torch = torch.load(tmp_path / "config.pth", weights_only=True)

    for again in (through_yaml, through_torch):
        assert config_from_plain(again).final_config_dict == config.final_config_dict


def test_a_config_with_a_live_object_is_refused_by_key():
    config = load_config("SASRec", "demo")
    config["callback"] = len

    with pytest.raises(TypeError, match=r"config\['callback'\].*builtin_function_or_method"):
        config_to_plain(config)
