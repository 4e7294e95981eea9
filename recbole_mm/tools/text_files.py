"""The only reader of text files, in UTF-8."""

from pathlib import Path

from recbole_mm.tools.errors import UserError


def read_text(path, error: type[UserError] = UserError, most_bytes: int | None = None) -> str:
    """The text of a file, without a byte order mark.

    Args:
        path: path of the file.
        error: class of the error for a file that cannot be used.
        most_bytes: maximum size of the file in bytes; ``None`` for no limit.

    Raises:
        UserError: (type ``error``) the file cannot be opened, is not UTF-8 (the message names the
            line) or is too large.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(-1 if most_bytes is None else most_bytes + 1)
    except OSError as reason:
        raise error(f"{path}: {reason.strerror}") from None
    if most_bytes is not None and len(content) > most_bytes:
        raise error(f"{path}: larger than {most_bytes:,} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as reason:
        line = content[: reason.start].count(b"\n") + 1
        raise error(
            f"{path}: not in UTF-8, line {line} ({reason}). Save it in that encoding"
        ) from None
