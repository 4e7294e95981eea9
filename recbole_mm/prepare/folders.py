"""The folders of data sets: which exist, and what helps where one does not."""

import re
from pathlib import Path

from recbole_mm.prepare.catalog import datasets_in
from recbole_mm.prepare.inputs import InputError
from recbole_mm.tools.names import nearest

USABLE_NAME = re.compile(r"\w[\w .+-]*")


def refuse_unusable_name(name: str) -> None:
    """The name of a data set becomes that of a folder, of files, and a part of tokens in mixtures.

    Raises:
        InputError: it cannot.
    """
    if not USABLE_NAME.fullmatch(name) or name.endswith((" ", ".")):
        raise InputError(
            f"{name!r} cannot be the name of a data set: it starts with a letter or a digit and has "
            f"letters, digits, blanks and . _ + - only. Give it another one with --name=NAME."
        )


def dataset_folder(root, name: str) -> Path:
    """The folder of a prepared data set, ``<root>/<name>``.

    Raises:
        InputError: it holds no interactions. The message names similar data sets, those that exist
            and the commands that create one.
    """
    folder = Path(root) / name
    if (folder / f"{name}.inter").is_file():
        return folder
    existing = datasets_in(root)
    near = nearest(name, existing)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise InputError(
        f"data set {name!r}: {folder / name}.inter does not exist; {hint}"
        f"Data sets in {root}: {', '.join(existing) or 'none'} (another folder: --output=FOLDER). "
        f"Create one from your own tables with: recbole-mm prepare FOLDER (or with recbole-mm amazon "
        f"or convert)."
    )
