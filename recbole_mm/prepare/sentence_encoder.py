"""A model that carries a configuration of sentence-transformers, run by that library."""

import logging

import numpy as np
import torch

from recbole_mm.prepare.encoder_files import EncoderFiles
from recbole_mm.prepare.encoders import (
    OWN_POOLING,
    SENTENCE_TRANSFORMERS,
    Encoder,
    loading,
    quiet_transformers,
)
from recbole_mm.prepare.inputs import InputError


class SentenceEncoder(Encoder):
    """Vectors as the model's author intended, with the author's pooling and normalization.

    Args:
        files: files of the model, whose configuration has been checked.
        dtype: data type of the computation.
        device: device of the computation.
        prompt: prefix of every text; overrides the author's own choice.

    Raises:
        InputError: the model cannot be loaded, or gives no vector for a whole text or picture.
    """

    loader = SENTENCE_TRANSFORMERS

    def __init__(self, files: EncoderFiles, dtype: torch.dtype, device: torch.device, prompt: str):
        self.name, self.revision = files.name, files.content()
        self.dtype, self.device, self.prompt = dtype, device, prompt
        quiet_transformers()
        with loading(self.name):
            from sentence_transformers import SentenceTransformer

            logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
            self.model = SentenceTransformer(
                self.name,
                device=str(device),
                revision=files.commit,
                trust_remote_code=False,
                local_files_only=files.commit is None,
                model_kwargs={"dtype": dtype, "weights_only": True},
                processor_kwargs={"backend": "pil"},
            ).eval()
        self.normalizes = type(self.model[-1]).__name__ == "Normalize"
        pooling = _pooling_of(self.model)
        if pooling is None:
            raise InputError(
                f"encoder '{self.name}' gives a vector for every token, not for the whole text: its "
                f"modules.json has no Pooling"
            )
        self._pooling = pooling
        if "text" in self.model.modalities:
            with loading(self.name):  # detects settings that do not fit together
                self.texts(["a"])

    def require(self, modality: str) -> None:
        parts = [part for part in self.model.modalities if isinstance(part, str)]
        if modality not in parts:
            raise self.cannot_encode(modality, f"it is a model of {', '.join(parts)}.")
        if modality == "image":
            self.refuse_unusable_pictures()

    @property
    def picture_processor(self):
        processor = getattr(self.model[0], "processor", None)
        return getattr(processor, "image_processor", processor)

    def pooling_of(self, modality: str) -> str:  # noqa: ARG002 the same for all
        return self._pooling

    def uses_prompt(self, modality: str) -> bool:
        return modality == "text" or "message" in self.model.modalities

    def texts(self, texts: list[str]) -> tuple[np.ndarray, int]:
        return self._encode(texts), self._count_cut(texts)

    def images(self, images: list) -> np.ndarray:
        return self._encode(images)

    def _encode(self, content: list) -> np.ndarray:
        vectors = self.model.encode_document(
            content,
            prompt=self.prompt,
            batch_size=len(content),
            show_progress_bar=False,
            convert_to_tensor=True,
        )
        return vectors.float().cpu().numpy()

    def _count_cut(self, texts: list[str]) -> int:
        """How many texts have more tokens than the model accepts."""
        from transformers import PreTrainedTokenizerBase

        tokenizer, most = self.model.tokenizer, self.model.max_seq_length
        if most is None or not isinstance(tokenizer, PreTrainedTokenizerBase):
            return 0
        tokens = tokenizer([self.prompt + text for text in texts])["input_ids"]
        return sum(len(text) > most for text in tokens)


def _pooling_of(model) -> str | None:
    """The pooling in the model's configuration, ``None`` if it gives one vector per token."""
    for module in model:
        if type(module).__name__ == "Pooling":
            modes = module.pooling_mode
            return modes if isinstance(modes, str) else "+".join(modes)
    first = model[0]
    is_whole = getattr(first, "module_output_name", "sentence_embedding") == "sentence_embedding"
    return OWN_POOLING if is_whole else None
