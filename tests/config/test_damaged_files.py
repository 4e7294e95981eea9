"""Whatever is done to a yaml file: it is read and checked, or refused with a message."""

import random
from pathlib import Path

import pytest

from recbole_mm.config.checks import refuse_wrong_values
from recbole_mm.config.defaults import merge
from recbole_mm.config.keys import refuse_unknown_keys
from recbole_mm.config.property_files import forms_in, properties_dir
from recbole_mm.tools.errors import UserError
from recbole_mm.tools.yaml_files import read_yaml

PIECES = (
    b"&a ", b"*a", b"<<: *a\n", b"[", b"]", b"{", b"}", b"- ", b"? ", b": ", b"\t", b"|", b">", b"'",
    b'"', b"\xff", b"\x00", b"!!set ", b"!!binary ", b"%YAML 9\n", b"---\n", b"\n...\n", b"~",
    b"1e999", b".nan", b"0x", b"1:2:3", b"2024-13-45", b"9" * 5000, b"# (int, >= 1)", b"# (dict)",
)  # fmt: skip
FILES = sorted(properties_dir().rglob("*.yaml"))


def damaged(content: bytes, rng: random.Random) -> bytes:
    for _ in range(rng.randint(1, 6)):
        at = rng.randint(0, len(content))
        cut = at + rng.choice([0, 0, rng.randint(1, 40)])
        piece = rng.choice([*PIECES, bytes([rng.randrange(256)])])
        content = content[:at] + piece + content[cut:]
    return content


@pytest.mark.parametrize("seed", range(10))
def test_a_damaged_file_is_read_and_checked_or_refused(seed):
    rng = random.Random(seed)
    for _ in range(30):
        path = Path("damaged.yaml")
        path.write_bytes(damaged(rng.choice(FILES).read_bytes()[:3000], rng))
        try:
            values = read_yaml(path)
            refuse_unknown_keys(values, str(path))
            refuse_wrong_values(values, str(path), "MMM4Rec")
        except UserError as error:
            assert str(error).count("\n") == 0
        else:
            assert merge([values, values], "MMM4Rec") == values
            assert all(form.words for form in forms_in(path).values())
