"""A trained model as a bundle (:mod:`recbole_mm.transfer.bundle`), and back."""

import math
from contextlib import contextmanager
from pathlib import Path
from typing import TypeGuard

import polars as pl
import torch
from torch import Tensor

from recbole_mm.config.models import known_models, source_of
from recbole_mm.config.property_files import keys_in, model_files
from recbole_mm.data.feature_files import SPACE
from recbole_mm.data.features import ItemFeatures, all_finite
from recbole_mm.data.training_data import well_formed
from recbole_mm.recommend.catalog import Catalog
from recbole_mm.recommend.checkpoint import WITHOUT_TRAINING, Opened, build_model
from recbole_mm.recommend.item_details import picture_names
from recbole_mm.run.identity import package_version
from recbole_mm.tools.errors import UserError
from recbole_mm.tools.files import require_writable, scratch_folder
from recbole_mm.tools.hashing import sha256_of_file
from recbole_mm.transfer.bundle import (
    CARD,
    HASHED,
    MANIFEST,
    ONNX_FOLDER,
    Bundle,
    BundleError,
    is_bundle,
    read_bundle,
)

PARTS = (*HASHED, MANIFEST, CARD, ONNX_FOLDER)
"""Files and folders of a bundle."""
KEPT_KEYS = (
    "modalities", "USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD", "LIST_SUFFIX",
    "ITEM_LIST_LENGTH_FIELD", "NEG_PREFIX", "MAX_ITEM_LIST_LENGTH", "eval_batch_size",
    "feature_transform", "feature_dimension", "transform_per_domain", "domains",
)  # fmt: skip
"""Keys that a bundle holds in addition to those of the model's property file."""


def kept_keys(model: str) -> set[str]:
    """Keys of the configuration that a bundle of the model may hold."""
    return set(KEPT_KEYS).union(*map(keys_in, model_files(model)))


def bundle_of(opened: Opened) -> Bundle:
    """Everything needed to recommend without the data set."""
    model, catalog, plain = opened.model, opened.catalog, opened.config
    keys = kept_keys(plain["model"])
    config = {key: value for key, value in plain.items() if key in keys}
    config |= {key: value for key, value in WITHOUT_TRAINING.items() if key in config}
    items: dict[str, Tensor] = {
        "counts": catalog.counts,
        "popularity": catalog.popularity,
        "offered": catalog.offered,
    }
    for modality, features in catalog.features.items():
        items[f"{modality}.feature"] = _small(features.values)
        items[f"{modality}.present"] = features.present
        for name, array in catalog.spaces.get(modality, {}).items():
            items[f"{modality}.{SPACE}{name}"] = torch.tensor(array)
    tokens: dict = {"item": catalog.tokens.to_list()}
    if catalog.titles is not None:
        tokens["title"] = catalog.titles.to_list()
    pictures = picture_names(catalog, None if opened.splits is None else opened.config)
    if pictures is not None:
        tokens["image"] = pictures.to_list()
    described = {
        "recbole_mm": package_version("recbole_mm"),
        "model": plain["model"],
        "config": config,
        "features": catalog.info,
        "facts": opened.facts,
    }
    return Bundle(described, dict(model.state_dict()), items, tokens)


def open_bundle(folder, device=None) -> Opened:
    """The model of a bundle.

    Args:
        folder: folder of the bundle.
        device: see :func:`~recbole_mm.recommend.checkpoint.open_checkpoint`.

    Raises:
        BundleError: the folder is not a bundle, is damaged, has a newer format, or its parts do not
            fit together.
        UserError: the configuration has impossible values.
    """
    folder = Path(folder)
    bundle = read_bundle(folder)
    name, config = bundle.config["model"], bundle.config["config"]
    if not isinstance(name, str) or source_of(name) is None:
        raise BundleError(f"{folder}: a bundle of {name!r}; known models are {known_models()}")
    unknown = sorted(set(config) - kept_keys(name))
    if unknown:
        raise BundleError(f"{folder}: its configuration has {unknown}, which {name} does not read")
    catalog = _catalog_of(bundle, folder)
    plain = {**config, "model": name, "dataset": folder.name, "modalities": list(catalog.features)}
    model = build_model(plain, catalog, bundle.state, device, str(folder))
    facts = well_formed_facts(bundle.config.get("facts"))
    return Opened(model, catalog, plain, facts, sha256_of_file(folder / MANIFEST))


@contextmanager
def whole_folder_or_not(folder, overwrite: bool):
    """A temporary folder next to ``folder``, moved to its place if the block succeeds.

    Raises:
        UserError: the folder exists and ``overwrite`` is not set, it is not a bundle, or it has
            other files.
    """
    folder = Path(folder)
    require_writable(folder.parent, "Give another folder")
    if folder.exists():
        if not overwrite:
            raise UserError(f"{folder} exists; give another folder, or --overwrite to replace it")
        if not is_bundle(folder):
            raise UserError(f"{folder} is not a bundle and is not replaced; give another folder")
        others = sorted(path.name for path in folder.iterdir() if path.name not in PARTS)
        if others:
            raise UserError(
                f"{folder} has files that are not of a bundle and would be lost, e.g. {others[0]!r}; move "
                f"them, or give another folder"
            )
    with scratch_folder(folder.parent, f".{folder.name}-") as scratch:
        yield scratch / "new"
        if folder.exists():
            folder.rename(scratch / "old")
        (scratch / "new").rename(folder)


def well_formed_facts(facts) -> dict:
    """What a stored bundle records about its training, as far as it has the form that we write."""
    if not isinstance(facts, dict):
        return {}
    known = {
        "data": lambda value: (
            isinstance(value.get("name"), str)
            and all(type(value.get(key)) is int for key in ("users", "items", "interactions"))
        ),
        "protocol": lambda value: all(isinstance(text, str) for text in value.values()),
        "validation": lambda value: all(map(_is_number, value.values())),
        "test": lambda value: all(
            isinstance(row, dict)
            and _is_number(row.get("value"))
            and _is_interval(row.get("low"), row.get("high"))
            for row in value.values()
        ),
    }
    found = {
        key: facts[key]
        for key, is_well_formed in known.items()
        if isinstance(facts.get(key), dict) and is_well_formed(facts[key])
    }
    records = well_formed(facts.get("training_data"))
    return found | ({"training_data": records} if records else {})


def _is_interval(low, high) -> bool:
    """Whether both bounds are given, or neither."""
    return (low is None and high is None) or (_is_number(low) and _is_number(high))


def _is_number(value) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and math.isfinite(value)


def _small(values: Tensor) -> Tensor:
    """float16 where the values fit."""
    half = values.half()
    return half if all_finite(half) else values.float()


def _catalog_of(bundle: Bundle, folder: Path) -> Catalog:
    tokens, modalities = bundle.tokens.get("item"), bundle.config["config"].get("modalities")
    if not (_are_texts(tokens) and _are_texts(modalities) and len(set(tokens)) == len(tokens) > 1):
        raise BundleError(f"{folder}: damaged: items.json or config.json has no list of names")
    n = len(tokens)
    counts = _numbers_of(bundle, "counts", torch.int64, folder)
    popularity = _numbers_of(bundle, "popularity", torch.int64, folder)
    offered = _numbers_of(bundle, "offered", torch.bool, folder)
    facts = bundle.config.get("features")
    facts = facts if isinstance(facts, dict) else {}
    return Catalog(
        tokens=pl.Series(tokens),
        features={modality: _features_of(bundle, modality, n, folder) for modality in modalities},
        counts=counts,
        popularity=popularity,
        info={m: facts[m] if isinstance(facts.get(m), dict) else {} for m in modalities},
        spaces={modality: bundle.space_of(modality) for modality in modalities},
        offered=offered,
        titles=_texts_of(bundle, "title"),
        picture_names=_texts_of(bundle, "image"),
    )


def _numbers_of(bundle: Bundle, name: str, dtype: torch.dtype, folder: Path) -> Tensor:
    """One number per item."""
    numbers = bundle.items.get(name)
    if not _has_shape(numbers, dtype, len(bundle.tokens["item"])):
        raise BundleError(f"{folder}: damaged: items.json and items.safetensors do not fit")
    return numbers


def _are_texts(values) -> TypeGuard[list[str]]:
    return isinstance(values, list) and all(type(value) is str for value in values)


def _features_of(bundle: Bundle, modality: str, n: int, folder: Path) -> ItemFeatures:
    values, present = (bundle.items.get(f"{modality}.{part}") for part in ("feature", "present"))
    if not (
        _has_shape(present, torch.bool, n)
        and isinstance(values, Tensor)
        and values.dim() == 2
        and len(values) == n
        and values.dtype in (torch.float16, torch.float32)
        and all_finite(values)
    ):
        raise BundleError(f"{folder}: damaged: its items have no features of {modality!r}")
    return ItemFeatures(values, present)


def _texts_of(bundle: Bundle, name: str) -> pl.Series | None:
    texts = bundle.tokens.get(name)
    if not isinstance(texts, list) or len(texts) != len(bundle.tokens["item"]):
        return None
    if any(text is not None and type(text) is not str for text in texts):
        return None
    return pl.Series(texts, dtype=pl.String)


def _has_shape(tensor, dtype: torch.dtype, length: int) -> TypeGuard[Tensor]:
    return isinstance(tensor, Tensor) and tensor.dtype == dtype and tensor.shape == (length,)
