"""Damage to files: of their bytes, and of what their format holds."""

import copy
import io
import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import torch
import yaml

VALUES = [
    None, True, False, 0, 1, -1, 2**31, 10**9, 10**400, 1e308, float("nan"), float("inf"), "", "x",
    "../../x", "/etc/hostname", "__import__('os')", "\0", "\ud7ff", "1e3", "2024-13-45", 3.5, [], {},
    [1], ["text"], [[1, 2]], {"a": 1}, {"a": {"b": [1]}},
]  # fmt: skip
"""What stands where another value was expected."""

NEW_KEYS = ["unheard_of", "teacher", "data_path", "n_layers", "modalities", "", "a b"]
HOSTILE_CELLS = [
    "", " ", "nan", "inf", "-1", "1e999", "9" * 400, '"', '"a', "a\0b", "[", "é", "NA", "x" * 5000,
    "../../x", "2024-13-45", "0x10", "\u2028", "١٢", "[1, 2", "{}",
]  # fmt: skip
TYPES = [
    "float16",
    "float32",
    "float64",
    "int8",
    "int64",
    "uint64",
    "complex64",
    "bool",
    "U3",
    "S4",
]


def changed_value(value, rng: random.Random):
    """Plain data, tensors and arrays with something changed, removed, renamed, or added."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        return _changed_dict(value, rng)
    if isinstance(value, (list, tuple)) and value and rng.random() < 0.7:
        place = rng.randrange(len(value))
        parts = [*value[:place], changed_value(value[place], rng), *value[place + 1 :]]
        parts = rng.choice([parts, parts, parts[:-1], parts * 2])
        return tuple(parts) if type(value) is tuple else parts
    if isinstance(value, torch.Tensor) and rng.random() < 0.8:
        return torch.from_numpy(changed_array(value.numpy(), rng, "U"))
    if isinstance(value, np.ndarray) and rng.random() < 0.9:
        return changed_array(value, rng)
    return copy.deepcopy(rng.choice(VALUES))


def _changed_dict(value: dict, rng: random.Random) -> dict:
    value, key = dict(value), rng.choice(list(value))
    chance = rng.random()
    if chance < 0.12:
        del value[key]
    elif chance < 0.22:
        value[rng.choice(NEW_KEYS)] = copy.deepcopy(rng.choice(VALUES))
    elif chance < 0.3:
        value[rng.choice([*value, *NEW_KEYS])] = value.pop(key)
    else:
        value[key] = changed_value(value[key], rng)
    return value


def changed_array(array: np.ndarray, rng: random.Random, without: str = "") -> np.ndarray:
    """An array of another type, shape or length, or with a value that is not a number."""
    change = rng.choice(["type", "shape", "cut", "double", "value", "axis"])
    types = [name for name in TYPES if name[0] not in without and name[0] not in without.lower()]
    if without:
        types = [name for name in types if name not in ("uint64", "S4")]
    try:
        if change == "type":
            return array.astype(rng.choice(types))
        if change == "shape":
            return array.reshape(-1)
        if change == "axis":
            return array[None]
        if change == "cut":
            return array[: len(array) // 2]
        if change == "double":
            return np.concatenate([array, array])
        array = array.copy()
        array.reshape(-1)[rng.randrange(array.size)] = rng.choice([np.nan, np.inf, -1, 1e30])
    except (ValueError, TypeError, OverflowError, IndexError):
        return np.zeros(0, np.float32)
    return array


def changed_bytes(content: bytes, rng: random.Random) -> bytes:
    """One to four damages of what a disk, a transfer or an editor may do."""
    content = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 4])):
        if not content:
            break
        place = rng.randrange(min(rng.choice([64, 1000, len(content)]), len(content)))
        rng.choice(BYTE_CHANGES)(content, place, rng)
    return bytes(content)


def _flip(content: bytearray, place: int, rng: random.Random) -> None:
    content[place] ^= 1 << rng.randrange(8)


def _set(content: bytearray, place: int, rng: random.Random) -> None:
    content[place] = rng.choice([0, 0xFF, 0x7F, 0x0A, 0x22, rng.randrange(256)])


def _cut(content: bytearray, place: int, _: random.Random) -> None:
    del content[place:]


def _insert(content: bytearray, place: int, rng: random.Random) -> None:
    new = [rng.randbytes(rng.randrange(1, 9)), b"\n", b"\xff\xfe", b"\0" * 8, b"9" * 400]
    content[place:place] = rng.choice(new)


def _delete(content: bytearray, place: int, rng: random.Random) -> None:
    del content[place : place + rng.randrange(1, 50)]


def _repeat(content: bytearray, place: int, rng: random.Random) -> None:
    content[place:place] = content[place : place + rng.randrange(1, 200)]


def _fill(content: bytearray, place: int, rng: random.Random) -> None:
    end = min(len(content), place + rng.choice([4, 8, 64]))
    content[place:end] = bytes([rng.choice([0, 0xFF])]) * (end - place)


BYTE_CHANGES = [_flip, _flip, _set, _set, _cut, _insert, _delete, _repeat, _fill]


def changed_json(content: bytes, rng: random.Random) -> bytes:
    """A value, a key or the nesting of a JSON document, or of a line of several."""
    text = content.decode()
    lines = text.splitlines()
    if _is_json(text):
        return _changed_document(text, rng).encode("utf-8", "surrogatepass")
    place = rng.choice([place for place, line in enumerate(lines) if _is_json(line)])
    lines[place] = _changed_document(lines[place], rng)
    return ("\n".join(lines) + "\n").encode("utf-8", "surrogatepass")


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _changed_document(text: str, rng: random.Random) -> str:
    if rng.random() < 0.06:
        depth = rng.choice([60, 5000, 200_000])
        return rng.choice(["[" * depth, "[" * depth + "]" * depth, '{"a":' * depth])
    changed = json.dumps(changed_value(json.loads(text), rng), ensure_ascii=rng.random() < 0.5)
    if rng.random() < 0.1 and changed.startswith("{") and len(changed) > 2:
        return changed[:-1] + ", " + changed[1:]  # every key twice
    return changed


def changed_yaml(content: bytes, rng: random.Random) -> bytes:
    """A value, a key or the nesting of a yaml document, or a bomb of aliases."""
    chance = rng.random()
    if chance < 0.04:
        return b"[" * rng.choice([60, 5000])
    if chance < 0.08:
        levels = [f"k{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
        return "\n".join(["k0: &a0 [1, 2]", *levels]).encode()
    if chance < 0.12:
        return content + b"\nx: !!python/object/apply:os.getcwd []\n"
    if chance < 0.2:
        lines = content.splitlines(keepends=True)
        lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines))
        return b"".join(lines)
    text = yaml.safe_dump(changed_value(yaml.safe_load(content), rng), allow_unicode=True)
    return text.encode("utf-8", "surrogatepass")


def changed_table(content: bytes, rng: random.Random) -> bytes:
    """A cell, a row or the header of a separated text."""
    lines = content.decode().split("\n")
    separator = "\t" if "\t" in lines[0] else ","
    row = rng.randrange(rng.choice([1, len(lines)]))
    cells = lines[row].split(separator)
    place = rng.randrange(len(cells))
    change = rng.choice(["cell", "cell", "swap", "drop", "add", "repeat", "row", "shuffle"])
    if change == "cell":
        cells[place] = rng.choice(HOSTILE_CELLS)
    elif change == "swap":
        other = rng.randrange(len(cells))
        cells[place], cells[other] = cells[other], cells[place]
    elif change == "drop":
        del cells[place]
    elif change == "add":
        cells.insert(place, rng.choice(HOSTILE_CELLS))
    elif change == "repeat":
        cells[place] = rng.choice(cells)
    lines[row] = separator.join(cells)
    if change == "row":
        lines.insert(row, rng.choice(lines))
    elif change == "shuffle":
        rng.shuffle(lines)
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def changed_parquet(content: bytes, rng: random.Random) -> bytes:
    """Another type, name or content of a column."""
    table = pl.read_parquet(io.BytesIO(content))
    name = rng.choice(table.columns)
    column = pl.col(name)
    changes: list[Callable[[], pl.DataFrame]] = [
        lambda: table.drop(name),
        lambda: table.rename({name: rng.choice(["x", "", "user ", "Item"])}),
        lambda: table.with_columns(column.cast(pl.String, strict=False).cast(pl.Binary)),
        lambda: table.with_columns(column.cast(pl.Float32, strict=False)),
        lambda: table.with_columns(pl.lit(None).alias(name)),
        lambda: table.with_columns(pl.struct(column, pl.lit(1).alias("b")).alias(name)),
        lambda: table.with_columns(pl.concat_list(column, column).alias(name)),
        lambda: table.with_columns(pl.lit(rng.choice([1e308, float("nan"), -1])).alias(name)),
        lambda: table.clear(),
        lambda: pl.concat([table, table]),
    ]
    buffer = io.BytesIO()
    try:
        rng.choice(changes)().write_parquet(buffer)
    except pl.exceptions.PolarsError:
        return content[: len(content) // 2]
    return buffer.getvalue()


def changed_npz(content: bytes, rng: random.Random) -> bytes:
    """An array of another type, shape, name or content; Python objects; a packed archive."""
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    name = rng.choice(list(arrays))
    chance = rng.random()
    if chance < 0.1:
        del arrays[name]
    elif chance < 0.2:
        arrays[name] = np.array([{"a": 1}], dtype=object)
    elif chance < 0.3:
        arrays["info"] = np.array(rng.choice(["{", "[]", "1", '{"a": 1}', "[" * 100_000]))
    else:
        arrays[name] = changed_array(arrays[name], rng)
    buffer = io.BytesIO()
    (np.savez_compressed if rng.random() < 0.2 else np.savez)(buffer, **arrays)
    return buffer.getvalue()


def changed_npy(content: bytes, rng: random.Random) -> bytes:
    """Another type, shape or content of the array."""
    buffer = io.BytesIO()
    np.save(buffer, changed_array(np.load(io.BytesIO(content), allow_pickle=False), rng))
    return buffer.getvalue()


def changed_torch(content: bytes, rng: random.Random) -> bytes:
    """Other content in a file of torch."""
    value = torch.load(io.BytesIO(content), weights_only=False)
    for _ in range(rng.choice([1, 1, 3])):
        value = changed_value(value, rng)
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


BY_FORMAT: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "json": changed_json, "npy": changed_npy, "npz": changed_npz, "parquet": changed_parquet,
    "table": changed_table, "torch": changed_torch, "yaml": changed_yaml,
}  # fmt: skip


def mutated(content: bytes, form: str, rng: random.Random) -> bytes:
    """A damaged copy: its bytes alone, or what its format holds.

    Args:
        content: of a valid file.
        form: a key of :data:`BY_FORMAT`, or ``bytes``.
        rng: decides.
    """
    if form in BY_FORMAT and rng.random() < 0.65:
        return BY_FORMAT[form](content, rng)
    return changed_bytes(content, rng)


def mutate_file(path: Path, form: str, rng: random.Random) -> None:
    """Replace a file by a damaged one."""
    path.write_bytes(mutated(path.read_bytes(), form, rng))
