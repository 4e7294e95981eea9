"""The encoder that a feature file records, opened again to make vectors of other items."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch

from recbole_mm.data.feature_files import content_of
from recbole_mm.prepare.encoders import LOADERS, POOLINGS, TRANSFORMERS, Encoder
from recbole_mm.prepare.inputs import InputError
from recbole_mm.prepare.open_encoder import open_encoder

COMMIT = re.compile(r"[0-9a-f]{40}")


class NotTheEncoder(InputError):
    """The encoder of some features is missing, or a different one; the message gives no fix."""


def is_encoded(info: Mapping) -> bool:
    """Whether features were made by an encoder that can be opened again.

    Args:
        info: how they were made, see :func:`~recbole_mm.data.feature_files.read_feature_info`.
    """
    return "pooling" in info


def open_recorded_encoder(modality: str, info: Mapping, folder=None, device=None) -> Encoder:
    """The encoder of some features, in its revision and with its pooling, prompt and precision.

    Args:
        modality: name of the features.
        info: how they were made.
        folder: folder with the same weights; ``None``: where the encoder was, or the hub.
        device: see :func:`~recbole_mm.prepare.open_encoder.open_encoder`.

    Raises:
        NotTheEncoder: the encoder is missing or a different one, or the record is damaged.
        InputError: the encoder cannot be loaded.
    """
    for fact in ("encoder", "revision", "pooling", "prompt"):
        if not isinstance(info.get(fact, ""), str):
            raise NotTheEncoder(
                f"the record of the {modality} features is damaged: {fact} is not text"
            )
    name, revision = info["encoder"], info.get("revision", "")
    is_folder = Path(name).is_absolute() or bool(revision and not COMMIT.fullmatch(revision))
    if folder is None and is_folder and not Path(name).is_dir():
        raise NotTheEncoder(
            f"{modality} features are by the encoder in the folder {name}, which is not here"
        )
    loader = info.get("loader", TRANSFORMERS)
    if loader not in LOADERS:
        raise NotTheEncoder(
            f"{modality} features are by {name} of the library {loader!r}, which is not known here"
        )
    dtype = getattr(torch, str(info.get("precision", "")).removeprefix("torch."), None)
    encoder = open_encoder(
        name if folder is None else str(folder),
        info["pooling"] if loader == TRANSFORMERS and info["pooling"] in POOLINGS else None,
        dtype if isinstance(dtype, torch.dtype) else None,
        device,
        prompt=info.get("prompt", ""),
        revision=revision if COMMIT.fullmatch(revision) else None,
        loader=loader,
    )
    encoder.require(content_of(modality, info) or modality)
    if encoder.revision != revision:
        raise NotTheEncoder(
            f"{modality} features are by {name} in the revision {revision}, but here it is "
            f"{encoder.revision}"
        )
    return encoder
