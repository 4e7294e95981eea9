"""The folders of data sets: which exist, and help for one that does not."""

import os
import re
from pathlib import Path

from recbole_mm.prepare.catalog import Lacking, how_to_create
from recbole_mm.prepare.inputs import InputError
from recbole_mm.prepare.making import command_to_resume
from recbole_mm.tools.file_names import is_portable
from recbole_mm.tools.files import require_writable

USABLE_NAME = re.compile(r"\w[\w .+-]*")


def refuse_unusable_name(name: str) -> None:
    """Check that a name can be that of a folder and of files, and a part of tokens in mixtures.

    Raises:
        InputError: the name is unusable.
    """
    if not USABLE_NAME.fullmatch(name) or not is_portable(name):
        raise InputError(
            f"{name!r} cannot be the name of a data set: a name starts with a letter or a digit, "
            f"has only letters, digits, blanks and . _ + -, does not end with a blank or a dot, "
            f"and is not a Windows device (CON, NUL, AUX, COM1, ...). Choose another one with "
            f"--name=NAME."
        )


def require_writable_folders(root, *names: str) -> None:
    """Check that files can be written into the folder of the data sets and into those of some data
    sets; see :func:`require_creatable`.

    Raises:
        UserError: files cannot be written there.
    """
    for folder in (Path(root), *(Path(root) / name for name in names)):
        require_creatable(folder, "Give another --output, or change its permissions")


def require_creatable(folder, fix: str) -> None:
    """Check that files can be written into a folder, which is not created: without it, its nearest
    parent is checked.

    Args:
        folder: its path.
        fix: what to do if that fails.

    Raises:
        UserError: it cannot be done.
    """
    existing = Path(folder).absolute()
    while not os.path.lexists(existing):
        existing = existing.parent
    require_writable(existing, fix)


def dataset_folder(root, name: str) -> Path:
    """The folder of a prepared data set, ``<root>/<name>``.

    Raises:
        InputError: the folder holds no interactions. The message names similar data sets, those
            that exist and the command that creates this one.
    """
    root = Path(root)
    interactions = root / name / f"{name}.inter"
    if not interactions.is_file():
        lacking = Lacking(name, root, interactions, command_to_resume(root, name))
        raise InputError("\n".join(how_to_create(lacking, "--output")))
    return root / name


def require_finished(root, name: str) -> Path:
    """The folder of a prepared data set that no interrupted command has left incomplete.

    Raises:
        InputError: see :func:`dataset_folder`; or its creation was interrupted.
    """
    folder = dataset_folder(root, name)
    resume = command_to_resume(root, name)
    if resume:
        lacking = Lacking(name, Path(root), None, resume)
        raise InputError("\n".join(how_to_create(lacking, "--output")))
    return folder
