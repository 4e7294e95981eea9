"""Encoders: frozen models, from the Hugging Face hub or a folder, that make vectors of items."""

import importlib
import os
import sys
from abc import ABC, abstractmethod
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from PIL import Image

from recbole_mm.data.seen_split import TUNING
from recbole_mm.prepare.encoder_files import cannot_be_loaded
from recbole_mm.prepare.inputs import InputError
from recbole_mm.prepare.picture_sizes import MOST_PIXELS, pixels_made
from recbole_mm.tools.errors import is_lack_of_memory
from recbole_mm.tools.pictures import PictureError, read_picture

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

TRANSFORMERS, SENTENCE_TRANSFORMERS = "transformers", "sentence-transformers"
LOADERS = (TRANSFORMERS, SENTENCE_TRANSFORMERS)
POOLINGS = ("mean", "cls")
"""Poolings of text models that have no configuration of their own."""
OWN_POOLING = "model"
"""The vector that the model itself gives: projected features of two towers, pooled patches."""


class Encoder(ABC):
    """A frozen model, as two functions: texts and pictures to vectors.

    Attributes:
        loader: the library that runs it, one of :data:`LOADERS`.
        name: a model on the Hugging Face hub, or a folder.
        revision: commit of the model, or a hash of the folder.
        dtype: data type of the computation.
        prompt: prefix of every text.
        normalizes: whether its vectors have length 1.
        tuning: the record of its tuning, if recbole-mm tune-encoder has tuned it.
    """

    loader: str
    name: str
    revision: str
    dtype: torch.dtype
    prompt: str
    normalizes: bool = False
    tuning: dict | None = None

    @abstractmethod
    def require(self, modality: str) -> None:
        """Raise InputError if the model cannot encode ``text`` or ``image``, and say why."""

    @property
    @abstractmethod
    def picture_processor(self):
        """The processor that scales pictures for the model, ``None`` if it reads none."""

    def refuse_unusable_pictures(self) -> None:
        """Encode a small picture, to detect settings that ask for too many pixels or do not fit.

        Raises:
            InputError: the settings cannot be used.
        """
        made = pixels_made(self.picture_processor, 1, 1)
        if made > MOST_PIXELS:
            raise InputError(
                f"encoder '{self.name}' makes {made:,.0f} pixels of every picture, according to its "
                f"preprocessor_config.json; the limit is {MOST_PIXELS:,}: correct the sizes there, or "
                f"name another encoder"
            )
        with loading(self.name):
            self.images([Image.new("RGB", (48, 32), "white")])

    def read_picture(self, path) -> Image.Image:
        """A picture in RGB whose shape the model can read.

        Raises:
            PictureError: see :func:`~recbole_mm.tools.pictures.read_picture`; or it is so narrow that
                it would become too large.
        """
        picture = read_picture(path)
        made = pixels_made(self.picture_processor, *picture.size)
        if made > MOST_PIXELS:
            raise PictureError(
                f"{path}: {picture.width} x {picture.height} pixels, of which the encoder would make "
                f"{made:,.0f}; the limit is {MOST_PIXELS:,}: crop the picture"
            )
        return picture

    @abstractmethod
    def pooling_of(self, modality: str) -> str:
        """How the vectors of the positions are pooled into one."""

    @abstractmethod
    def texts(self, texts: list[str]) -> tuple[np.ndarray, int]:
        """Vectors ``(n, F)`` float32 of some texts, and how many of these were cut."""

    @abstractmethod
    def images(self, images: list) -> np.ndarray:
        """Vectors ``(n, F)`` float32 of some RGB PIL images."""

    def facts(self, modality: str) -> dict[str, Any]:
        """What a feature file must record so that further items can be encoded the same way."""
        facts: dict[str, Any] = {
            "encoder": self.name,
            "revision": self.revision,
            "loader": self.loader,
            "pooling": self.pooling_of(modality),
            "precision": str(self.dtype),
        }
        if self.prompt and self.uses_prompt(modality):
            facts["prompt"] = self.prompt
        if self.tuning is not None:
            facts[TUNING] = self.tuning
        return facts

    def uses_prompt(self, modality: str) -> bool:
        """Whether the vectors of a modality depend on the prompt."""
        return modality == "text"

    def cannot_encode(self, modality: str, reason: str) -> InputError:
        return InputError(
            f"encoder '{self.name}' cannot encode {modality}s: {reason.rstrip('.')}. "
            f"Name another encoder, or omit the modality (--modalities)."
        )


@contextmanager
def loading(name: str):
    """Turn what the libraries raise about a model's files into a user error."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if is_lack_of_memory(error):
            raise
        raise cannot_be_loaded(name, error) from error


def quiet_transformers():
    """transformers without progress bars and remarks."""
    hide_broken_torchvision()
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers


def hide_broken_torchvision() -> None:
    """Hide from transformers a torchvision that cannot be imported with this torch.

    transformers would import it, although pictures go through PIL here.
    """
    if "torchvision" in sys.modules or find_spec("torchvision") is None:
        return
    try:
        importlib.import_module("torchvision")
    except (ImportError, OSError, RuntimeError):
        sys.modules["torchvision"] = None  # type: ignore[assignment]  # import and find_spec respect it
