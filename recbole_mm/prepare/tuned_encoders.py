"""The record of an encoder that recbole-mm tune-encoder has tuned: what it was tuned from, and on."""

from pathlib import Path
from typing import Any

from recbole_mm.data.seen_split import is_split_record
from recbole_mm.prepare.encoder_files import RECORD, EncoderFiles
from recbole_mm.prepare.inputs import InputError
from recbole_mm.tools.hashing import sha256_of_file
from recbole_mm.tools.records import read_record, write_record


def write_tuning(folder, record: dict[str, Any]) -> None:
    """Write the record next to the weights that it describes.

    Args:
        folder: complete folder of the encoder.
        record: record with a ``split``, see :func:`~recbole_mm.data.seen_split.split_record`.
    """
    write_record(Path(folder, RECORD), {**record, "weights": _hashes(folder)})


def read_tuning(files: EncoderFiles) -> dict[str, Any] | None:
    """The record of an encoder's tuning; ``None``: recbole-mm tune-encoder has not tuned it.

    Raises:
        InputError: the file is not such a record, or describes other weights than those next to it.
        UserError: the record has changed since it was written.
    """
    path = files.find(RECORD)
    if path is None:
        return None
    record = read_record(path)
    if not isinstance(record, dict) or not is_split_record(record.get("split")):
        raise InputError(f"{path}: not a record of recbole-mm tune-encoder; tune the encoder again")
    if files.commit is None and record.get("weights") != _hashes(files.name):
        raise InputError(
            f"{path}: it describes other weights than those in the folder, so the events that they "
            f"have seen are unknown; tune the encoder again"
        )
    return record


def _hashes(folder) -> dict[str, str]:
    """Hashes of the files with weights, by their paths in the folder."""
    folder = Path(folder)
    paths = sorted(folder.rglob("*.safetensors"))
    return {path.relative_to(folder).as_posix(): sha256_of_file(path) for path in paths}
