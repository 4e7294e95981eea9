"""The files of an encoder: in a folder, or at one commit of a model on the Hugging Face hub."""

from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple

from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from recbole_mm.prepare.inputs import InputError
from recbole_mm.tools.errors import first_line
from recbole_mm.tools.hashing import sha256_of_file, sha256_of_parts
from recbole_mm.tools.json_files import read_json

MODULES = "modules.json"
"""File from which sentence-transformers loads a model."""
WEIGHTS = {".safetensors", ".bin"}
CONTENT = WEIGHTS | {".jinja", ".json", ".model", ".txt"}
OTHER_FORMATS = {"onnx", "openvino"}
RECORD = "recbole_mm_tuning.json"
"""Record of a tuning, with its date; see :mod:`recbole_mm.prepare.tuned_encoders`."""


class EncoderUnavailable(InputError):
    """An encoder, or the library that runs it, that is missing or cannot be loaded."""


class EncoderFiles(NamedTuple):
    """The location of an encoder.

    Attributes:
        name: a folder, or a model on the hub.
        commit: commit on the hub at which every file is read; ``None``: a folder.
    """

    name: str
    commit: str | None

    def find(self, path: str) -> Path | None:
        """A file by its relative path, downloaded if necessary; ``None`` if it does not exist."""
        if self.commit:
            return _on_hub(self.name, path, self.commit)
        file = Path(self.name, path)
        return file if file.is_file() else None

    def read_json(self, path: str) -> Any:
        """The value of a JSON file, ``None`` if it does not exist.

        Raises:
            InputError: the file is damaged.
        """
        file = self.find(path)
        return None if file is None else read_json(file, InputError)

    def weights(self) -> str:
        """The commit, or the names and hashes of the weights in the folder itself."""
        if self.commit:
            return self.commit
        paths = sorted(path for path in Path(self.name).iterdir() if path.suffix in WEIGHTS)
        return ",".join(f"{path.name}:{sha256_of_file(path)[:16]}" for path in paths)

    def content(self) -> str:
        """The commit, or one hash of all weights, settings and vocabularies in the folder tree."""
        if self.commit:
            return self.commit
        folder = Path(self.name)
        names = {path.relative_to(folder) for path in folder.rglob("*") if path.suffix in CONTENT}
        kept = sorted(name.as_posix() for name in names if not _is_aside(name))
        parts = (f"{name}\0{sha256_of_file(folder / name)}\0" for name in kept)
        return f"sha256:{sha256_of_parts(parts)[:16]}"


def open_files(name: str, revision: str | None = None) -> EncoderFiles:
    """The files of an encoder.

    Args:
        name: a folder, or a model on the hub.
        revision: commit, branch or tag on the hub; ``None``: the latest.

    Raises:
        EncoderUnavailable: there is no such model, or the hub cannot be reached.
    """
    if Path(name).is_dir():
        return EncoderFiles(name, None)
    for path in (MODULES, "config.json"):
        file = _on_hub(name, path, revision)
        if file is not None:
            return EncoderFiles(name, file.parent.name)
    raise EncoderUnavailable(
        f"encoder '{name}' cannot be loaded: it has neither {MODULES} nor config.json."
    )


def _on_hub(name: str, path: str, revision: str | None) -> Path | None:
    try:
        return Path(hf_hub_download(name, path, revision=revision))
    except EntryNotFoundError as error:
        unknown = isinstance(error, LocalEntryNotFoundError)
        if not unknown or (constants.HF_HUB_OFFLINE and path != "config.json"):
            return None
        raise cannot_be_loaded(name, error) from error
    except Exception as error:  # the client's libraries raise many types
        raise cannot_be_loaded(name, error) from error


def cannot_be_loaded(name: str, error: Exception) -> EncoderUnavailable:
    """The user error for any exception of a library."""
    reason = first_line(error).rstrip(".")
    if "ignore_mismatched_sizes" in reason:  # transformers advises training what does not fit
        reason = "the shapes of its weights differ from its config.json"
    if isinstance(error, UnpicklingError):  # torch advises executing it
        reason = "its weights are a pickle of more than tensors, which is not executed"
    if isinstance(error, LocalEntryNotFoundError):
        reason = _why_not_here()
    example = "" if "/" in name else ", such as sentence-transformers/all-MiniLM-L6-v2"
    return EncoderUnavailable(
        f"encoder '{name}' cannot be loaded: {reason}. Name a folder with a saved model, or "
        f"{'another' if '/' in name else 'a'} model on the Hugging Face hub{example}."
    )


def _why_not_here() -> str:
    absent = "it is not a folder, nor a model downloaded from the Hugging Face hub before"
    if constants.HF_HUB_OFFLINE:
        return f"{absent}; HF_HUB_OFFLINE is set, so nothing is downloaded: unset it to download"
    return f"{absent}; the hub cannot be reached, or has no such model"


def _is_aside(name: Path) -> bool:
    """Whether no vector depends on a file: other formats, hidden files, the record of a tuning."""
    other = any(part in OTHER_FORMATS or part.startswith(".") for part in name.parts)
    return other or name.name == RECORD
