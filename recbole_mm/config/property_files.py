"""The yaml files of the package, of RecBole and of the user: their locations and contents."""

import re
from collections.abc import Iterable
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from recbole_mm.config.errors import ConfigError
from recbole_mm.config.forms import FormError, fault, form_of_default, parse_form
from recbole_mm.config.kinds import Form
from recbole_mm.config.own_models import own_models
from recbole_mm.tools.names import nearest
from recbole_mm.tools.recbole_version import missing_recbole
from recbole_mm.tools.yaml_files import read_yaml, read_yaml_text


def _folder_of_recbole() -> Path:
    found = find_spec("recbole")
    if found is None or found.origin is None:
        raise missing_recbole()
    return Path(found.origin).parent


RECBOLE_DIR = _folder_of_recbole()
"""Folder of the installed RecBole package, which is not imported to find it."""

RECBOLE_KEYS = "recbole_keys.yaml"
"""Our file of forms for RecBole's keys; it contains no values."""

MULTI_MODAL = "multi_modal.yaml"
"""Our file of the keys that every multi-modal model reads, including SASRecPlus and HSTU on IDs
alone."""

_LINE = re.compile(r"^(?P<indent> *)(?P<key>[\w-]+):(?:.*?\s# *\((?P<form>.*?)\)(?=\s|$))?")


PACKAGE_DIR = Path(__file__).resolve().parents[1]


def properties_dir() -> Path:
    """The folder of our yaml files: inside the installed package, or next to it in a checkout."""
    installed = PACKAGE_DIR / "properties"
    return installed if installed.is_dir() else PACKAGE_DIR.parent / "properties"


def recbole_property_files(model: str) -> list[Path]:
    """RecBole's existing yaml files for a model, in the order in which they apply."""
    root = RECBOLE_DIR / "properties"
    names = ("overall.yaml", f"model/{model}.yaml", "dataset/sample.yaml")
    return [root / name for name in names if (root / name).is_file()]


def property_files(model: str, dataset: str | None = None, released: bool = False) -> list[Path]:
    """Our existing yaml files for a model on a data set, in the order in which they apply.

    Args:
        model: its name; the file of a user's model is next to its module.
        dataset: its name.
        released: whether the values of the model's first release are included.
    """
    root = properties_dir()
    files = [root / "overall.yaml", *model_files(model)]
    if released:
        files.append(root / "released" / f"{model}.yaml")
    files.append(root / "dataset" / f"{dataset}.yaml")
    return [file for file in files if file.is_file()]


def model_files(model: str) -> list[Path]:
    """The yaml files of a model outside RecBole: the file of all multi-modal models, then its own,
    which for a user's model is next to its module. A baseline, which is not multi-modal, only has
    its own. Empty for RecBole's models."""
    root, own = properties_dir(), own_models().get(model)
    baseline = root / "baseline" / f"{model}.yaml"
    if baseline.is_file():
        return [baseline]
    file = own.file(".yaml") if own else root / "model" / f"{model}.yaml"
    its_own = [file] if file and file.is_file() else []
    return [root / MULTI_MODAL, *its_own] if own or its_own else []


def users_dataset_files(dataset: str, data_path) -> list[Path]:
    """The user's existing yaml files for a data set, in the order in which they apply:
    ``properties/dataset/`` in the working directory, then next to the data."""
    name = f"{dataset}.yaml"
    files = (Path("properties", "dataset", name), Path(data_path, dataset, name))
    shipped = (properties_dir() / "dataset").resolve()
    return [file for file in files if file.is_file() and file.resolve().parent != shipped]


def release_values(model: str) -> dict:
    """The values that ``released: True`` sets for a model; empty if it has no first release."""
    path = properties_dir() / "released" / f"{model}.yaml"
    return dict(values_in(path)) if path.is_file() else {}


def find_config_file(name) -> Path:
    """The file of the user or of this package that an option or a program names.

    Args:
        name: a path, or that of a file under ``properties/`` with or without this folder's name.

    Raises:
        ConfigError: there is no such file; the message names a similar file of this package.
    """
    path = Path(name)
    if path.exists() or path.is_absolute():
        return path
    inside = Path(*path.parts[1:]) if path.parts[:1] == ("properties",) else path
    root = properties_dir()
    if ".." not in inside.parts and (root / inside).is_file():
        return root / inside
    parts = str(name).split()
    if len(parts) > 1 and all(Path(part).exists() for part in parts):
        raise ConfigError(
            f"config file {str(name)!r} does not exist. Give several files by several options: "
            f"{' '.join(f'--config_files={part}' for part in parts)}"
        )
    shipped = [file.relative_to(root).as_posix() for file in root.rglob("*.yaml")]
    near = nearest(inside.as_posix(), shipped, cutoff=0.75)
    hint = f"; did you mean {near[0]!r} in this package?" if near else ""
    raise ConfigError(f"config file {str(name)!r} does not exist{hint}")


def read_layers(config_files=(), config_dict: dict | None = None) -> dict:
    """The values of the files and of the dict, unchanged; later ones win."""
    return joined(
        [*(read_yaml(find_config_file(path)) for path in config_files), config_dict or {}]
    )


def joined(mappings: Iterable[dict]) -> dict:
    """All mappings as one, later ones win."""
    return {key: value for mapping in mappings for key, value in mapping.items()}


def keys_in(path: Path) -> set[str]:
    """The keys of a property file."""
    return set(re.findall(r"^([\w-]+):", path.read_text(encoding="utf-8"), flags=re.MULTILINE))


def forms_in(path: Path) -> dict[str, Form]:
    """The form of each key of a property file, see :mod:`recbole_mm.config.forms`.

    A comment that is not a form, or that contradicts the default, is ignored.
    """
    return _forms_in(path, path.stat().st_mtime_ns)


def values_in(path: Path) -> dict:
    """The values of a property file."""
    return _values_in(path, path.stat().st_mtime_ns)


@lru_cache
def _forms_in(path: Path, _modified: int) -> dict[str, Form]:
    texts: dict[str, str | None] = {}
    fields: dict[str, dict[str, Form]] = {}
    key = None
    for line in read_yaml_text(path).splitlines():
        found = _LINE.match(line)
        if found and not found["indent"]:
            key = found["key"]
            texts[key] = found["form"]
        elif found and found["form"] and key:
            fields.setdefault(key, {})[found["key"]] = _form(found["form"])
    defaults = {} if path.name == RECBOLE_KEYS else read_yaml(path)
    return {key: _form(text, fields.get(key), defaults.get(key)) for key, text in texts.items()}


def _form(text: str | None, fields: dict[str, Form] | None = None, default=None) -> Form:
    try:
        form = parse_form(text or "", fields)
    except FormError:
        return form_of_default(default)
    fits = default is None or fault(form, default) is None
    return form if fits else form_of_default(default)


@lru_cache
def _values_in(path: Path, _modified: int) -> dict:
    return read_yaml(path)
