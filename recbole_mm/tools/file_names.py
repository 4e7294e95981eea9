"""Which file a name from outside may mean: an item token, or the image field of an item."""

import re
from pathlib import Path, PurePosixPath

from recbole_mm.tools.errors import UserError
from recbole_mm.tools.hashing import sha256_of_parts

LONGEST_NAME = 255
"""Bytes of a file's name that usual file systems take."""

PLAIN_TOKEN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")


class UnsafeName(UserError):
    """A name that must not be opened as a file."""


def safe_name(token: str) -> str:
    """The file name, without its ending, of an item; never a path.

    Tokens of up to 100 letters, digits and ``._-`` are their own names. Any other becomes what is
    left of it and a hash, so that different tokens have different names.
    """
    if PLAIN_TOKEN.fullmatch(token):
        return token
    kept = re.sub(r"[^A-Za-z0-9_-]+", "_", token)[:40]
    encodable = token.encode("utf-8", "backslashreplace").decode()
    return f"{kept}~{sha256_of_parts([encodable])[:16]}"


def path_inside(folder, name: str) -> Path:
    """The file of this name in the folder, or in a folder below it.

    Raises:
        UnsafeName: the name is absolute, leads out of the folder, or cannot be the name of a file.
    """
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or parts[0] == "/" or ".." in parts or re.match(r"[A-Za-z]:", parts[0]):
        raise UnsafeName(f"{name!r} is not a file in the folder {folder}")
    if "\0" in name or any(len(part.encode("utf-8", "replace")) > LONGEST_NAME for part in parts):
        raise UnsafeName(
            f"{name[:40]!r}... cannot be the name of a file: it has over {LONGEST_NAME} bytes or a "
            f"zero byte"
        )
    return Path(folder, name)
