"""Encoders of a few kilobytes, built on disk as their libraries save them."""

from pathlib import Path

import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

SMALL = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
}  # fmt: skip


def save_text_encoder(folder: Path, words: list[str]) -> Path:
    """A model of sentence-transformers that knows these words, and 16 tokens of a text."""
    plain = folder.with_name("plain")
    plain.mkdir(parents=True)
    known = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    (plain / "vocab.txt").write_text("\n".join(known))
    tokenizer = transformers.BertTokenizer.from_pretrained(str(plain), model_max_length=16)
    tokenizer.save_pretrained(plain)
    torch.manual_seed(0)
    config = transformers.BertConfig(**SMALL, vocab_size=len(known), max_position_embeddings=16)
    transformers.BertModel(config).save_pretrained(plain)
    modules = [Transformer(str(plain)), Pooling(16, "mean")]
    SentenceTransformer(modules=modules, device="cpu").save(str(folder))
    return folder


def save_picture_encoder(folder: Path) -> Path:
    """A model that scales the shorter side of a picture to 16 and takes the middle."""
    torch.manual_seed(0)
    config = transformers.CLIPVisionConfig(**SMALL, projection_dim=12, image_size=16, patch_size=8)
    transformers.CLIPVisionModel(config).save_pretrained(folder)
    sizes = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}
    transformers.CLIPImageProcessor(**sizes).save_pretrained(folder)
    return folder
