"""The result of a run: a frozen value that is stored as JSON."""

import dataclasses
import reprlib
from dataclasses import dataclass
from typing import get_type_hints

from recbole_mm.tools.errors import UserError
from recbole_mm.tools.json_files import fits
from recbole_mm.tools.records import read_record, write_record

START = -1
"""Epoch number of the initial model, before the first epoch."""


def epoch_in_words(epoch: int | None) -> str:
    """An epoch of a :class:`Result` for a table, counted from 1."""
    if epoch is None:
        return "-"
    return "start" if epoch == START else str(epoch + 1)


def still_rises(history: list[dict], best_epoch: int | None, epochs: int, most_epochs: int) -> bool:
    """Whether the best epoch of a run is the last one that it was allowed to validate, so that further
    epochs might be better.

    Args:
        history: see :class:`Result`.
        best_epoch: see :class:`Result`.
        epochs: number of epochs that it has trained.
        most_epochs: number that it was allowed.
    """
    ended_early = epochs < most_epochs
    return bool(history) and not ended_early and best_epoch == history[-1]["epoch"]


@dataclass(frozen=True)
class Result:
    """The settings, the scores and the cost of one run.

    Attributes:
        model: name.
        dataset: name.
        train_stage: ``pretrain``, ``finetune``, or ``None`` for a model of RecBole.
        use_item_id: whether items had learned embeddings; ``None`` for a model of RecBole.
        pre_model_path: checkpoint that it started from, as configured.
        knows_query_time: whether the model reads the time of the target.
        valid_metric: metric of early stopping, in lower case.
        valid_score_bigger: whether a larger score is better.
        best_valid_score: best validation score; ``None`` if the split has no validation targets.
        best_valid_result: all validation metrics of that epoch.
        test_result: all test metrics of the best epoch; ``None`` without test targets.
        best_epoch: epoch from 0, or :data:`START`; ``None`` if nothing was validated during
            training.
        epochs: number of trained epochs, including those before an interruption.
        history: ``epoch``, ``valid_score`` and ``seconds`` since the start of training, for each
            validated epoch.
        seconds: time from the start of training to the end of the test.
        seconds_per_epoch: mean time of the training epochs of this process.
        seconds_per_validation: mean time of its validations.
        n_parameters: number of trainable parameters.
        peak_memory: largest resident memory of the process so far, in bytes.
        peak_gpu_memory: largest allocated GPU memory, in bytes; 0 without a GPU.
        checkpoint: path of the best epoch, or ``None``.
    """

    model: str
    dataset: str
    train_stage: str | None
    use_item_id: bool | None
    pre_model_path: str | None
    knows_query_time: bool
    valid_metric: str
    valid_score_bigger: bool
    best_valid_score: float | None
    best_valid_result: dict[str, float] | None
    test_result: dict[str, float] | None
    best_epoch: int | None
    epochs: int
    history: list[dict]
    seconds: float
    seconds_per_epoch: float
    seconds_per_validation: float
    n_parameters: int
    peak_memory: int
    peak_gpu_memory: int
    checkpoint: str | None

    def to_dict(self) -> dict:
        """Plain data, by attribute."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values, origin="a result") -> "Result":
        """Restore the result of :meth:`to_dict`.

        Raises:
            UserError: the values are not exactly the attributes of a result with their types.
        """
        kinds = get_type_hints(cls)
        if not isinstance(values, dict) or set(values) != set(kinds):
            raise UserError(f"{origin}: not a result of recbole_mm {sorted(kinds)}")
        for name, kind in kinds.items():
            if not fits(values[name], kind):
                words = kind.__name__ if isinstance(kind, type) else kind
                raise UserError(
                    f"{origin}: {name} is {reprlib.repr(values[name])}; it must be {words}"
                )
        return cls(**values)

    def save(self, path) -> None:
        """Write the result as JSON, as a whole or not at all."""
        write_record(path, self.to_dict())

    @classmethod
    def load(cls, path) -> "Result":
        """Read what :meth:`save` wrote.

        Raises:
            FileNotFoundError: the file does not exist.
            UserError: the file is damaged.
        """
        values = read_record(path)
        if values is None:
            raise FileNotFoundError(f"{path}: no such result")
        return cls.from_dict(values, str(path))
