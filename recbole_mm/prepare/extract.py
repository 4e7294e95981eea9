"""Feature files from texts and pictures, by the embedded extractor or an encoder."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from recbole_mm.data.extractor import (
    DIMENSION,
    embed_texts,
    image_statistics,
    project_statistics,
)
from recbole_mm.data.feature_files import feature_path, write_item_features
from recbole_mm.prepare.fields import TEXT_FIELDS
from recbole_mm.prepare.inputs import InputError, read_json, today
from recbole_mm.prepare.prepared import PreparedDataset
from recbole_mm.tools.files import whole_or_not, write_json
from recbole_mm.tools.hashing import sha256_of_texts
from recbole_mm.tools.pictures import PictureError, read_picture

BATCHES_PER_CHUNK = 16


def extract(
    datasets: list[PreparedDataset],
    encoder=None,
    modalities=("text", "image"),
    fields=TEXT_FIELDS,
    batch_size: int = 32,
    dimension: int | None = None,
    normalize: bool = False,
) -> None:
    """Write feature files for texts and pictures; modalities that no item has are passed over.

    Args:
        datasets: one or more; the embedded extractor puts all of them into one space.
        encoder: a :class:`~recbole_mm.prepare.encoders.Encoder`; ``None`` is the embedded extractor.
        modalities: ``text``, ``image`` or both.
        fields: of ``.item``, joined into the text.
        batch_size: texts or pictures that go through the encoder together.
        dimension: width of the embedded extractor's vectors, :data:`DIMENSION` by default.
        normalize: scale an encoder's vectors to length 1 (the embedded ones are).
    """
    for modality in modalities:
        having, parts = [], []
        for dataset in datasets:
            source = dataset.texts(fields) if modality == "text" else dataset.pictures()
            part = [(row, value) for row, value in enumerate(source) if value]
            if not part:
                print(f"{dataset.name}: no {modality}, no {modality} features")
                continue
            having.append(dataset)
            parts.append(part)
        if not having:
            continue
        if encoder is not None:
            encoder.require(modality)
        if encoder is None:
            results = _embed(having, modality, parts, batch_size, dimension or DIMENSION)
        else:
            plan = {
                "encoder": encoder.name,
                "revision": encoder.revision,
                "pooling": encoder.pooling,
                "precision": str(encoder.dtype),
            }
            encode = _encode_texts if modality == "text" else _encode_images
            results = [
                _in_chunks(dataset, modality, plan, part, batch_size, encode, encoder)
                for dataset, part in zip(having, parts, strict=True)
            ]
        for dataset, (rows, vectors, problems, facts) in zip(having, results, strict=True):
            if normalize and encoder is not None:
                length = np.linalg.norm(vectors.astype(np.float32), axis=1, keepdims=True)
                vectors = (vectors / np.maximum(length, 1e-12)).astype(vectors.dtype)
            scaled = normalize or encoder is None
            facts = {
                **facts,
                "normalization": "l2" if scaled else "none",
                "input": list(fields) if modality == "text" else "picture",
            }
            finish_modality(dataset, modality, rows, vectors, problems, facts)
            shutil.rmtree(_chunk_folder(dataset, modality), ignore_errors=True)


def load_encoder(name: str | None, pooling: str = "mean", device=None):
    """The named encoder, or ``None`` for the embedded extractor."""
    if not name:
        return None
    from recbole_mm.prepare.encoders import Encoder  # torch and transformers, only when asked for

    return Encoder(name, pooling, device=device)


def finish_modality(dataset, modality, rows, vectors, problems, facts) -> None:
    """Write the feature file, the list of problems and the card."""
    items = dataset.items["item_id"].to_numpy()
    info = {
        **facts,
        "dimension": int(vectors.shape[1]),
        "date": today(),
        "items": len(items),
        "coverage": len(rows) / len(items),
        "broken": len(problems),
    }
    write_item_features(
        feature_path(dataset.folder, dataset.name, modality), items[rows], vectors, info
    )
    listing = dataset.path(f"{modality}.problems.jsonl")
    listing.unlink(missing_ok=True)
    if problems:
        with whole_or_not(listing) as temporary:
            lines = (json.dumps({"item": str(items[row]), "why": why}) for row, why in problems)
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"{dataset.name}: {len(problems)} broken or missing, masked; listed in {listing}")
    dataset.write_card()
    cut = f", {facts['cut']} texts cut" if facts.get("cut") else ""
    print(
        f"{dataset.name}: {modality} of {len(rows)} of {len(items)} items "
        f"({len(rows) / len(items):.1%}), {vectors.shape[1]} wide, by {facts['encoder']}{cut}"
    )


def _embed(datasets, modality, parts, batch_size, dimension):
    """The embedded extractor over the rows of all data sets together."""
    plan = {"encoder": "embedded", "revision": "1"}
    if modality == "text":
        rows = [[row for row, _ in part] for part in parts]
        vectors = embed_texts([text for part in parts for _, text in part], dimension)
        problems = [[] for _ in parts]
    else:
        measured = [
            _in_chunks(dataset, modality, plan, part, batch_size, _measure_images, None)
            for dataset, part in zip(datasets, parts, strict=True)
        ]
        rows, statistics, problems, _ = zip(*measured, strict=True)
        vectors = project_statistics(np.concatenate(statistics), dimension)
    plan["shared_with"] = [dataset.name for dataset in datasets]
    pieces = np.split(vectors, np.cumsum([len(one) for one in rows])[:-1])
    return list(zip(map(np.array, rows), pieces, problems, [plan] * len(parts), strict=True))


def _in_chunks(dataset, modality, plan, part, batch_size, encode, encoder):
    """Encode ``(row, value)`` pairs chunk by chunk, each kept on disk.

    Returns:
        rows, vectors (float16 of an encoder, float32 of the embedded one), problems, facts.
    """
    folder = _chunk_folder(dataset, modality)
    plan = {**plan, "batch_size": batch_size, "input_hash": _hash_of(dataset, part)}
    if folder.is_dir() and _plan_in(folder) != plan:
        print(f"{folder}: of another encoder, setting or input, made anew")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "plan.json", plan)
    size = batch_size * BATCHES_PER_CHUNK
    starts = range(0, len(part), size)
    done = sum((folder / f"{start:09d}.npz").is_file() for start in starts)
    if done:
        print(f"{dataset.name}: {modality} goes on, {done} of {len(starts)} chunks are there")
    for start in tqdm(starts, f"{dataset.name} {modality}", unit="chunk", disable=len(starts) < 4):
        path = folder / f"{start:09d}.npz"
        if path.is_file():
            continue
        rows, vectors, problems, cut = [], [], [], 0
        for at in range(start, min(start + size, len(part)), batch_size):
            batch = part[at : min(at + batch_size, start + size)]
            good, values, bad, n_cut = encode(batch, encoder)
            rows += good
            vectors += [values] if len(good) else []
            problems += bad
            cut += n_cut
        values = np.concatenate(vectors) if vectors else np.zeros((0, 0), np.float32)
        with whole_or_not(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, row=rows, value=values, problems=json.dumps(problems), cut=cut)
    rows, vectors, problems, cut = [], [], [], 0
    for start in starts:
        with np.load(folder / f"{start:09d}.npz", allow_pickle=False) as chunk:
            if len(chunk["row"]):
                rows.append(chunk["row"])
                vectors.append(chunk["value"])
            problems += json.loads(str(chunk["problems"]))
            cut += int(chunk["cut"])
    if not rows:
        raise InputError(
            f"{dataset.path('item')}: none of its {len(part)} {modality}s could be used; the "
            f"first: {problems[0][1] if problems else 'there is none'}"
        )
    vectors = np.concatenate(vectors)
    del plan["input_hash"]
    facts = {**plan, "cut": cut} if modality == "text" else plan
    return np.concatenate(rows), vectors, problems, facts


def _chunk_folder(dataset, modality) -> Path:
    """Of finished chunks, until the feature file is there."""
    return dataset.folder / f".{dataset.name}.{modality}.partial"


def _encode_texts(batch, encoder):
    vectors, cut = encoder.texts([text for _, text in batch])
    return [row for row, _ in batch], vectors.astype(np.float16), [], cut


def _encode_images(batch, encoder):
    rows, pictures, problems = _read_each(batch, read_picture)
    vectors = encoder.images(pictures) if pictures else np.zeros((0, 0))
    return rows, vectors.astype(np.float16), problems, 0


def _measure_images(batch, _):
    rows, statistics, problems = _read_each(batch, image_statistics)
    return rows, np.array(statistics), problems, 0


def _read_each(batch, read):
    """Read pictures in a few threads; those that cannot be read are told apart, with the reason."""

    def attempt(path):
        try:
            return read(path), None
        except PictureError as error:
            return None, str(error)

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(attempt, [path for _, path in batch]))
    rows = [row for (row, _), (value, _) in zip(batch, results, strict=True) if value is not None]
    values = [value for value, _ in results if value is not None]
    problems = [(row, why) for (row, _), (_, why) in zip(batch, results, strict=True) if why]
    return rows, values, problems


def _plan_in(folder: Path):
    path = folder / "plan.json"
    return read_json(path) if path.is_file() else None


def _hash_of(dataset, part) -> str:
    """Of the texts, or of the names, sizes and times of the pictures."""

    def state(value) -> str:
        if not isinstance(value, Path):
            return value
        stat = value.stat() if value.is_file() else None
        return f"{value} {stat and (stat.st_size, stat.st_mtime_ns)}"

    items = dataset.items["item_id"]
    return sha256_of_texts(f"{items[row]}\0{state(value)}\0" for row, value in part)
