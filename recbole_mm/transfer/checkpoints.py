"""Reading one of our checkpoints: plain data, no code, no more memory than the size of the file."""

from pathlib import Path

from recbole_mm.config.models import known_models, source_of
from recbole_mm.tools.errors import UserError
from recbole_mm.tools.torch_files import (
    NotPlainData,
    TorchFileError,
    pickle_has,
    read_torch,
    refuse_unusable,
)

OF_RECBOLE = b"recbole.utils.enum_type"
"""Name in the pickle of every checkpoint of RecBole's trainer."""


class CheckpointError(UserError):
    """A file that is not a checkpoint of one of our models, or does not fit its data."""


class UnusableCheckpoint(CheckpointError):
    """One of our checkpoints, with parameters that are NaN, infinite or not tensors."""


class CheckpointOfRecBole(CheckpointError):
    """A checkpoint of RecBole's trainer."""


def read_checkpoint(path) -> dict:
    """The content of a checkpoint of :class:`~recbole_mm.training.trainer.MultiModalTrainer`.

    Its tensors are mapped from the file.

    Args:
        path: path of the file.

    Returns:
        what the trainer wrote (``config`` with the name of one of our models, ``state_dict``, ...)

    Raises:
        CheckpointError: the file does not exist, is damaged, or holds something else.
        UnusableCheckpoint: it has NaN or infinite parameters.
        CheckpointOfRecBole: it was written by RecBole's trainer.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: the checkpoint does not exist")
    known = known_models()
    refusal = f"{path}: not a checkpoint of {known}"
    try:
        content = read_torch(path)
    except NotPlainData as error:
        if not pickle_has(path, OF_RECBOLE):
            raise CheckpointError(f"{refusal}, or a damaged one ({error})") from error
        raise CheckpointOfRecBole(
            f"{path}: a checkpoint of RecBole's trainer (its own models, and baselines without "
            f"training), which recommend and recbole.quick_start.load_data_and_model can read; "
            f"only {known} can be used here"
        ) from error
    except TorchFileError as error:
        raise CheckpointError(f"{refusal}, or a damaged one ({error})") from error
    config = content.get("config") if isinstance(content, dict) else None
    model = config.get("model") if isinstance(config, dict) else None
    if not isinstance(model, str) or not isinstance(content.get("state_dict"), dict):
        raise CheckpointError(refusal)
    if source_of(model) is None:
        raise CheckpointError(f"{path}: a checkpoint of {model}; only {known} can be opened here")
    refuse_unusable(content["state_dict"], str(path), UnusableCheckpoint)
    return content
