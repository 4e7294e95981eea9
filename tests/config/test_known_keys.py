import subprocess
import sys

import pytest
import yaml

from recbole_mm.config.keys import keys_of_other_models, known_keys
from recbole_mm.config.models import MODELS, recbole_models
from recbole_mm.config.property_files import RECBOLE_DIR, properties_dir


def test_every_key_of_our_property_files_is_known():
    for path in properties_dir().glob("*/*.yaml"):
        assert set(yaml.safe_load(path.read_text()) or {}) <= known_keys(), path


@pytest.mark.parametrize("model", [*MODELS, *recbole_models("sequential")])
def test_a_model_reads_the_keys_of_its_own_file(model):
    roots = (RECBOLE_DIR / "properties", properties_dir())
    files = [path for root in roots if (path := root / f"model/{model}.yaml").is_file()]
    own = {key for path in files for key in yaml.safe_load(path.read_text()) or ()}
    assert keys_of_other_models(model, {*own, "epochs", "freeze"}) == []


@pytest.mark.parametrize("model", ["SASRec", "GRU4Rec", "MMM4Rec"])
def test_most_models_read_the_type_of_the_loss(model):
    assert keys_of_other_models(model, ["loss_type"]) == []


@pytest.mark.parametrize("model", ["DIEN", "TransRec"])
def test_a_model_with_one_loss_does_not_read_its_type(model):
    assert keys_of_other_models(model, ["loss_type"]) == ["loss_type"]


def test_which_keys_there_are_is_known_without_recbole():
    program = (
        "import sys\n"
        "from recbole_mm.config.checks import forms_for\n"
        "from recbole_mm.config.keys import keys_read_by_recbole, known_keys\n"
        "assert 'epochs' in known_keys() and 'd_state' in known_keys()\n"
        "assert 'verbose' in keys_read_by_recbole() and 'epochs' in forms_for('MMM4Rec')\n"
        "assert not {'recbole', 'torch', 'numpy'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
