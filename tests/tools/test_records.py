import random
from contextlib import suppress

import pytest

from recbole_mm.tools.errors import UserError
from recbole_mm.tools.records import read_record, write_record

VALUES = {"score": 0.1, "text": "\u00e9", "none": None, "list": [1, [2.5]], "nan": float("inf")}


def test_a_record_is_read_back_without_its_seal(tmp_path):
    write_record(tmp_path / "a.json", {**VALUES, "tuple": (1, 2), "of": {3: True}})

    assert read_record(tmp_path / "a.json") == {**VALUES, "tuple": [1, 2], "of": {"3": True}}
    assert read_record(tmp_path / "b.json") is None


@pytest.mark.parametrize(
    "text",
    ["", "3", "[]", "null", '{"a": 1', "[" * 99999, '{"a":1}', '{"a":1,"sha256":""}'],
)
def test_damage_is_an_error_that_names_the_file(tmp_path, text):
    (tmp_path / "a.json").write_text(text)

    with pytest.raises(UserError, match=r"a\.json: damaged \(.*\). Delete it to run again"):
        read_record(tmp_path / "a.json")


def test_a_record_that_has_changed_in_any_way_is_not_read(tmp_path):
    path = tmp_path / "a.json"
    write_record(path, VALUES)
    whole, rng = path.read_bytes(), random.Random(2)
    for _ in range(500):
        content = bytearray(whole)
        content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(content[: rng.choice([len(content), rng.randrange(len(content))])])
        with suppress(UserError):
            assert read_record(path) == VALUES
