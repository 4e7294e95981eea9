"""Keys of a configuration: which there are, and who reads them."""

import re
import runpy
from functools import cache
from pathlib import Path

from recbole_mm.config.errors import ConfigError
from recbole_mm.config.models import RECBOLE_DIR
from recbole_mm.config.property_files import properties_dir, read_yaml
from recbole_mm.tools.names import nearest

SET_BY_RECBOLE = (
    "MODEL_TYPE", "MODEL_INPUT_TYPE", "eval_type", "device", "single_spec", "local_rank",
    "valid_neg_sample_args", "test_neg_sample_args", "valid_metric_bigger",
)  # fmt: skip
"""What Config derives from the other keys and from the machine; no part of a plain config."""

PROCESS_KEYS = ("nproc", "world_size", "ip", "port", "offset", "group_offset", "local_rank")
"""RecBole's keys for a group of processes; ours are started by torchrun."""

SEARCH_SPACE_WORDS = ("choice", "uniform", "quniform", "loguniform")
"""HyperTuning reads these from its search space, not from a configuration."""


def refuse_unknown_keys(values: dict, source: str):
    """Raise when a key is known neither to RecBole nor to us.

    Raises:
        ConfigError: names the key, its source and the nearest known key.
    """
    for key in values:
        if key in PROCESS_KEYS:
            raise ConfigError(
                f"{key!r} in {source}: processes are started by torchrun; leave the key out"
            )
        if key in known_keys() or str(key).startswith("alias_of_"):
            continue
        if key in keys_read_by_recbole():
            continue
        near = nearest(str(key), known_keys() | keys_read_by_recbole(), n=3)
        hint = f"the keys and what they do are in {properties_dir()}"
        if near:
            hint = f"did you mean {' or '.join(map(repr, near))}?"
        raise ConfigError(f"unknown key {key!r} in {source}: {hint}")


def known_keys() -> set[str]:
    """Every key of RecBole's and of our property files and of RecBole's argument lists."""
    if not _known_keys:
        _known_keys.update(
            ("model", "dataset", "config_files", "stages"),
            *recbole_argument_lists(),
        )
        for path in sorted((RECBOLE_DIR / "properties").rglob("*.yaml")) + sorted(
            properties_dir().rglob("*.yaml")
        ):
            # RecBole's lists of downloads, by data set; and our lists of stages, which are checked
            if "url" not in path.name and path.parent.name != "transfer":
                _known_keys.update(read_yaml(path))
    return _known_keys


@cache
def recbole_argument_lists() -> list[list[str]]:
    """The keys in RecBole's ``utils/argument_list.py``, which imports nothing."""
    values = runpy.run_path(str(RECBOLE_DIR / "utils" / "argument_list.py"))
    return [keys for name, keys in values.items() if name.endswith("_arguments")]


def keys_read_by_recbole() -> set[str]:
    """Keys that stand in no property file although RecBole's code reads them."""
    if not _keys_read:
        _keys_read.update(*map(_keys_in, RECBOLE_DIR.rglob("*.py")))
        _keys_read.difference_update(SET_BY_RECBOLE, PROCESS_KEYS, SEARCH_SPACE_WORDS)
    return _keys_read


def keys_of_other_models(model: str, keys) -> list[str]:
    """Those of ``keys`` that other models read, but neither this one nor what all have in common.

    Args:
        model: of ours or RecBole's.
        keys: known ones.
    """
    roots = (RECBOLE_DIR / "properties", properties_dir())
    of_models = {key for root in roots for p in root.glob("model/*.yaml") for key in read_yaml(p)}
    candidates = of_models & set(keys)
    if not candidates:
        return []
    files = [root / name for root in roots for name in ("overall.yaml", f"model/{model}.yaml")]
    read = {key for path in files if path.is_file() for key in read_yaml(path)}
    read.update(*recbole_argument_lists())
    for path in RECBOLE_DIR.rglob("*.py"):
        if not path.parent.name.endswith("_recommender") or path.stem == model.lower():
            read |= _keys_in(path)
    return sorted(candidates - read)


@cache
def _keys_in(path: Path) -> set[str]:
    """Keys that a file of RecBole's code reads from its configuration."""
    pattern = r"""config(?:_dict)?(?:\[|\.get\(\s*)["'](\w+)["']"""
    return set(re.findall(pattern, path.read_text(encoding="utf-8")))


_known_keys: set[str] = set()

_keys_read: set[str] = set()
