"""Safe use of external names as file names, and names that are valid on every system."""

import re
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from recbole_mm.tools.errors import UserError
from recbole_mm.tools.hashing import sha256_of_parts

LONGEST_NAME = 255
"""Maximum number of bytes in a file name on common file systems."""

LONGEST_LABEL = 100
"""Maximum number of characters in a name to which endings are added."""
PLAIN_TOKEN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
DEVICE = re.compile(
    r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|COM[0-9¹²³]|LPT[0-9¹²³]) *(\..*)?", re.IGNORECASE
)
"""Names that Windows reserves for devices, with any ending."""
ILLEGAL = re.compile(r'[\0-\x1f<>:"/\\|?*]')
"""Characters that Windows does not allow in file names."""


class UnsafeName(UserError):
    """A name that must not be opened as a file."""


def safe_names(tokens: Iterable[str]) -> dict[str, str]:
    """File names for items, without endings; they are never paths, and valid on every system.

    Tokens of up to 100 letters, digits and ``._-`` are used unchanged, unless another token differs
    only in the case of letters. For any other token, invalid characters are replaced and a hash is
    added, so that different tokens have different names.
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
    """Whether every common system allows this name for a file or a folder."""
    return bool(
        name.strip(". ")
        and not ILLEGAL.search(name)
        and not DEVICE.fullmatch(name)
        and name[-1] not in ". "
        and len(name.encode("utf-8", "replace")) <= LONGEST_NAME
    )


def label_as_name(label: str) -> str:
    """A label as part of a file name; different labels may become the same name."""
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in label)[:LONGEST_LABEL]


def hidden_beside(path: Path, ending: str) -> Path:
    """The hidden file that accompanies another one in the same folder, with its name and an
    ending."""
    name = f".{path.name}{ending}"
    if len(name.encode("utf-8", "replace")) > LONGEST_NAME:
        name = f".{path.name[:40]}~{sha256_of_parts([path.name])[:16]}{ending}"
    return path.with_name(name)


def path_inside(folder, name: str) -> Path:
    """The file of this name in the folder, or in one of its subfolders.

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
