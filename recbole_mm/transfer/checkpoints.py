"""Reading a checkpoint of ours: plain data, no code, no more memory than the file has bytes."""

import zipfile
from pathlib import Path

import torch

from recbole_mm.config.models import known_models, source_of
from recbole_mm.tools.errors import UserError


class CheckpointError(UserError):
    """A file that is not a checkpoint of one of our models, or does not fit its data."""


def read_checkpoint(path) -> dict:
    """The content of a checkpoint of :class:`~recbole_mm.training.trainer.MultiModalTrainer`.

    Its tensors are mapped from the file.

    Args:
        path: of the file.

    Returns:
        what the trainer wrote, ``config`` with the name of one of our models, ``state_dict``, ...

    Raises:
        CheckpointError: the file does not exist, is damaged, or holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: the checkpoint does not exist")
    known = known_models()
    content = _content(path, f"{path}: not a checkpoint of {known}")
    config = content.get("config") if isinstance(content, dict) else None
    model = config.get("model") if isinstance(config, dict) else None
    if not isinstance(model, str) or not isinstance(content.get("state_dict"), dict):
        raise CheckpointError(f"{path}: not a checkpoint of {known}")
    if source_of(model) is None:
        raise CheckpointError(f"{path}: a checkpoint of {model}; only {known} can be opened here")
    return content


def _content(path: Path, refusal: str):
    try:
        with zipfile.ZipFile(path) as archive:
            # what is compressed could be of any size in memory
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise CheckpointError(f"{refusal}: it is compressed")
            damaged = archive.testzip()
        if damaged:
            raise CheckpointError(f"{refusal}, or a damaged one ({damaged})")
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except CheckpointError:
        raise
    except Exception as error:  # whatever a damaged file makes torch raise
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"{refusal}, or a damaged one ({reason})") from error
