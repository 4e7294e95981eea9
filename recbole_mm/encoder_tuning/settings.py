"""How an encoder is tuned."""

import math
from typing import NamedTuple

from recbole_mm.tools.errors import UserError

LEARNING_RATE, LORA_LEARNING_RATE = 5e-5, 3e-4


class EncoderTuningSettings(NamedTuple):
    """Settings of a tuning; they are recorded with the encoder.

    Attributes:
        text_fields: columns of ``.item`` that make up a text.
        window: maximum number of items of a history whose texts are joined, the latest first; each
            pair draws a number from 1 to this.
        max_pairs: pairs per epoch, drawn at random; ``None``: all.
        epochs: passes over the pairs.
        batch_size: pairs per batch; the other next items of the batch are the negatives.
        learning_rate: peak learning rate of AdamW, reached after a tenth of the steps and falling
            to 0.
        temperature: number that cosines are divided by.
        max_length: maximum number of tokens of a text.
        lora_rank: rank of the matrices that are added to each linear layer and are then the only
            trained weights; 0: all weights are trained.
        seed: random seed of pairs, windows, batches, dropout and LoRA.
    """

    text_fields: list[str]
    window: int = 1
    max_pairs: int | None = None
    epochs: int = 1
    batch_size: int = 64
    learning_rate: float = LEARNING_RATE
    temperature: float = 0.05
    max_length: int = 64
    lora_rank: int = 0
    seed: int = 2020

    def refuse_unusable(self) -> None:
        """Check the ranges.

        Raises:
            UserError: a value is out of range.
        """
        at_least = {"window": 1, "max_pairs": 2, "epochs": 1, "batch_size": 2, "max_length": 2}
        for name, least in {**at_least, "lora_rank": 0, "seed": 0}.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"{_option(name)}={value}: it must be {least} or more")
        for name in ("learning_rate", "temperature"):
            value = getattr(self, name)
            if not (0 < value < math.inf):
                raise UserError(f"{_option(name)}={value}: it must be a number above 0")


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
