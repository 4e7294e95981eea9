"""A model behind AutoModel, with its own tokenizer and image processor."""

import numpy as np
import torch

from recbole_mm.prepare.encoder_files import EncoderFiles
from recbole_mm.prepare.encoders import (
    OWN_POOLING,
    TRANSFORMERS,
    Encoder,
    loading,
    quiet_transformers,
)

OFFSET_POSITIONS = {"roberta", "xlm-roberta", "camembert", "mpnet"}


class TransformersEncoder(Encoder):
    """Any model that carries no configuration of sentence-transformers.

    Two-tower models (CLIP, SigLIP, BLIP) give their projected text and image features; other text
    models the mean of the last hidden states over the real tokens, or the first of them; other
    picture models their pooled output, or the mean over patches where there is none.

    Args:
        files: files of the model.
        pooling: ``mean`` or ``cls``, for text models without a text tower of their own.
        dtype: data type of the computation.
        device: device of the computation.
        prompt: prefix of every text.

    Raises:
        InputError: the model cannot be loaded.
    """

    loader = TRANSFORMERS

    def __init__(
        self,
        files: EncoderFiles,
        pooling: str,
        dtype: torch.dtype,
        device: torch.device,
        prompt: str,
    ):
        self.name, self.revision = files.name, files.weights()
        self.pooling, self.dtype, self.device, self.prompt = pooling, dtype, device, prompt
        transformers = quiet_transformers()
        options = {"revision": files.commit or "main", "trust_remote_code": False}
        with loading(self.name):
            model = transformers.AutoModel.from_pretrained(
                self.name, dtype=dtype, weights_only=True, **options
            )
        if hasattr(model, "encoder") and hasattr(model, "decoder"):
            model = model.encoder  # T5: the decoder would need inputs of its own
        self.model = model.eval().to(device)
        self.tokenizer, self._no_text = _load(transformers.AutoTokenizer, self.name, options)
        if self.tokenizer is not None and self.tokenizer.pad_token is None:
            # GPT and Llama have none; any token will do, as the attention mask hides it
            self.tokenizer.pad_token = self.tokenizer.eos_token or self.tokenizer.unk_token
        self.image_processor, self._no_image = _load(
            transformers.AutoImageProcessor, self.name, {**options, "backend": "pil"}
        )

    @property
    def max_length(self) -> int:
        """Maximum number of tokens of a text that the model accepts."""
        config = getattr(self.model.config, "text_config", self.model.config)
        positions = getattr(config, "max_position_embeddings", None) or 512
        if getattr(config, "model_type", "") in OFFSET_POSITIONS:
            positions -= 2
        return min(positions, self.tokenizer.model_max_length)

    def require(self, modality: str) -> None:
        part = self.tokenizer if modality == "text" else self.image_processor
        if part is None:
            raise self.cannot_encode(
                modality, self._no_text if modality == "text" else self._no_image
            )
        if modality == "image":
            self.refuse_unusable_pictures()

    @property
    def picture_processor(self):
        return self.image_processor

    def pooling_of(self, modality: str) -> str:
        if modality == "image" or hasattr(self.model, "get_text_features"):
            return OWN_POOLING
        return self.pooling

    @torch.inference_mode()
    def texts(self, texts: list[str]) -> tuple[np.ndarray, int]:
        texts = [self.prompt + text for text in texts]
        tokens = self.tokenizer(texts)["input_ids"]
        cut = sum(len(text) > self.max_length for text in tokens)
        batch = self.tokenizer(
            texts,
            padding="max_length" if _is_siglip(self.model) else True,
            truncation=True,
            max_length=self.max_length,
            return_tensors="pt",
        ).to(self.device)
        if hasattr(self.model, "get_text_features"):
            batch.pop("token_type_ids", None)
            return _array(_pooled(self.model.get_text_features(**batch))), cut
        hidden = self.model(**batch).last_hidden_state
        if self.pooling == "cls":
            return _array(hidden[:, 0]), cut
        real = batch["attention_mask"].unsqueeze(-1).float()
        return _array((hidden.float() * real).sum(1) / real.sum(1).clamp(min=1)), cut

    @torch.inference_mode()
    def images(self, images: list) -> np.ndarray:
        batch = self.image_processor(images=images, return_tensors="pt")
        batch = batch.to(self.device, self.dtype)
        if hasattr(self.model, "get_image_features"):
            return _array(_pooled(self.model.get_image_features(**batch)))
        output = self.model(**batch)
        pooled = getattr(output, "pooler_output", None)
        return _array(output.last_hidden_state.mean(1) if pooled is None else pooled.flatten(1))


def _load(auto, name: str, options: dict):
    try:
        return auto.from_pretrained(name, **options), ""
    except Exception as error:  # noqa: BLE001 libraries raise many types for damaged files
        return None, str(error).partition("\n")[0]


def _is_siglip(model) -> bool:
    """SigLIP was trained on texts padded to full length, without an attention mask."""
    return "siglip" in model.config.model_type


def _pooled(output) -> torch.Tensor:
    """The features, or those in an output object that holds them."""
    return output if torch.is_tensor(output) else output.pooler_output


def _array(values: torch.Tensor) -> np.ndarray:
    return values.float().cpu().numpy()
