"""JSON files: one reader, whatever is in them."""

from typing import Any

import pytest

from recbole_mm.tools.json_files import JsonError, fits, read_json


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"a": 1', "not JSON"),
        (b"", "not JSON"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a":\n "\xff"}', "not in UTF-8, line 2"),
        (b"9" * 5000, "not JSON"),
    ],
)
def test_a_damaged_file_is_one_error_that_names_it(tmp_path, content, reason):
    path = tmp_path / "record.json"
    path.write_bytes(content)

    with pytest.raises(JsonError, match=reason) as error:
        read_json(path)

    assert str(path) in str(error.value)


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path):
    path = tmp_path / "record.json"
    path.write_text('{"a": 1}', encoding="utf-8-sig")
    assert read_json(path) == {"a": 1}


def test_a_file_over_the_limit_is_not_read(tmp_path):
    path = tmp_path / "record.json"
    path.write_text('{"a": 1}')
    with pytest.raises(JsonError, match="larger than 5 bytes"):
        read_json(path, most_bytes=5)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (1, int), (1, float), (1.5, float), ("a", str), (True, bool), (None, str | None),
        ([], list[int]), ({"a": {"b": 1}}, dict[str, dict[str, Any]]), ({"a": 1}, dict[str, float]),
    ],
)  # fmt: skip
def test_values_of_a_kind(value, kind):
    assert fits(value, kind)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (True, int), (1.0, int), ("1", float), (10**400, float), (2**63, int),
        (None, str), ([1, "a"], list[int]), ({"a": 1}, dict[str, dict[str, Any]]), ([], dict[str, int]),
    ],
)  # fmt: skip
def test_values_of_another_kind(value, kind):
    assert not fits(value, kind)
