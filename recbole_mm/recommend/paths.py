"""Which file can be written; looked at before anything heavy is imported."""

from pathlib import Path

from recbole_mm.tools.errors import UserError
from recbole_mm.tools.files import require_writable

WRITTEN = (".parquet", ".csv", ".tsv", ".jsonl")


def require_new(path, overwrite: bool) -> Path:
    """The path of a file that may be written.

    Raises:
        UserError: its format is unknown, its folder cannot be written, or it exists and
            ``overwrite`` is not set.
    """
    path = Path(path)
    if path.suffix.lower() not in WRITTEN:
        raise UserError(f"{path}: the format {path.suffix!r} is unknown; use {', '.join(WRITTEN)}")
    if path.is_dir():
        raise UserError(f"{path} is a folder; give a file as output")
    if path.exists() and not overwrite:
        raise UserError(f"{path} exists; give another output, or --overwrite to replace it")
    require_writable(path.parent, "Give another output")
    return path
