"""Which file a name from outside may mean, and which names every system can give to a file."""

import re
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from recbole_mm.tools.errors import UserError
from recbole_mm.tools.hashing import sha256_of_parts

LONGEST_NAME = 255
"""Bytes of a file's name that usual file systems take."""

LONGEST_LABEL = 100
"""Characters of a name that gets endings."""
PLAIN_TOKEN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
DEVICE = re.compile(
    r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|COM[0-9¹²³]|LPT[0-9¹²³]) *(\..*)?", re.IGNORECASE
)
"""Names that Windows gives to devices, whatever their ending."""
ILLEGAL = re.compile(r'[\0-\x1f<>:"/\\|?*]')
"""Characters that Windows has in no file name."""


class UnsafeName(UserError):
    """A name that must not be opened as a file."""


def safe_names(tokens: Iterable[str]) -> dict[str, str]:
    """The file names, without endings, of items; never paths, and names on every system.

    Tokens of up to 100 letters, digits and ``._-`` are their own names, unless another token differs
    from them in the case of letters only. Any other becomes what is left of it and a hash, so that
    different tokens have different names.
    """
    tokens = list(dict.fromkeys(tokens))
    same = Counter(token.casefold() for token in tokens)
    return {
        token: token if same[token.casefold()] == 1 and _is_plain(token) else _hashed(token)
        for token in tokens
    }


def _is_plain(token: str) -> bool:
    return PLAIN_TOKEN.fullmatch(token) is not None and is_portable(token)


def _hashed(token: str) -> str:
    kept = re.sub(r"[^A-Za-z0-9_-]+", "_", token)[:40]
    encodable = token.encode("utf-8", "backslashreplace").decode()
    return f"{kept}~{sha256_of_parts([encodable])[:16]}"


def is_portable(name: str) -> bool:
    """Whether every usual system can give this name to a file or a folder."""
    return bool(
        name.strip(". ")
        and not ILLEGAL.search(name)
        and not DEVICE.fullmatch(name)
        and name[-1] not in ". "
        and len(name.encode("utf-8", "replace")) <= LONGEST_NAME
    )


def label_as_name(label: str) -> str:
    """A label as part of the name of a file; different labels may have the same one."""
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in label)[:LONGEST_LABEL]


def hidden_beside(path: Path, ending: str) -> Path:
    """The hidden file that belongs to another one in the same folder: its name and an ending."""
    name = f".{path.name}{ending}"
    if len(name.encode("utf-8", "replace")) > LONGEST_NAME:
        name = f".{path.name[:40]}~{sha256_of_parts([path.name])[:16]}{ending}"
    return path.with_name(name)


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
    if sys.platform == "win32" and not all(map(is_portable, parts)):
        raise UnsafeName(f"{name!r} cannot be the name of a file on Windows")
    return Path(folder, name)
