"""The yaml files of the package and of the user: where they are and what they hold."""

import re
from pathlib import Path

import yaml

from recbole_mm.config.errors import ConfigError


def properties_dir() -> Path:
    """The folder of our yaml files: installed inside the package, in a checkout beside it."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "properties"
    return installed if installed.is_dir() else package.parent / "properties"


def property_files(model: str, dataset: str) -> list[Path]:
    """Our yaml files for a model on a data set that exist, in the order in which they apply."""
    root = properties_dir()
    names = ("overall.yaml", f"model/{model}.yaml", f"dataset/{dataset}.yaml")
    return [root / name for name in names if (root / name).is_file()]


def layer_property_files(config, model: str, dataset: str):
    """Put our property files over RecBole's defaults in ``config.internal_config_dict``."""
    for path in property_files(model, dataset):
        config._update_internal_config_dict(path)


def read_layers(config_files=(), config_dict: dict | None = None) -> dict:
    """The values of the files and of the dict, as they stand there; later ones win."""
    layers = [read_yaml(path) for path in config_files] + [config_dict or {}]
    return {key: value for values in layers for key, value in values.items()}


class YamlLoader(yaml.SafeLoader):
    """Plain values only; reads ``1e-3`` as a number, which YAML 1.1 takes for text."""


YamlLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def read_yaml(path) -> dict:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"config file {str(path)!r}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"config file {str(path)!r} is not in UTF-8: {error}") from None
    try:
        _refuse_repeated_keys(path, yaml.compose(text, Loader=YamlLoader))
        values = yaml.load(text, Loader=YamlLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"config file {str(path)!r} is no yaml: {error}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"config file {str(path)!r} holds no `key: value` lines")
    return values


def _refuse_repeated_keys(path, node: yaml.Node | None) -> None:
    """yaml keeps the last of two equal keys without a word."""
    if isinstance(node, yaml.MappingNode):
        lines = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in lines:
                raise ConfigError(
                    f"config file {str(path)!r} has the key {name!r} in line {lines[name]} and "
                    f"again in line {line}; keep one of them"
                )
            lines[name] = line
            _refuse_repeated_keys(path, value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_repeated_keys(path, value)
