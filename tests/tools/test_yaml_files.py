import os
import time

import pytest
import yaml

from recbole_mm.tools.yaml_files import MOST_BYTES, YamlFileError, load_yaml, read_yaml

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)


def test_yaml_is_read_as_plain_values():
    text = "a: 1e-3\nb: 2024-01-02\nc: [x, ~, True]\nd: &d {e: 1}\nf: {<<: *d, g: 2}\n"

    assert load_yaml(text) == {
        "a": 0.001,
        "b": "2024-01-02",
        "c": ["x", None, True],
        "d": {"e": 1},
        "f": {"e": 1, "g": 2},
    }
    assert load_yaml("# nothing yet\n") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "has no `key: value` lines"),
        ("a: [1\n", "cannot be read as yaml: line 2: expected"),
        ("a: b: c\n", "cannot be read as yaml: line 1: mapping values"),
        ("epochs: 1\nseed: 2\nepochs: 3\n", "key 'epochs' is in line 1 and again in line 3"),
        ("stages:\n  - {seed: 1, seed: 2}\n", "key 'seed' is in line 2 and again in line 2"),
        ("a: !!python/object/apply:os.system [ls]\n", "line 1: could not determine a constructor"),
        ("a: !!timestamp 2024-01-02\n", "line 1: could not determine a constructor"),
        ("? [1, 2]\n: 3\n", "line 1: found unhashable key"),
        (f"a: {'9' * 5000}\n", "5000 digits"),
        (f"a: {'[' * 10_000}\n", "line 1: more than 50 levels of nesting"),
        ("a: &a [*a]\n", "line 1: an alias of itself"),
        (BOMB, r"line 6: more than 100,000 values"),
        ("x" * (MOST_BYTES + 1), f"larger than {MOST_BYTES:,} bytes"),
    ],
)
def test_a_file_that_is_not_a_mapping_of_plain_values_is_refused_in_no_time(
    tmp_path, text, message
):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    started = time.process_time()

    with pytest.raises(YamlFileError, match=f"bad.yaml.*{message}"):
        read_yaml(path)

    assert time.process_time() - started < 2


def test_a_file_in_another_encoding_is_named_with_the_line(tmp_path):
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"# nothing\n# caf\xe9\n")

    with pytest.raises(YamlFileError, match="latin.yaml: not in UTF-8, line 2"):
        read_yaml(path)


def test_a_byte_order_mark_and_the_line_ends_of_windows_are_read(tmp_path):
    path = tmp_path / "windows.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")

    assert read_yaml(path) == {"a": 1, "b": 2}


@pytest.mark.parametrize("name", ["missing.yaml", "."])
def test_a_file_that_cannot_be_read_is_named(name):
    with pytest.raises(YamlFileError, match=f"{name}: "):
        read_yaml(name)


def test_an_alias_that_is_used_often_but_small_is_fine():
    values = load_yaml("a: &a [1, 2]\nb: [*a, *a]\n")

    assert values == {"a": [1, 2], "b": [[1, 2], [1, 2]]}
    assert yaml.safe_load(yaml.safe_dump(values)) == values


def test_no_name_of_a_file_runs_a_command(tmp_path):
    with pytest.raises(YamlFileError):
        read_yaml(f"{tmp_path}/$(touch made).yaml")
    assert os.listdir(tmp_path) == []
