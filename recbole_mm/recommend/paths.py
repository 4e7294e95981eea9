"""Which file can be written; looked at before anything heavy is imported."""

from pathlib import Path

from recbole_mm.tools.errors import UserError
from recbole_mm.tools.files import require_writable
from recbole_mm.tools.hashing import sha256_of_file
from recbole_mm.tools.records import read_record, write_record

WRITTEN = (".parquet", ".csv", ".tsv", ".jsonl")
JOINED = "joined.json"


def partial_folder(path: Path) -> Path:
    """The hidden folder of the finished parts of a file that is not written yet."""
    return path.with_name(f".{path.name}.partial")


def mark_as_joined(file: Path, folder: Path) -> None:
    """Remember in the folder of the parts that a file consists of them, before it gets its name."""
    write_record(folder / JOINED, {"content": sha256_of_file(file)})


def require_new(path, overwrite: bool) -> Path:
    """The path of a file that may be written.

    Raises:
        UserError: its format is unknown, its folder cannot be written, or it exists and
            ``overwrite`` is not set. A run that was interrupted just after it had written the file
            may write it again.
    """
    path = Path(path)
    if path.suffix.lower() not in WRITTEN:
        raise UserError(f"{path}: the format {path.suffix!r} is unknown; use {', '.join(WRITTEN)}")
    if path.is_dir():
        raise UserError(f"{path} is a folder; give a file as output")
    if path.exists() and not overwrite and not _was_joined(path):
        raise UserError(f"{path} exists; give another output, or --overwrite to replace it")
    require_writable(path.parent, "Give another output")
    return path


def _was_joined(path: Path) -> bool:
    try:
        joined = read_record(partial_folder(path) / JOINED)
    except UserError:
        return False
    return joined is not None and joined.get("content") == sha256_of_file(path)
