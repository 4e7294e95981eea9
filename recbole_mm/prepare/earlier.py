"""The files of a data set as they were before a command changes them, until the command succeeds."""

import contextlib
import filecmp
import glob
import os
import shutil
from itertools import count
from pathlib import Path

from recbole_mm.data.feature_files import feature_path, find_modalities

ENDINGS = ("inter", "item", "card.json", "*.npz", "*.jsonl")
"""Endings of the files that commands write into a data set."""


class EarlierFiles:
    """Hidden copies of the files of a data set, next to its folder.

    They are hard links if the file system supports these, and then need no space: files of a data
    set are replaced, never changed in place. Putting them back needs none either.

    Args:
        root: folder of the data sets.
        name: name of the data set.

    Attributes:
        kept: folder of the copies; it exists once all of them are made.
    """

    def __init__(self, root, name: str):
        self.name, self.folder = name, Path(root) / name
        self.kept = Path(root) / f".{name}.earlier"
        self._copying, self._returning = (
            self.kept.with_name(f"{self.kept.name}.{doing}") for doing in ("copying", "returning")
        )

    def keep(self) -> None:
        """Copy the files, unless an interrupted command has already done so.

        Raises:
            OSError: a file cannot be copied; no copy is left then.
        """
        if self._returning.is_dir():
            self._return()
        if self.kept.is_dir():
            return
        try:
            shutil.rmtree(self._copying, ignore_errors=True)
            self._copying.mkdir(parents=True)
            for path in self._files():
                _copy(path, self._copying / path.name)
            self._copying.rename(self.kept)
        except OSError:
            shutil.rmtree(self._copying, ignore_errors=True)
            raise

    def put_back(self) -> None:
        """Replace the files of the data set by the copies, and remove files that are new."""
        for path in self._files():
            if not (self.kept / path.name).exists():
                path.unlink()
        self.kept.rename(self._returning)
        self._return()

    def forget(self) -> None:
        """Remove the copies."""
        if self.kept.is_dir():
            shutil.rmtree(self._copying, ignore_errors=True)
            self.kept.rename(self._copying)
        shutil.rmtree(self._copying, ignore_errors=True)

    def set_lost_features_aside(self) -> list[tuple[Path, Path]]:
        """Copy feature files that the data set no longer has into its folder as ``<file>.old``.

        Returns:
            the path of each feature file, and that of its copy.
        """
        lost = set(find_modalities(self.kept, self.name))
        lost -= set(find_modalities(self.folder, self.name))
        aside = []
        for modality in sorted(lost):
            source = feature_path(self.kept, self.name, modality)
            path = feature_path(self.folder, self.name, modality)
            copy = _place_for(source, f"{path}.old")
            if not copy.exists():
                _copy(source, copy)
            aside.append((path, copy))
        return aside

    def _files(self) -> list[Path]:
        """What commands write; other files, such as a yaml of settings, are the user's."""
        patterns = (f"{glob.escape(self.name)}.{ending}" for ending in ENDINGS)
        paths = [path for pattern in patterns for path in self.folder.glob(pattern)]
        return [path for path in paths if path.is_file()]

    def _return(self) -> None:
        for path in self._returning.iterdir():
            self.folder.mkdir(exist_ok=True)
            path.replace(self.folder / path.name)
            path.unlink(missing_ok=True)  # a link to the same file is not renamed
        self._returning.rmdir()
        with contextlib.suppress(OSError):  # it has files
            self.folder.rmdir()


def _copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # file systems without links, files of another user
        shutil.copy2(source, target)


def _place_for(source: Path, path: str) -> Path:
    """The first of ``path``, ``path2``, ``path3``, ... that does not exist or has the same content."""
    names = (Path(f"{path}{number if number > 1 else ''}") for number in count(1))
    return next(
        name for name in names if not name.exists() or filecmp.cmp(name, source, shallow=False)
    )
