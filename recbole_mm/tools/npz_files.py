"""Archives of arrays (``.npz``), read without pickle and in bounded memory, with one error for any
damage."""

import math
import zipfile
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal, NamedTuple

import numpy as np

from recbole_mm.tools.errors import UserError

MOST_EXPANSION = 200
"""Maximum expansion of a compressed byte, beyond the first MiB of an array."""

CHUNK = 1 << 20
LOCAL_HEADER = 30
"""Number of bytes in a member's header in a zip file before the two fields of variable length."""


class NpzError(UserError):
    """An archive that cannot be read; the message names the file, the array and the reason."""


class _Header(NamedTuple):
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype
    n_bytes: int


class NpzFile:
    """The arrays of an archive.

    Args:
        path: path of the file.

    Attributes:
        names: names of the arrays.

    Raises:
        NpzError: the file is not an archive.
    """

    def __init__(self, path):
        self.path = Path(path)
        try:
            with zipfile.ZipFile(self.path) as archive:
                members = archive.infolist()
        except Exception as error:  # zipfile may raise anything for a damaged file
            raise NpzError(
                f"{self.path}: not a readable .npz file, perhaps truncated ({error})"
            ) from error
        self._members = {
            member.filename.removesuffix(".npy"): member
            for member in members
            if member.filename.endswith(".npy")
        }
        self.names = tuple(self._members)

    def read(self, name: str) -> np.ndarray:
        """Read an array of the file.

        Raises:
            NpzError: the array is missing, damaged, contains Python objects, or expands too much.
        """
        return self._with_member(name, self._read)

    def map(self, name: str) -> np.ndarray:
        """Map an array that stays on disk until it is used; a compressed array is read.

        Raises:
            NpzError: see :meth:`read`.
        """
        return self._with_member(name, self._map)

    def _with_member(self, name: str, work: Callable) -> np.ndarray:
        with self._damage(name), zipfile.ZipFile(self.path) as archive:
            member = self._members[name]
            with archive.open(member) as file:
                header = _read_header(file)
                if header.dtype.hasobject:
                    raise NpzError(
                        f"{self.path}: array {name!r} contains Python objects, which are not read: "
                        f"save it with .astype(str) or as numbers"
                    )
                size = header.dtype.itemsize * math.prod(header.shape)
                if size != member.file_size - header.n_bytes:
                    raise ValueError(f"{member.file_size} bytes for the shape {header.shape}")
                if member.file_size > (1 << 20) + MOST_EXPANSION * member.compress_size:
                    raise ValueError(f"it expands over {MOST_EXPANSION} times; use numpy.savez")
                return work(file, member, header)

    @staticmethod
    def _read(file: IO[bytes], _, header: _Header) -> np.ndarray:
        array = np.frombuffer(file.read(), header.dtype)
        return array.reshape(header.shape, order="F" if header.fortran else "C")

    def _map(self, file: IO[bytes], member: zipfile.ZipInfo, header: _Header) -> np.ndarray:
        if member.compress_type != zipfile.ZIP_STORED or not math.prod(header.shape):
            return self._read(file, member, header)
        while file.read(CHUNK):  # to the end, where the checksum is verified
            pass
        with open(self.path, "rb") as raw:
            raw.seek(member.header_offset)
            local = raw.read(LOCAL_HEADER)
        lengths = int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little")
        offset = member.header_offset + LOCAL_HEADER + lengths + header.n_bytes
        order: Literal["C", "F"] = "F" if header.fortran else "C"
        return np.memmap(self.path, header.dtype, "r", offset, header.shape, order)

    @contextmanager
    def _damage(self, name: str):
        try:
            yield
        except NpzError:
            raise
        except KeyError:
            raise NpzError(f"{self.path}: no array {name!r}, it has {list(self.names)}") from None
        except Exception as error:  # zipfile and numpy may raise anything
            reason = f"{error}".strip() or type(error).__name__
            raise NpzError(f"{self.path}: array {name!r} is damaged ({reason})") from error


def _read_header(file: IO[bytes]) -> _Header:
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[version]
    shape, fortran, dtype = read(file)
    if any(length < 0 for length in shape):
        raise ValueError(f"the shape {shape}")
    return _Header(shape, fortran, dtype, file.tell())
