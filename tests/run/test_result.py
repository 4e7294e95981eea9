import dataclasses

import pytest

from recbole_mm.run.result import Result
from recbole_mm.tools.errors import UserError

VALUES = dict.fromkeys(field.name for field in dataclasses.fields(Result))
RESULT = Result(**VALUES | {"model": "MMM4Rec", "history": [{"epoch": 0, "valid_score": 0.1}]})


def test_a_result_that_is_saved_is_read_back_equal(tmp_path):
    RESULT.save(tmp_path / "result.json")

    assert Result.load(tmp_path / "result.json") == RESULT


def test_a_result_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RESULT.model = "MISSRec"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"model": "MMM4Rec"}', '{"a": 1}', "3"])
def test_a_damaged_result_is_an_error_that_names_the_file(tmp_path, text):
    path = tmp_path / "result.json"
    path.write_text(text)

    with pytest.raises(UserError, match="result.json"):
        Result.load(path)
