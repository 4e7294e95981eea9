"""Feature files from texts and pictures, by the embedded extractor or an encoder."""

from functools import partial

import numpy as np

from recbole_mm.data.extractor import (
    DIMENSION,
    fit_statistics,
    fit_texts,
    image_statistics,
)
from recbole_mm.prepare.batches import encode_batch, read_each, unit_length
from recbole_mm.prepare.chunks import Encoded, discard_chunks, in_chunks
from recbole_mm.prepare.fields import TEXT_FIELDS
from recbole_mm.prepare.modality import Vectors, write_modality
from recbole_mm.prepare.prepared import PreparedDataset

EMBEDDED = {"encoder": "embedded", "revision": "1"}
"""The embedded extractor, as feature files record it."""


def extract(
    datasets: list[PreparedDataset],
    encoder=None,
    modalities=("text", "image"),
    fields=TEXT_FIELDS,
    batch_size: int = 32,
    dimension: int | None = None,
    normalize: bool = False,
    save_as: str | None = None,
) -> None:
    """Write feature files for texts and pictures; a modality that no item has is skipped.

    Args:
        datasets: one or more; the embedded extractor puts all of them into one space.
        encoder: a :class:`~recbole_mm.prepare.encoders.Encoder`; ``None`` is the embedded extractor.
        modalities: ``text``, ``image`` or both.
        fields: fields of ``.item`` that are joined into the text.
        batch_size: texts or pictures that go through the encoder together.
        dimension: width of the embedded extractor's vectors,
            :data:`~recbole_mm.data.extractor.DIMENSION` by default.
        normalize: whether to scale an encoder's vectors to length 1. Those of the embedded
            extractor, and of an encoder whose author says so, always are.
        save_as: name of the modality that the features become; ``None``: ``text`` or ``image``, or
            ``tuned_text`` for an encoder that was tuned on a data set.
    """
    tuned = encoder is not None and encoder.tuning is not None
    found_parts = {modality: parts_with(datasets, modality, fields) for modality in modalities}
    for modality, parts in found_parts.items():
        if parts and encoder is not None:
            encoder.require(modality)
    names = {m: save_as or (f"tuned_{m}" if tuned else m) for m in modalities}
    for modality, parts in found_parts.items():
        if not parts:
            continue
        name = names[modality]
        if encoder is None:
            results = _embed(parts, modality, name, batch_size, dimension or DIMENSION)
        else:
            results = encode_parts(parts, modality, name, encoder, batch_size, normalize)
        write_results(parts, name, results, modality, fields)
    discard_all_chunks(datasets, names.values())


def write_results(parts, name: str, results: list[Vectors], content: str, fields) -> None:
    """Write the feature files of a modality.

    Args:
        parts: data sets from :func:`parts_with`.
        name: name of the modality.
        results: vectors of each data set.
        content: what they are made of, ``text`` or ``image``.
        fields: fields of ``.item`` that were joined into the text.
    """
    source = list(fields) if content == "text" else "picture"
    for (dataset, _), found in zip(parts, results, strict=True):
        write_modality(dataset, name, found._replace(facts={**found.facts, "input": source}))


def discard_all_chunks(datasets: list[PreparedDataset], names) -> None:
    """Discard the chunks of features, once all are written: if one fails, no work is lost."""
    for dataset in datasets:
        for name in names:
            discard_chunks(dataset, name)


def load_encoder(name: str | None, **settings):
    """The named encoder, or ``None`` for the embedded extractor.

    Args:
        name: a model on the Hugging Face hub, or a folder.
        settings: arguments of :func:`~recbole_mm.prepare.open_encoder.open_encoder`.

    Raises:
        InputError: the encoder cannot be used; see the same function.
    """
    if not name:
        return None
    from recbole_mm.prepare.encoder_files import EncoderUnavailable
    from recbole_mm.prepare.open_encoder import open_encoder  # torch, only when needed

    try:
        return open_encoder(name, **settings)
    except EncoderUnavailable as error:
        raise EncoderUnavailable(
            f"{error} Without --encoder the embedded extractor is used, which needs no weights and no network."
        ) from error


def parts_with(datasets: list[PreparedDataset], modality: str, fields) -> list:
    """Data sets that have the modality, each with its ``(place in .item, text or path)`` pairs."""
    parts = []
    for dataset in datasets:
        source = dataset.texts(fields) if modality == "text" else dataset.pictures()
        part = [(row, value) for row, value in enumerate(source) if value]
        if part:
            parts.append((dataset, part))
        else:
            print(f"{dataset.name}: no {modality}, no {modality} features")
    return parts


def encode_parts(
    parts, modality: str, name: str, encoder, batch_size: int, normalize: bool
) -> list[Vectors]:
    """Vectors of texts or pictures by an encoder; arguments as for :func:`extract`.

    Args:
        parts: data sets from :func:`parts_with`.
        modality: what is encoded, ``text`` or ``image``.
        name: name of the features.
    """
    plan = encoder.facts(modality)
    normalize = normalize or encoder.normalizes
    encode = partial(encode_batch, encoder, modality)
    results = []
    for dataset, part in parts:
        found = in_chunks(dataset, name, plan, part, batch_size, encode)
        values = unit_length(found.values) if normalize else found.values
        facts = {**found.facts, "normalization": "l2" if normalize else "none"}
        results.append(found._replace(values=values, facts=facts))
    return results


def _embed(parts, modality: str, name: str, batch_size: int, dimension: int) -> list[Vectors]:
    """The embedded extractor over the rows of all data sets together."""
    if modality == "text":
        rows = [np.array([row for row, _ in part]) for _, part in parts]
        problems: list[list] = [[] for _ in parts]
        vectors, space = fit_texts([text for _, part in parts for _, text in part], dimension)
    else:
        measured = [measure(dataset, name, part, batch_size) for dataset, part in parts]
        rows, problems = [found.rows for found in measured], [found.problems for found in measured]
        statistics = np.concatenate([found.values for found in measured])
        vectors, space = fit_statistics(statistics, dimension)
    facts = embedded_facts([dataset.name for dataset, _ in parts])
    pieces = np.split(vectors, np.cumsum([len(part) for part in rows])[:-1])
    arrays = space.to_arrays()
    return [Vectors(*found, facts, arrays) for found in zip(rows, pieces, problems, strict=True)]


def embedded_facts(shared_with: list[str]) -> dict:
    """What feature files of the embedded extractor record.

    Args:
        shared_with: names of the data sets that its space was fitted to.
    """
    return {**EMBEDDED, "shared_with": shared_with, "normalization": "l2"}


def measure(dataset: PreparedDataset, name: str, part: list, batch_size: int) -> Vectors:
    """Statistics of pictures, chunk by chunk; arguments as for
    :func:`~recbole_mm.prepare.chunks.in_chunks`."""
    return in_chunks(dataset, name, EMBEDDED, part, batch_size, _measure_images)


def _measure_images(batch) -> Encoded:
    rows, statistics, problems = read_each(batch, image_statistics)
    return Encoded(rows, np.array(statistics), problems)
