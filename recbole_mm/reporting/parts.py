"""The files of tables and figures next to a report."""

from collections.abc import Collection, Iterable
from pathlib import Path


def remove_stale(folder: Path, patterns: Iterable[str], written: Collection[Path]) -> None:
    """Remove what an earlier report in the same folder has and this one has not.

    Args:
        folder: folder of the report.
        patterns: glob patterns of the tables and figures that a report may have.
        written: files of this report.
    """
    for pattern in patterns:
        for path in folder.glob(pattern):
            if path not in written:
                path.unlink()
