"""The result of a run: a frozen value that is written and read as JSON."""

import dataclasses
import reprlib
from dataclasses import dataclass
from typing import get_type_hints

from recbole_mm.tools.errors import UserError
from recbole_mm.tools.json_files import fits
from recbole_mm.tools.records import read_record, write_record

START = -1
"""As an epoch: the model as it was before the first one."""


def epoch_in_words(epoch: int | None) -> str:
    """An epoch of a :class:`Result`, for a table: counted from 1."""
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
    """What one run was, what it reached and what it cost.

    Attributes:
        model: name.
        dataset: name.
        train_stage: ``pretrain``, ``finetune``, or ``None`` for a model of RecBole.
        use_item_id: whether items had learned embeddings; ``None`` for a model of RecBole.
        pre_model_path: the checkpoint that it started from, as configured.
        knows_query_time: whether the model reads the time of the target.
        valid_metric: what early stopping watched, in lower case.
        valid_score_bigger: whether a larger one is better.
        best_valid_score: ``None`` where the split has no validation targets.
        best_valid_result: every validation metric of that epoch.
        test_result: every test metric, of the best epoch; ``None`` without test targets.
        best_epoch: from 0, :data:`START` is the start; ``None`` if nothing was validated on the way.
        epochs: how many were trained, those before an interruption included.
        history: of each validated epoch ``epoch``, ``valid_score`` and ``seconds`` since the start.
        seconds: from the start of training to the end of the test.
        seconds_per_epoch: mean of the training epochs of this process.
        seconds_per_validation: mean of its validations.
        n_parameters: trainable ones.
        peak_memory: largest resident memory of the process so far, bytes.
        peak_gpu_memory: likewise on the GPU, 0 without one.
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
        """The result that :meth:`to_dict` gave.

        Raises:
            UserError: it does not have exactly the attributes of a result, each of its type.
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
        """Write it as JSON, whole or not at all."""
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
