"""Mutated bundles whose manifest fits them: an answer or our own error, never another one."""

import json
import random
import shutil

import pytest
from small_models import SMALL

from recbole_mm.recommend.recommender import Recommender
from recbole_mm.tools.errors import UserError
from recbole_mm.tools.hashing import sha256_of_file

HISTORIES = {"user": ["a", "b"], "items": [["i1", "i2"], ["i7"]]}
VALUES = [
    None, True, 0, 1, -1, 2**31, 10**9, 1e308, float("nan"), float("inf"), "", "x", "../../x",
    "__import__('os')", [], {}, [1], ["text"], {"a": 1}, "1e3", 3.5,
]  # fmt: skip
NEW_KEYS = ["unheard_of", "teacher", "data_path", "n_layers", "modalities"]
FILES = ["config.json"] * 4 + ["items.json", "model.safetensors", "items.safetensors"] * 2
MUTATIONS = 40


def mutated(value, rng: random.Random):
    """JSON with a value changed, removed or added somewhere."""
    if isinstance(value, dict) and value and rng.random() < 0.8:
        value, key = dict(value), rng.choice(list(value))
        chance = rng.random()
        if chance < 0.15:
            del value[key]
        elif chance < 0.25:
            value[rng.choice(NEW_KEYS)] = rng.choice(VALUES)
        else:
            value[key] = mutated(value[key], rng)
        return value
    if isinstance(value, list) and value and rng.random() < 0.6:
        place = rng.randrange(len(value))
        return [*value[:place], mutated(value[place], rng), *value[place + 1 :]]
    return rng.choice(VALUES)


def with_changed_bytes(content: bytes, rng: random.Random) -> bytes:
    content = bytearray(content)
    place = rng.randrange(min(rng.choice([64, 1000, len(content)]), len(content)))
    change = rng.choice(["set", "cut", "insert", "delete"])
    if change == "set":
        content[place] = rng.randrange(256)
    elif change == "cut":
        del content[place:]
    elif change == "insert":
        content[place:place] = rng.randbytes(rng.randrange(1, 9))
    else:
        del content[place : place + rng.randrange(1, 50)]
    return bytes(content)


def mutate(folder, rng: random.Random) -> None:
    """Change one file, and the manifest so that it fits."""
    file = folder / rng.choice(FILES)
    if file.suffix == ".json" and rng.random() < 0.85:
        file.write_text(json.dumps(mutated(json.loads(file.read_text()), rng)))
    else:
        file.write_bytes(with_changed_bytes(file.read_bytes(), rng))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][file.name] = {"bytes": file.stat().st_size, "sha256": sha256_of_file(file)}
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("name", [name for name in SMALL if name != "UniSRec-repeats"])
def test_a_mutated_bundle_gives_an_answer_or_our_own_error(name, trained, tmp_path):
    recommender = Recommender.from_pretrained(trained(name).result.checkpoint)
    recommender.evaluate()
    recommender.save_pretrained(tmp_path / "bundle")
    rng = random.Random(name)
    refused = 0

    for number in range(MUTATIONS):
        folder = tmp_path / f"mutation-{number}"
        shutil.copytree(tmp_path / "bundle", folder)
        mutate(folder, rng)
        try:
            opened = Recommender.from_pretrained(folder)
            opened.recommend(HISTORIES, k=3)
            opened.save_pretrained(folder / "again")
        except UserError as error:
            assert "\n" not in str(error)
            refused += 1

    assert MUTATIONS / 2 < refused < MUTATIONS
