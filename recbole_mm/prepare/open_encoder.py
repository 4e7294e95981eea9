"""Finding and loading the encoder that a name stands for."""

from importlib.util import find_spec

import torch

from recbole_mm.prepare.encoder_files import EncoderFiles, EncoderUnavailable, open_files
from recbole_mm.prepare.encoders import SENTENCE_TRANSFORMERS, TRANSFORMERS, Encoder
from recbole_mm.prepare.inputs import InputError
from recbole_mm.prepare.sentence_encoder import SentenceEncoder
from recbole_mm.prepare.sentence_settings import SentenceSettings, read_sentence_settings
from recbole_mm.prepare.transformers_encoder import TransformersEncoder
from recbole_mm.prepare.tuned_encoders import read_tuning
from recbole_mm.tools.errors import first_line


def open_encoder(
    name: str,
    pooling: str | None = None,
    dtype: torch.dtype | None = None,
    device=None,
    prompt: str | None = None,
    prompt_name: str | None = None,
    revision: str | None = None,
    loader: str | None = None,
) -> Encoder:
    """Load an encoder.

    A model that carries a configuration of sentence-transformers (``modules.json``) is run by that
    library, with the pooling, normalization and prompts of its author; any other by AutoModel.

    Args:
        name: model on the Hugging Face hub, or folder with a saved one.
        pooling: one of :data:`~recbole_mm.prepare.encoders.POOLINGS`, for a text model without a
            configuration; ``None``: ``mean``.
        dtype: data type of the computation; ``None``: bfloat16 on a GPU and float32 on a CPU.
        device: device of the computation; ``None``: the GPU if there is one.
        prompt: prefix of every text; ``None``: the author's for documents, if there is one.
        prompt_name: name of one of the author's prompts.
        revision: commit of a model on the hub; ``None``: the latest.
        loader: one of :data:`~recbole_mm.prepare.encoders.LOADERS`; ``None``: the one that fits the
            model's configuration.

    Raises:
        InputError: a library is not installed, the model cannot be loaded, its configuration names
            code, it lacks the pooling or the prompt, there is no such device, or the record of its
            tuning is damaged.
    """
    where = usable_device(device)
    dtype = dtype or (torch.bfloat16 if where.type == "cuda" else torch.float32)
    files = open_files(name, revision)
    tuning = read_tuning(files)
    encoder = _load(files, pooling, dtype, where, prompt, prompt_name, loader)
    encoder.tuning = tuning
    return encoder


def _load(
    files: EncoderFiles,
    pooling: str | None,
    dtype: torch.dtype,
    where: torch.device,
    prompt: str | None,
    prompt_name: str | None,
    loader: str | None,
) -> Encoder:
    name = files.name
    settings = None if loader == TRANSFORMERS else read_sentence_settings(files)
    if settings is None and loader == SENTENCE_TRANSFORMERS:
        raise InputError(
            f"encoder '{name}' has no sentence-transformers configuration (modules.json)"
        )
    if settings is not None:
        _require("sentence_transformers", f"encoder '{name}' carries a configuration that")
        if pooling is not None:
            raise InputError(
                f"--pooling={pooling}: encoder '{name}' carries a sentence-transformers configuration "
                f"with its own pooling; omit --pooling"
            )
        chosen = _chosen_prompt(name, settings, prompt, prompt_name)
        return SentenceEncoder(files, dtype, where, chosen)
    _require("transformers", "an encoder")
    if prompt_name is not None:
        raise InputError(
            f"--prompt-name={prompt_name}: encoder '{name}' carries no prompts; write the text with "
            f"--prompt"
        )
    return TransformersEncoder(files, pooling or "mean", dtype, where, prompt or "")


def _chosen_prompt(
    name: str, settings: SentenceSettings, prompt: str | None, prompt_name: str | None
) -> str:
    if prompt is not None:
        return prompt
    if prompt_name is None:
        return settings.prompt_for_items()
    if prompt_name not in settings.prompts:
        has = (
            f"has the prompts {sorted(settings.prompts)}" if settings.prompts else "has no prompts"
        )
        raise InputError(f"--prompt-name={prompt_name}: encoder '{name}' {has}")
    return settings.prompts[prompt_name]


def usable_device(name) -> torch.device:
    """The device, or the GPU if there is one.

    Raises:
        InputError: the device cannot be used.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = first_line(error)
        raise InputError(f"--device={name}: it cannot be used ({reason})") from error
    return device


def _require(package: str, what: str) -> None:
    if find_spec(package) is None:
        raise EncoderUnavailable(
            f"{what} needs {package.replace('_', '-')}: pip install 'recbole_mm[features]'."
        )
