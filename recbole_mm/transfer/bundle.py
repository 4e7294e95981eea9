r"""A bundle: a folder with a trained model and its items, which can be shared and executes nothing.

================== ====================================================================
config.json        model, configuration, how features were made, data, metrics
model.safetensors  parameters and buffers
items.safetensors  of every modality ``<modality>.feature`` ``(n, F)`` float16 (float32 where
                   the values do not fit), ``<modality>.present`` ``(n,)`` bool and, for the
                   embedded extractor, its space; ``counts`` ``(n,)`` int64, training
                   interactions; ``popularity`` ``(n,)`` int64, interactions in the whole data
                   set; ``offered`` ``(n,)`` bool; row 0 is the padding item
items.json         outside ids and, if they are known, titles (``title``) and names of pictures (``image``)
README.md          the model card
manifest.json      format version, sizes and SHA-256 of the files above except README.md
================== ====================================================================

File names are fixed; none is read from a file. Tensors are read by safetensors, which uses no more
memory than the size of the file.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from recbole_mm.data.feature_files import SPACE
from recbole_mm.data.training_data import Record, recorded
from recbole_mm.tools.errors import UserError
from recbole_mm.tools.files import whole_or_not, write_json
from recbole_mm.tools.hashing import sha256_of_file
from recbole_mm.tools.json_text import parse_json
from recbole_mm.tools.torch_files import CannotSave

FORMAT = "recbole_mm bundle"
VERSION = 1
MANIFEST, CONFIG, MODEL = "manifest.json", "config.json", "model.safetensors"
ITEMS, TOKENS, CARD = "items.safetensors", "items.json", "README.md"
HASHED = (CONFIG, MODEL, ITEMS, TOKENS)
ONNX_FOLDER = "onnx"
"""Folder of a bundle for the files of :mod:`recbole_mm.recommend.onnx_files`."""
LARGEST_TEXT = 1 << 20
"""Maximum size of the manifest and of config.json, in bytes."""


class BundleError(UserError):
    """A folder that is not a bundle, or a damaged or too new one."""


class Bundle(NamedTuple):
    """The content of a bundle.

    Attributes:
        config: content of ``config.json``, with the name of the model (``model``) and its
            configuration (``config``).
        state: parameters and buffers by name.
        items: tensors of ``items.safetensors``.
        tokens: content of ``items.json``, with the outside ids (``item``), the padding item first.
    """

    config: dict
    state: dict[str, Tensor]
    items: dict[str, Tensor]
    tokens: dict

    def space_of(self, modality: str) -> dict[str, np.ndarray]:
        """Arrays of the space of the embedded extractor by name, ``{}`` if there are none."""
        prefix = f"{modality}.{SPACE}"
        named = {name: tensor for name, tensor in self.items.items() if name.startswith(prefix)}
        return {name[len(prefix) :]: tensor.numpy() for name, tensor in named.items()}


def is_bundle(path) -> bool:
    """Whether the path is a folder that has the manifest of a bundle, or looks like one."""
    path = Path(path)
    return path.is_dir() and any((path / name).is_file() for name in (MANIFEST, MODEL))


def write_bundle(folder, bundle: Bundle, card: str) -> None:
    """Write a bundle into a folder; the manifest comes last, so that an unfinished one is refused.

    Args:
        folder: folder of the bundle, created if it does not exist.
        bundle: content of the bundle.
        card: text of README.md.

    Raises:
        OSError: a file cannot be written.
        CannotSave: safetensors cannot write a file.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    for name, tensors in ((MODEL, bundle.state), (ITEMS, bundle.items)):
        try:
            with whole_or_not(folder / name) as temporary:
                save_file(_with_own_memory(tensors), temporary, metadata={"format": "pt"})
        except SafetensorError as error:
            raise CannotSave(
                f"{folder / name} cannot be written ({error}): is the disk full? Free some space or "
                f"give another folder"
            ) from error
    write_json(folder / CONFIG, bundle.config)
    write_json(folder / TOKENS, bundle.tokens)
    with whole_or_not(folder / CARD) as temporary:
        temporary.write_text(card, encoding="utf-8")
    files = {
        name: {"bytes": (folder / name).stat().st_size, "sha256": sha256_of_file(folder / name)}
        for name in HASHED
    }
    write_json(folder / MANIFEST, {"format": FORMAT, "version": VERSION, "files": files})


def _with_own_memory(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU; one that shares its memory, which safetensors refuses, is copied."""
    seen, own = set(), {}
    for key, tensor in tensors.items():
        given = tensor.detach().cpu().contiguous()
        memory = given.untyped_storage()
        if memory.data_ptr() in seen or memory.nbytes() > given.nbytes:
            given = given.clone()
        seen.add(memory.data_ptr())
        own[key] = given
    return own


def read_bundle(folder) -> Bundle:
    """Read a bundle; nothing in it is executed.

    Raises:
        BundleError: the folder is not a bundle, a file is missing or damaged, or the format is newer.
    """
    folder = Path(folder)
    _check_files(folder)
    tokens = _read_json(folder / TOKENS, None)
    return Bundle(_read_config(folder), _tensors(folder / MODEL), _tensors(folder / ITEMS), tokens)


def read_parameters(folder) -> tuple[dict, dict[str, Tensor], dict, list[Record]]:
    """The configuration with the name of the ``model``, the parameters, how the features were made,
    and the records of the training data; see :func:`read_bundle`."""
    folder = Path(folder)
    _check_files(folder)
    described = _read_config(folder)
    config = {**described["config"], "model": described["model"]}
    features = described.get("features")
    features = features if isinstance(features, dict) else {}
    return config, _tensors(folder / MODEL), features, _training_data(described)


def _training_data(described: dict) -> list[Record]:
    facts = described.get("facts")
    return recorded(facts.get("training_data") if isinstance(facts, dict) else None)


def what_is_missing(path) -> str:
    """Why a model cannot start from a path, in words that follow the path; empty for a file, and
    for a folder with the manifest of a bundle."""
    path = Path(path)
    if path.is_file() or (path / MANIFEST).is_file():
        return ""
    if not path.is_dir():
        return "does not exist"
    missing = [name for name in (MANIFEST, *HASHED) if not (path / name).is_file()]
    return (
        f"is a folder without the files of a bundle: it lacks {', '.join(missing)}; give a checkpoint "
        f"(.pth), or a folder that recbole-mm export has written"
    )


def hashed_file(path) -> Path:
    """The file whose content identifies a checkpoint or a bundle."""
    return Path(path) / MANIFEST if is_bundle(path) else Path(path)


def _check_files(folder: Path) -> None:
    manifest = _read_json(folder / MANIFEST, LARGEST_TEXT)
    if manifest.get("format") != FORMAT or not isinstance(manifest.get("version"), int):
        raise BundleError(f"{folder / MANIFEST}: not the manifest of a {FORMAT}")
    if manifest["version"] > VERSION:
        raise BundleError(
            f"{folder}: a bundle of format version {manifest['version']}; this release of recbole_mm "
            f"reads versions up to {VERSION}: upgrade it (pip install -U recbole_mm)"
        )
    files = manifest.get("files")
    if not isinstance(files, dict) or set(files) != set(HASHED):
        raise BundleError(f"{folder / MANIFEST}: damaged: its files are not {', '.join(HASHED)}")
    for name, known in files.items():
        path = folder / name
        if not path.is_file():
            raise BundleError(f"{path} is missing from the bundle")
        same = isinstance(known, Mapping) and path.stat().st_size == known.get("bytes")
        if not same or sha256_of_file(path) != known.get("sha256"):
            raise BundleError(
                f"{path}: damaged: its content has changed since the bundle was written. "
                f"Copy or download it again"
            )


def _read_config(folder: Path) -> dict:
    path = folder / CONFIG
    config = _read_json(path, LARGEST_TEXT)
    if not isinstance(config.get("model"), str) or not isinstance(config.get("config"), dict):
        raise BundleError(f"{path}: it does not name a model and its configuration")
    return config


def _read_json(path: Path, most_bytes: int | None) -> dict:
    if not path.is_file():
        raise BundleError(f"{path} is missing: {path.parent} is not a bundle of recbole_mm")
    if most_bytes and path.stat().st_size > most_bytes:
        raise BundleError(f"{path}: {path.stat().st_size:,} bytes; the limit is {most_bytes:,}")
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BundleError(f"{path}: damaged: not JSON ({error})") from error
    if not isinstance(content, dict):
        raise BundleError(f"{path}: damaged: not a JSON object")
    return content


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path}: damaged: not a safetensors file ({error})") from error
