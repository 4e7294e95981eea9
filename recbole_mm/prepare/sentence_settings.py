"""The configuration of a sentence-transformers model, checked before the library reads it.

It may come from a stranger. The library imports the classes that it names and hands its settings to
the loaders of transformers, so only known classes, and settings that select neither files nor code,
are accepted.
"""

import re
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

from recbole_mm.prepare.encoder_files import MODULES, EncoderFiles
from recbole_mm.prepare.inputs import InputError
from recbole_mm.tools.json_files import fits

KNOWN_MODULES = (
    "CLIPModel",
    "Dense",
    "Dropout",
    "LayerNorm",
    "Normalize",
    "Pooling",
    "StaticEmbedding",
    "Transformer",
    "WeightedLayerPooling",
)
TYPE = re.compile(r"sentence_transformers(\.[a-z_]+)+\.(?P<name>[A-Za-z]+)")
SETTINGS = "config_sentence_transformers.json"
KINDS = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
FOR_LOADERS = {
    f"{part}_{ending}"
    for part in ("model", "tokenizer", "processor", "config")
    for ending in ("args", "kwargs")
}
HARMLESS = {
    "add_eos_token", "add_pooling_layer", "attn_implementation", "do_lower_case", "dtype", "is_causal",
    "max_pixels", "min_pixels", "model_max_length", "output_hidden_states", "padding_side", "torch_dtype",
    "truncation_side", "use_bidirectional_attention", "use_fast",
}  # fmt: skip
WORD = re.compile(r"[\w.-]*")
POOLING_KEY = re.compile(r"(word_)?embedding_dimension|include_prompt|pooling_mode\w*")
METHOD = re.compile(r"forward|get_\w+")
DOCUMENT_PROMPTS = ("document", "passage", "corpus")
"""Names of a prompt for documents to be searched, such as items; the first non-empty one counts."""


class SentenceSettings(NamedTuple):
    """What a model's author has set.

    Attributes:
        prompts: prompts by name.
        default_prompt: name of the prompt for every text, or ``None``.
    """

    prompts: dict[str, str]
    default_prompt: str | None

    def prompt_for_items(self) -> str:
        """The prompt for documents if the author names any, else the default prompt, else none."""
        named = [self.prompts[name] for name in DOCUMENT_PROMPTS if name in self.prompts]
        if named:
            return next(filter(None, named), "")
        return self.prompts[self.default_prompt] if self.default_prompt else ""


def read_sentence_settings(files: EncoderFiles) -> SentenceSettings | None:
    """The settings of a model, ``None`` if it carries no configuration of sentence-transformers.

    Raises:
        InputError: a file is damaged; the model does not give single vectors; it names code or
            files of its own.
    """
    modules = files.read_json(MODULES)
    if modules is None:
        return None
    try:
        _check_modules(files, modules)
        return _read_settings(files.read_json(SETTINGS))
    except InputError:
        raise
    except ValueError as error:
        raise InputError(
            f"encoder '{files.name}': its sentence-transformers configuration cannot be used: {error}"
        ) from error


def _check_modules(files: EncoderFiles, modules: Any) -> None:
    if not fits(modules, list[dict[str, Any]]) or not modules:
        raise ValueError(f"{MODULES} is not a list of modules")
    for module in modules:
        kind, folder = str(module.get("type")), str(module.get("path", ""))
        match = TYPE.fullmatch(kind)
        if match is None or match["name"] not in KNOWN_MODULES:
            raise ValueError(
                f"{MODULES} names {kind!r}, which is not among the modules that are loaded here "
                f"({', '.join(KNOWN_MODULES)}); no code of a model is executed"
            )
        if not _is_inside(folder):
            raise ValueError(f"{MODULES} names the folder {folder!r} outside the model")
        if match["name"] in ("Transformer", "CLIPModel"):
            _check_loaders(files, folder)
        if match["name"] == "Pooling":
            _check_pooling(files, folder)


def _is_inside(folder: str) -> bool:
    parts = PureWindowsPath(folder).parts
    absolute = PurePosixPath(folder).is_absolute() or PureWindowsPath(folder).drive
    return not absolute and ".." not in parts


def _check_pooling(files: EncoderFiles, folder: str) -> None:
    path = str(PurePosixPath(folder, "config.json"))
    settings = files.read_json(path)
    if not fits(settings, dict[str, Any]):
        raise ValueError(f"{path} is not a JSON object")
    unknown = [key for key in settings if not POOLING_KEY.fullmatch(key)]
    if unknown:
        raise ValueError(f"{path}: {unknown[0]!r} is not a setting of Pooling")
    width = settings.get("embedding_dimension", settings.get("word_embedding_dimension"))
    if type(width) is not int or width < 1:
        raise ValueError(f"{path}: embedding_dimension: {width!r} is not a number >= 1")


def _check_loaders(files: EncoderFiles, folder: str) -> None:
    """Refuse settings of the transformer that could select an outside file, or code."""
    for kind in KINDS:
        path = str(PurePosixPath(folder, f"sentence_{kind}_config.json"))
        settings = files.read_json(path)
        if settings is None:
            continue
        if not fits(settings, dict[str, Any]):
            raise ValueError(f"{path} is not a JSON object")
        for key in ("tokenizer_name_or_path", "processor_name"):
            if settings.get(key):
                raise ValueError(f"{path}: {key}: names another model, which is not loaded")
        length = settings.get("max_seq_length")
        if length is not None and (type(length) is not int or length < 1):
            raise ValueError(f"{path}: max_seq_length: {length!r} is not a number >= 1")
        for key in FOR_LOADERS & settings.keys():
            _check_arguments(f"{path}: {key}", settings[key])
        _check_methods(path, settings.get("modality_config"))


def _check_arguments(where: str, arguments: Any) -> None:
    if not fits(arguments, dict[str, Any]):
        raise ValueError(f"{where} is not a JSON object")
    for key, value in arguments.items():
        plain = value is None or isinstance(value, (bool, int, float))
        if key not in HARMLESS or not (plain or (isinstance(value, str) and WORD.fullmatch(value))):
            raise ValueError(
                f"{where}: {key}: {value!r} is not among the settings that are known to be harmless"
            )


def _check_methods(path: str, modalities: Any) -> None:
    if modalities is None:
        return
    if not fits(modalities, dict[str, dict[str, Any]]):
        raise ValueError(f"{path}: modality_config is not a JSON object of objects")
    for modality in modalities.values():
        if not METHOD.fullmatch(str(modality.get("method"))):
            raise ValueError(f"{path}: modality_config: method: {modality.get('method')!r}")


def _read_settings(settings: Any) -> SentenceSettings:
    if settings is None:
        return SentenceSettings({}, None)
    if not fits(settings, dict[str, Any]):
        raise ValueError(f"{SETTINGS} is not a JSON object")
    kind = settings.get("model_type", "SentenceTransformer")
    if kind != "SentenceTransformer":
        raise ValueError(f"it is a {kind}, but features need one vector (a SentenceTransformer)")
    prompts, default = settings.get("prompts") or {}, settings.get("default_prompt_name")
    if not fits(prompts, dict[str, str | None]):
        raise ValueError(f"{SETTINGS}: prompts is not a JSON object of texts")
    if default is not None and not (isinstance(default, str) and default in prompts):
        raise ValueError(
            f"{SETTINGS}: default_prompt_name: {default!r} is not among the prompts {sorted(prompts)}"
        )
    return SentenceSettings({name: text or "" for name, text in prompts.items()}, default)
