"""The folders of data sets: which exist, and what helps where one does not."""

import re
from pathlib import Path

from recbole_mm.prepare.catalog import Lacking, how_to_create
from recbole_mm.prepare.inputs import InputError
from recbole_mm.prepare.making import command_to_resume
from recbole_mm.tools.file_names import is_portable

USABLE_NAME = re.compile(r"\w[\w .+-]*")


def refuse_unusable_name(name: str) -> None:
    """The name of a data set becomes that of a folder, of files, and a part of tokens in mixtures.

    Raises:
        InputError: it cannot.
    """
    if not USABLE_NAME.fullmatch(name) or not is_portable(name):
        raise InputError(
            f"{name!r} cannot be the name of a data set: it starts with a letter or a digit, has "
            f"letters, digits, blanks and . _ + - only, ends with none of blank and dot, and is not a "
            f"device of Windows (CON, NUL, AUX, COM1, ...). Give it another one with --name=NAME."
        )


def dataset_folder(root, name: str) -> Path:
    """The folder of a prepared data set, ``<root>/<name>``.

    Raises:
        InputError: it holds no interactions. The message names similar data sets, those that exist
            and the command that creates this one.
    """
    root = Path(root)
    interactions = root / name / f"{name}.inter"
    if not interactions.is_file():
        lacking = Lacking(name, root, interactions, command_to_resume(root, name))
        raise InputError("\n".join(how_to_create(lacking, "--output")))
    return root / name


def require_finished(root, name: str) -> Path:
    """The folder of a prepared data set, which no interrupted command has left half written.

    Raises:
        InputError: as :func:`dataset_folder`, or its creation was interrupted.
    """
    folder = dataset_folder(root, name)
    resume = command_to_resume(root, name)
    if resume:
        lacking = Lacking(name, Path(root), None, resume)
        raise InputError("\n".join(how_to_create(lacking, "--output")))
    return folder
