"""Identity of a run: a hash of everything it depends on, so that no finished run is repeated."""

import glob
import json
import sys
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from recbole_mm.config.checks import FILES
from recbole_mm.config.errors import ConfigError
from recbole_mm.config.models import source_of
from recbole_mm.config.plain import config_to_plain
from recbole_mm.data.domains import (
    domain_folder,
    domains_of,
    excluded_parts,
)
from recbole_mm.tools.hashing import sha256_of_file, sha256_of_parts, sha256_of_tree
from recbole_mm.transfer.bundle import hashed_file, what_is_missing

WITHOUT_EFFECT = (
    "checkpoint_dir", "config_files", "data_cache", "gpu_id", "log_wandb", "pre_model_path", "show_progress",
    "state", "tracker", "use_gpu", "wandb_project", "worker",
)  # fmt: skip
"""Keys that determine where and how a run is made, not what it computes."""

PLACES = ("data_path", "feature_path")
"""Keys that name the location of data; :func:`data_hashes` identifies their content."""

FEATURES = (".npz",)


def digest(config, without=(), **more) -> str:
    """Hash of a configuration, the checkpoint that it starts from, the module of a user's model and
    this package's version.

    Args:
        config: complete configuration.
        without: further keys that do not count.
        more: other values that the run depends on, JSON-serializable.

    Raises:
        ConfigError: the checkpoint does not exist, or is a folder but not a bundle.
    """
    left_out = {*WITHOUT_EFFECT, *without}
    values = {key: value for key, value in config_to_plain(config).items() if key not in left_out}
    text = json.dumps([values, more, package_version("recbole_mm")], sort_keys=True)
    source = _own_model(config["model"])
    if config["pre_model_path"]:
        start = str(config["pre_model_path"])
        if missing := what_is_missing(start):
            raise ConfigError(f"pre_model_path: the checkpoint {start!r} {missing}")
        source.append(sha256_of_file(hashed_file(start)))
    return sha256_of_parts([text, *source])


def _own_model(model: str) -> list[str]:
    """Module, class and code hash of a model from outside this package and RecBole."""
    own = source_of(model)
    if own is None or own.module.partition(".")[0] == __name__.partition(".")[0]:
        return []
    file = getattr(sys.modules.get(own.module), "__file__", None)
    return [own.module, own.name, sha256_of_file(file) if file else ""]


def data_hashes(config) -> dict[str, str]:
    """SHA-256 of the atomic files and the feature files of a data set, by file name; for a mixture,
    also of its domains' files; and of the interactions of data sets whose users are excluded."""
    name, folder = config["dataset"], Path(config["data_path"])
    features = Path(config["feature_path"] or folder)
    tables = tuple(f".{suffix}" for suffix in (*FILES, *(config["additional_feat_suffix"] or ())))
    places = [(folder, name, tables), (features, name, FEATURES)]
    for domain in domains_of(config):
        places.append((domain_folder(config, domain), domain, tables + FEATURES))
    for part in excluded_parts(config):
        places.append((domain_folder(config, part), part, (".inter",)))
    used = [
        file
        for folder, stem, suffixes in places
        for file in folder.glob(f"{glob.escape(stem)}.*")
        if file.is_file() and file.suffix in suffixes
    ]
    return {file.name: sha256_of_file(file) for file in sorted(used, key=lambda file: file.name)}


def package_version(name: str) -> str:
    """Version of an installed package."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed as a package"


@lru_cache
def source_hash() -> str:
    """SHA-256 of this package's code.

    It is not part of :func:`digest`, so that a corrected comment does not repeat runs. A report
    shows which run was made with which code.
    """
    return sha256_of_tree(Path(__file__).parents[1], "*.py")
