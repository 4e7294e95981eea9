"""Features made by the very encoder of those of a data set or of a bundle, so that a model trained on
these can read them (``--like``)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from recbole_mm.data.extractor import Space
from recbole_mm.data.feature_files import (
    content_of,
    feature_path,
    find_modalities,
    read_feature_info,
    read_feature_space,
)
from recbole_mm.prepare.earlier import EarlierFiles
from recbole_mm.prepare.extract import (
    EMBEDDED,
    discard_all_chunks,
    embedded_facts,
    encode_parts,
    measure,
    parts_with,
    write_results,
)
from recbole_mm.prepare.fields import TEXT_FIELDS
from recbole_mm.prepare.folders import require_finished
from recbole_mm.prepare.inputs import InputError
from recbole_mm.prepare.modality import Vectors
from recbole_mm.prepare.prepared import PreparedDataset
from recbole_mm.prepare.recorded_encoders import (
    NotTheEncoder,
    is_encoded,
    open_recorded_encoder,
)
from recbole_mm.transfer.bundle import is_bundle, read_bundle


class Recorded(NamedTuple):
    """How the features of a modality were made.

    Attributes:
        info: record of their file.
        space: arrays of the space of the embedded extractor; empty for other encoders.
    """

    info: Mapping[str, Any]
    space: Mapping[str, np.ndarray]


class Way(NamedTuple):
    """A way to make features of a modality.

    Attributes:
        modality: name of the features.
        content: what they are made of, ``text`` or ``image``.
        fields: fields of ``.item`` that are joined into the text.
        record: how the features that are followed were made.
        encoder: the same :class:`~recbole_mm.prepare.encoders.Encoder`, or the space of the embedded
            extractor.
    """

    modality: str
    content: str
    fields: tuple[str, ...]
    record: Recorded
    encoder: Any


def ways_of(like: str, root, modalities, device=None) -> list[Way]:
    """How the features of a data set or of a bundle were made.

    Args:
        like: name of a data set, its folder, or the folder of a bundle.
        root: folder of the data sets.
        modalities: contents to make features of, ``text`` and ``image``.
        device: see :func:`~recbole_mm.prepare.open_encoder.open_encoder`.

    Raises:
        InputError: ``like`` is none of these, its features were made elsewhere, or the encoder is
            missing or a different one.
        BundleError: the bundle is damaged.
    """
    ways = []
    for modality, record in _recorded(like, Path(root)).items():
        content = content_of(modality, record.info)
        if content is None or content not in modalities:
            continue
        if record.space or is_encoded(record.info):
            ways.append(_way(like, modality, content, record, device))
        else:
            print(f"--like={like}: its {modality} features {_why_not(record.info)}; skipped")
    if not ways:
        raise InputError(
            f"--like={like}: it has no {' or '.join(modalities)} features that recbole-mm extract can make "
            f"again. Name another data set or bundle, or choose an encoder with --encoder."
        )
    return ways


def extract_like(datasets: list[PreparedDataset], ways: list[Way], batch_size: int = 32) -> None:
    """Write feature files; a modality that no item has is skipped.

    Args:
        datasets: data sets that get them.
        ways: how they are made, from :func:`ways_of`.
        batch_size: texts or pictures that go through an encoder together.
    """
    for way in ways:
        parts = parts_with(datasets, way.content, way.fields)
        if not parts:
            continue
        if isinstance(way.encoder, Space):
            results = [_embed(way, dataset, part, batch_size) for dataset, part in parts]
        else:
            normalize = way.record.info.get("normalization") == "l2"
            results = encode_parts(
                parts, way.content, way.modality, way.encoder, batch_size, normalize
            )
        write_results(parts, way.modality, results, way.content, way.fields)
    discard_all_chunks(datasets, [way.modality for way in ways])


def _recorded(like: str, root: Path) -> dict[str, Recorded]:
    """The records of all modalities.

    The data set may be the one that is being made: then its earlier files count.
    """
    path = Path(like)
    is_name = path.name == like and (root / like).is_dir()
    if not is_name and is_bundle(path):
        return _of_bundle(path)
    if not is_name and path.is_file():
        raise InputError(
            f"--like={like}: a file does not hold the encoder's space. Name the data set of the "
            f"checkpoint as it was in training, or a bundle of its model: recbole-mm export {like} FOLDER"
        )
    if not is_name and path.is_dir():
        root, like = path.resolve().parent, path.resolve().name
    kept = EarlierFiles(root, like).kept
    if (kept / f"{like}.inter").is_file():
        return _of_folder(kept, like)
    return _of_folder(require_finished(root, like), like)


def _of_folder(folder: Path, name: str) -> dict[str, Recorded]:
    found = {}
    for modality in find_modalities(folder, name):
        path = feature_path(folder, name, modality)
        found[modality] = Recorded(read_feature_info(path), read_feature_space(path))
    return found


def _of_bundle(folder: Path) -> dict[str, Recorded]:
    bundle = read_bundle(folder)
    infos = bundle.config.get("features")
    infos = infos if isinstance(infos, dict) else {}
    return {
        modality: Recorded(info, bundle.space_of(modality))
        for modality, info in infos.items()
        if isinstance(info, dict)
    }


def _why_not(info: Mapping) -> str:
    if info.get("encoder") == EMBEDDED["encoder"]:
        return "lack the space of the embedded extractor: extract them again"
    return "were not made by recbole-mm extract: add vectors with recbole-mm extract --modality"


def _way(like: str, modality: str, content: str, record: Recorded, device) -> Way:
    given = record.info.get("input")
    given = given if isinstance(given, list) else []
    fields = tuple(name for name in TEXT_FIELDS if name in given) or TEXT_FIELDS
    try:
        if record.space:
            encoder: Any = Space.from_arrays(record.space)
        else:
            encoder = open_recorded_encoder(modality, record.info, device=device)
    except NotTheEncoder as error:
        raise InputError(f"--like={like}: {error}. Restore it, or omit --like.") from error
    except InputError:
        raise
    except ValueError as error:
        raise InputError(
            f"--like={like}: the space of its {modality} features is damaged ({error}). Extract them again."
        ) from error
    return Way(modality, content, fields, record, encoder)


def _embed(way: Way, dataset: PreparedDataset, part: list, batch_size: int) -> Vectors:
    """Vectors in the space of the features that are followed."""
    facts, arrays = embedded_facts(way.record.info.get("shared_with", [])), dict(way.record.space)
    if way.content == "text":
        rows = np.array([row for row, _ in part])
        vectors = way.encoder.embed_texts([text for _, text in part])
        return Vectors(rows, vectors, [], facts, arrays)
    found = measure(dataset, way.modality, part, batch_size)
    vectors = way.encoder.embed_statistics(found.values)
    return Vectors(found.rows, vectors, found.problems, facts, arrays)
