"""An error about a value that may come from any of several files names the file."""

import pytest
import yaml

from recbole_mm.compare.entries import config_of, parse_entries
from recbole_mm.config.data_settings import data_settings
from recbole_mm.config.errors import ConfigError, files_named
from recbole_mm.config.load import load_config
from recbole_mm.run.stages import plan_stages


def write(path, **values):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(values))
    return str(path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": "MMM4Rek"}, "unknown model 'MMM4Rek'"),
        ({"topk": [3]}, "valid_metric 'NDCG@10' is not measured"),
        ({"metrics": ["Beauty", "NDCG"]}, "unknown metric 'Beauty'"),
        ({"load_col": {"intr": ["item_id"]}}, "names columns of a file 'intr'"),
        ({"modalities": ["text", "text"]}, "'modalities' is .*different names"),
        ({"modalities": ["../text"]}, "'modalities' is .*different names"),
    ],
)
def test_of_a_configuration(tmp_path, values, message):
    other = write(tmp_path / "other.yaml", epochs=1)
    mine = write(tmp_path / "mine.yaml", **values)
    model = None if "model" in values else "MMM4Rec"

    with pytest.raises(ConfigError, match=message) as error:
        load_config(model, "toy", [other, mine])

    assert mine in str(error.value)


def test_that_sets_the_key_and_no_other(tmp_path):
    other = write(tmp_path / "other.yaml", epochs=1)
    mine = write(tmp_path / "mine.yaml", topk=[3])

    with pytest.raises(ConfigError) as error:
        load_config("MMM4Rec", "toy", [other, mine])

    assert other not in str(error.value)


def test_beside_the_data(tmp_path):
    beside = write(tmp_path / "toy" / "toy.yaml", topk=[3])

    with pytest.raises(ConfigError, match="is not measured") as error:
        load_config("MMM4Rec", "toy", (), {"data_path": str(tmp_path)})

    assert beside in str(error.value)


def test_of_stages(tmp_path):
    path = write(tmp_path / "stages.yaml", stages=[{"dataset": "toy", "model": "MMM4Rek"}])

    for read in (plan_stages, data_settings):
        with pytest.raises(ConfigError, match="unknown model 'MMM4Rek'") as error:
            read(config_files=[path])
        assert path in str(error.value)


def test_of_an_entry(tmp_path):
    path = write(tmp_path / "mine.yaml", model="MMM4Rek")

    with pytest.raises(ConfigError, match="mine.yaml: unknown model 'MMM4Rek'"):
        config_of(parse_entries(f"MMM4Rec@{path}")[0], "toy", {}, {})


def test_but_not_twice_and_not_without_a_file():
    for files in ({}, {"mine.yaml": {}}):
        with pytest.raises(ConfigError) as error, files_named(files):
            raise ConfigError("mine.yaml: wrong")
        assert str(error.value) == "mine.yaml: wrong"


def test_but_not_where_the_value_is_typed(tmp_path):
    mine = write(tmp_path / "mine.yaml", epochs=1)
    for values in ({"epoch": 1}, {"epochs": "many"}, {"neg_sampling": 1}, {"save_dataset": True}):
        with pytest.raises(ConfigError, match="^command line: "):
            load_config("MMM4Rec", "toy", [mine], overrides=values)
        with pytest.raises(ConfigError, match="^point 3: "):
            load_config("MMM4Rec", "toy", [mine], values, dict_name="point 3")


def test_an_entry_is_named_where_its_own_setting_is_wrong(tmp_path):
    mine = write(tmp_path / "mine.yaml", epochs=1)
    (entry,) = parse_entries(f"MMM4Rec@{mine}+hidden_size=no")

    with pytest.raises(
        ConfigError, match=r"^--models: entry MMM4Rec\+hidden_size=no \(mine\): 'hid"
    ):
        config_of(entry, "toy", {}, {})
