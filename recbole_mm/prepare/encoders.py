"""Any Hugging Face encoder, by name or folder, as two functions: texts and pictures to vectors."""

import os
from pathlib import Path

import numpy as np
import torch

from recbole_mm.prepare.inputs import InputError
from recbole_mm.tools.hashing import sha256_of_file

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


class Encoder:
    """A frozen model behind AutoModel, with its own tokenizer and image processor.

    Two-tower models (CLIP, SigLIP, BLIP) give their projected text and image features; other text
    models the mean of the last hidden states over the real tokens, or the first of them; other
    picture models their pooled output, or the mean over patches where there is none.

    Args:
        name: a model on the Hugging Face hub, or a folder with a saved one.
        pooling: ``mean`` or ``cls``, for text models without a text tower of their own.
        dtype: of the computation; ``None`` is bfloat16 on a GPU and float32 on a CPU.
        device: ``None`` takes the GPU if there is one.
        prompt: put before every text, for models that were trained with one ("passage: ").
        revision: commit of a model on the hub; ``None``: the latest.

    Raises:
        InputError: transformers is not installed, the model cannot be loaded, or there is no such
            device.
    """

    def __init__(
        self,
        name: str,
        pooling: str = "mean",
        dtype=None,
        device=None,
        prompt: str = "",
        revision: str | None = None,
    ):
        try:
            import transformers
        except ImportError as error:
            raise InputError(
                "an encoder needs transformers: pip install 'recbole_mm[features]'. "
                "Without --encoder the embedded extractor runs, which needs nothing."
            ) from error
        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        self.name = name
        self.pooling = pooling
        self.prompt = prompt
        self.device = _device(device)
        self.dtype = dtype or (torch.bfloat16 if self.device.type == "cuda" else torch.float32)
        try:
            model = transformers.AutoModel.from_pretrained(
                name, dtype=self.dtype, revision=revision or "main", trust_remote_code=False
            )
        except (OSError, ValueError) as error:
            raise InputError(
                f"encoder '{name}' cannot be loaded: {str(error).splitlines()[0]} Name a folder "
                f"with a saved model, or a model on the Hugging Face hub."
            ) from error
        if hasattr(model, "encoder") and hasattr(model, "decoder"):
            model = model.encoder  # T5: the decoder would want inputs of its own
        self.model = model.eval().to(self.device)
        self.tokenizer, self._no_text = _load(transformers.AutoTokenizer, name, revision)
        if self.tokenizer is not None and self.tokenizer.pad_token is None:
            # GPT and Llama have none; what it is does not matter, the attention mask hides it
            self.tokenizer.pad_token = self.tokenizer.eos_token or self.tokenizer.unk_token
        self.image_processor, self._no_image = _load(
            transformers.AutoImageProcessor, name, revision
        )

    @property
    def revision(self) -> str:
        """The commit of a hub model, or the hash of the weights in a folder."""
        if Path(self.name).is_dir():
            weights = sorted(p for p in Path(self.name).iterdir() if p.suffix in _WEIGHTS)
            return ",".join(f"{path.name}:{sha256_of_file(path)[:16]}" for path in weights)
        return getattr(self.model.config, "_commit_hash", None) or "unknown"

    @property
    def max_length(self) -> int:
        """Most tokens of a text that the model takes."""
        config = getattr(self.model.config, "text_config", self.model.config)
        positions = getattr(config, "max_position_embeddings", None) or 512
        if getattr(config, "model_type", "") in _OFFSET_POSITIONS:
            positions -= 2
        return min(positions, self.tokenizer.model_max_length)

    def require(self, modality: str) -> None:
        """Raise InputError if the model cannot encode ``text`` or ``image``, and say why."""
        part = self.tokenizer if modality == "text" else self.image_processor
        if part is None:
            reason = self._no_text if modality == "text" else self._no_image
            raise InputError(
                f"encoder '{self.name}' cannot encode {modality}s: {reason} "
                f"Name another encoder, or leave the modality out (--modalities)."
            )

    @torch.inference_mode()
    def texts(self, texts: list[str]) -> tuple[np.ndarray, int]:
        """Vectors ``(n, F)`` float32 of some texts, and how many of these were cut."""
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
        """Vectors ``(n, F)`` float32 of some RGB PIL images."""
        batch = self.image_processor(images=images, return_tensors="pt")
        batch = batch.to(self.device, self.dtype)
        if hasattr(self.model, "get_image_features"):
            return _array(_pooled(self.model.get_image_features(**batch)))
        output = self.model(**batch)
        pooled = getattr(output, "pooler_output", None)
        return _array(output.last_hidden_state.mean(1) if pooled is None else pooled.flatten(1))


_WEIGHTS = {".safetensors", ".bin"}
_OFFSET_POSITIONS = {"roberta", "xlm-roberta", "camembert", "mpnet"}


def _device(name) -> torch.device:
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"--device={name}: it cannot be used ({reason})") from error
    return device


def _load(auto, name, revision):
    try:
        return auto.from_pretrained(name, revision=revision or "main", trust_remote_code=False), ""
    except (OSError, ValueError, KeyError, ImportError) as error:
        return None, str(error).partition("\n")[0]


def _is_siglip(model) -> bool:
    """SigLIP was trained on texts padded to full length, without an attention mask."""
    return "siglip" in model.config.model_type


def _pooled(output) -> torch.Tensor:
    """transformers 4 returns the features, 5 an output object that holds them."""
    return output if torch.is_tensor(output) else output.pooler_output


def _array(values: torch.Tensor) -> np.ndarray:
    return values.float().cpu().numpy()
