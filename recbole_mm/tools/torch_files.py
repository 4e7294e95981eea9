"""torch files: plain tensors read in bounded memory, written as a whole or not at all."""

import os
import warnings
import zipfile
from collections.abc import Mapping
from contextlib import contextmanager
from pickle import UnpicklingError

import torch
from torch import Tensor

from recbole_mm.tools.errors import RunFailed, UserError, first_line
from recbole_mm.tools.files import whole_or_not


class TorchFileError(UserError):
    """A torch file that cannot be read; the message does not name the file."""


class NotPlainData(TorchFileError):
    """A file whose pickle contains more than plain data, or is damaged."""


class CannotSave(RunFailed):
    """A file that cannot be written, e.g. for lack of space."""


def read_torch(path, pickle_module=None):
    """Read a file written by ``torch.save``; its tensors are mapped from the file.

    Args:
        path: path of the file.
        pickle_module: module that unpickles the file; ``None``: torch's own reader of plain data.

    Raises:
        TorchFileError: the file is not a torch archive, is compressed (its content could have any
            size), contains a program, is damaged, or contains more than plain data
            (:class:`NotPlainData`).
    """
    try:
        check_archive(path)
        safely = pickle_module is None
        options = {} if safely else {"pickle_module": pickle_module}
        with any_pickle_protocol():
            return torch.load(path, map_location="cpu", mmap=True, weights_only=safely, **options)
    except TorchFileError:
        raise
    except Exception as error:  # a damaged file may make torch raise anything
        if isinstance(error, UnpicklingError) and pickle_module is None:
            # torch's own message advises executing it
            raise NotPlainData("its pickle contains more than plain data, or is damaged") from error
        raise TorchFileError(first_line(error)) from error


@contextmanager
def any_pickle_protocol():
    """Let torch read the pickle protocol of RecBole's trainers without a warning within the
    block."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning)
        yield


def pickle_has(path, text: bytes) -> bool:
    """Whether the pickle of a torch file contains a text; the pickle is not executed."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            return any(text in archive.read(name) for name in names)
    except (OSError, zipfile.BadZipFile):
        return False


def save_torch(content, path) -> None:
    """Write a torch file; if that fails, an existing file is not changed.

    Equal contents produce equal bytes.

    Raises:
        CannotSave: the disk is full, or the file cannot be written.
    """
    with saving(path) as temporary, open(temporary, "wb") as file:
        torch.save(content, file)  # given a path, it would write its name into the file


@contextmanager
def saving(path):
    """A temporary file next to ``path`` to write a torch file to; it replaces ``path`` if the block
    succeeds.

    Raises:
        CannotSave: see :func:`save_torch`.
    """
    try:
        with whole_or_not(path) as temporary:
            yield temporary
    except (OSError, RuntimeError) as error:  # torch's own writer raises the latter
        if isinstance(error, RunFailed):
            raise
        raise CannotSave(
            f"{path} cannot be written ({first_line(error)}): is the disk full? Free some space or give "
            f"another --checkpoint_dir. An earlier file of this name is unchanged"
        ) from error


def check_archive(path) -> None:
    """Refuse a file that is damaged, whose content could have any size, or that contains a program;
    its pickle is not read.

    Raises:
        TorchFileError: see :func:`read_torch`.
        FileNotFoundError: there is no such file.
    """
    try:
        _check_members(path)
    except (TorchFileError, FileNotFoundError):
        raise
    except Exception as error:  # a damaged file may make zipfile raise anything
        raise TorchFileError(first_line(error)) from error


def _check_members(path) -> None:
    if os.path.exists(path) and not zipfile.is_zipfile(path):
        raise TorchFileError(
            "it is not a torch archive, or it is truncated; a file of torch before 1.6 must be "
            "saved again by a newer version"
        )
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        # torch.load would pass it to torch.jit.load, regardless of the pickle module
        if any(member.filename.rpartition("/")[2] == "constants.pkl" for member in members):
            raise TorchFileError("it is a TorchScript archive, which contains code")
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise TorchFileError("it is compressed")
        damaged = archive.testzip()
    if damaged:
        raise TorchFileError(f"{damaged} is damaged")


def tensor_fault(tensor) -> str | None:
    """A description of why a tensor of a file cannot be used; ``None`` if it can."""
    if not isinstance(tensor, Tensor) or tensor.layout != torch.strided or tensor.is_quantized:
        return "not a plain tensor"
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return "larger than the numbers in the file"
    return None if bool(tensor.isfinite().all()) else "NaN or infinite values"


def refuse_unusable(tensors: Mapping[str, Tensor], origin: str, error: type[UserError]) -> None:
    """Refuse parameters that no model should start from.

    Args:
        tensors: parameters by name.
        origin: origin of the parameters, for the message.
        error: type of the error.

    Raises:
        UserError: (type ``error``) a value is not a tensor, NaN or infinite.
    """
    faults = {name: fault for name, value in tensors.items() if (fault := tensor_fault(value))}
    if faults:
        name, fault = next(iter(faults.items()))
        raise error(
            f"{origin}: {len(faults)} of its {len(tensors)} parameters cannot be used, e.g. {name}: "
            f"{fault}. Train it again; if the loss became NaN, lower learning_rate or set "
            f"clip_grad_norm"
        )
