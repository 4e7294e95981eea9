"""Checks of what can be opened and written, before anything heavy is imported."""

import glob
import re
from pathlib import Path

from recbole_mm.prepare.formats import is_packed
from recbole_mm.recommend.streams import is_stream
from recbole_mm.tools.errors import UserError
from recbole_mm.tools.files import remove_abandoned, require_writable

WRITTEN = (".parquet", ".csv", ".tsv", ".jsonl", ".csv.gz", ".tsv.gz", ".jsonl.gz")


REPOSITORY = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")
"""A repository on the Hugging Face hub: OWNER/NAME."""


def require_model(model) -> None:
    """Check that a model exists, or may be on the hub.

    Args:
        model: checkpoint, folder of a bundle, or ``OWNER/NAME`` of a repository on the hub.

    Raises:
        UserError: the model is none of these.
    """
    if not str(model).strip():
        raise UserError("the path of the model is empty; is a variable of your shell not set?")
    path = Path(model)
    may_be_on_hub = (
        REPOSITORY.fullmatch(str(model)) and not path.parent.exists() and path.suffix != ".pth"
    )
    if not path.exists() and not may_be_on_hub:
        raise UserError(
            f"{model} does not exist; give a checkpoint, the folder of a bundle, or OWNER/NAME of one on "
            f"the Hugging Face hub"
        )


def require_new(path, overwrite: bool) -> Path:
    """The path of a file that may be written.

    Raises:
        UserError: the format is unknown, the path is a pipe or a device, the folder cannot be
            written, or the file exists and ``overwrite`` is not set.
    """
    path = Path(path)
    if is_stream(path):
        raise UserError(
            f"{path} is not a file; lists are written whole or not at all, so give a file as output"
        )
    if not path.name.lower().endswith(WRITTEN):
        suffix = "".join(path.suffixes[-2:]) if is_packed(path) else path.suffix
        raise UserError(f"{path}: the format {suffix!r} is unknown; use {', '.join(WRITTEN)}")
    require_writable(path.parent, "Give another output")
    if path.is_dir():
        raise UserError(f"{path} is a folder; give a file as output")
    if path.exists() and not overwrite:
        remove_abandoned(path.parent, glob.escape(path.name))  # of a writer killed at its very end
        raise UserError(f"{path} exists; give another output, or --overwrite to replace it")
    return path
