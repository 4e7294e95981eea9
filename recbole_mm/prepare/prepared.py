"""A prepared data set: its folder, its items' texts and pictures, its card."""

import glob
import os
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from recbole_mm.config.columns import FIELDS, usual_names
from recbole_mm.config.property_files import joined, users_dataset_files, values_in
from recbole_mm.data.atomic_files import read_atomic_file
from recbole_mm.data.cards import read_card
from recbole_mm.data.event_times import check_times
from recbole_mm.data.feature_files import (
    feature_path,
    find_modalities,
    read_feature_info,
    read_feature_rows,
)
from recbole_mm.prepare.fields import TEXT_FIELDS
from recbole_mm.prepare.folders import dataset_folder
from recbole_mm.prepare.inputs import InputError
from recbole_mm.prepare.table_writers import write_interactions, write_items
from recbole_mm.tools.counts import counted
from recbole_mm.tools.file_names import UnsafeName, path_inside
from recbole_mm.tools.files import whole_or_not, write_json
from recbole_mm.tools.hashing import sha256_of_file


class PreparedDataset:
    """One folder ``<root>/<name>`` with ``.inter``, ``.item`` and ``.card.json``.

    Args:
        root: folder of the data sets.
        name: name of this data set.
        given: values of RecBole's keys for the names of columns (``USER_ID_FIELD``, ...); keys that
            it lacks come from the user's yaml file of the data set. Tables have the usual names.

    Raises:
        InputError: the folder has no ``.inter`` file.
    """

    def __init__(self, root, name: str, given: dict | None = None):
        self.name = name
        self.folder = dataset_folder(root, name)
        settings = joined(map(values_in, users_dataset_files(name, root)))
        named = {key: value for key, value in (given or {}).items() if value and key in FIELDS}
        self.renamed = usual_names({**settings, **named})

    def path(self, ending: str) -> Path:
        return self.folder / f"{self.name}.{ending}"

    @cached_property
    def interactions(self) -> pl.DataFrame:
        """Rows in the order of the file; ``rating`` and ``timestamp`` only if the data has them.

        Raises:
            InputError: a row has no user or no item.
            DatasetError: the file is not readable, or a row has no time.
        """
        table = read_table(self.path("inter"), ("user_id", "item_id"), self.renamed)
        if "timestamp" in table.columns:
            check_times(str(self.path("inter")), table["timestamp"].to_numpy())
        return table

    @cached_property
    def items(self) -> pl.DataFrame:
        """``item_id`` and the texts that the data has; without a file, the items of ``.inter``."""
        if self.path("item").is_file():
            return read_table(self.path("item"), ("item_id",), self.renamed)
        return self.interactions.select("item_id").unique(maintain_order=True)

    @cached_property
    def card(self) -> dict:
        """Recorded facts, ``{}`` if there are none.

        Raises:
            CardError: see :func:`~recbole_mm.data.cards.read_card`.
        """
        return read_card(self.path("card.json"))

    def texts(self, fields=TEXT_FIELDS) -> list[str]:
        """One text per item, the fields one after the other; empty where an item has none."""
        present = [name for name in fields if name in self.items.columns]
        if not present:
            return [""] * len(self.items)
        joined = pl.concat_str(present, separator=" ", ignore_nulls=True)
        return self.items.select(joined.str.strip_chars())[present[0]].to_list()

    def pictures(self) -> list[Path | None]:
        """One path per item, ``None`` where the data names no picture in its folder."""
        if "image" not in self.items.columns:
            return [None] * len(self.items)
        root = _without_detours(self.folder / self.card.get("pictures", "."))
        return [self._picture(root, name) for name in self.items["image"]]

    @staticmethod
    def _picture(root: Path, name: str | None) -> Path | None:
        try:
            return path_inside(root, name) if name else None
        except UnsafeName:
            return None

    def modalities(self) -> list[str]:
        return find_modalities(self.folder, self.name)

    def features(self, modality: str, item_tokens=None) -> tuple[np.ndarray, np.ndarray]:
        """Vectors of one modality, ``(n, F)``, and which items have it, ``(n,)`` bool; zero rows where
        they have none. For the items of the data set, or for those of ``item_tokens``."""
        tokens = self.items["item_id"] if item_tokens is None else item_tokens
        path = feature_path(self.folder, self.name, modality)
        values, present = read_feature_rows(path, ["[PAD]", *tokens])
        return values[1:], present[1:]

    def in_time_order(self) -> pl.DataFrame:
        """The interactions by user and time; events of the same time in the order of the file."""
        order = [name for name in ("user_id", "timestamp") if name in self.interactions.columns]
        return self.interactions.sort(order, maintain_order=True)

    def summary(self) -> str:
        """What a command reports about the data set that it created, one line."""
        users, items = self.interactions["user_id"], self.items["item_id"]
        counts = (
            f"{counted(users.n_unique(), 'user', 'users')}, {counted(len(items), 'item', 'items')}"
        )
        without = len(items) - self.interactions["item_id"].n_unique()
        if without > 0:
            counts += f" ({without:,} without interactions)"
        counts += f", {counted(len(users), 'interaction', 'interactions')}"
        if "timestamp" in self.interactions.columns:
            first, last = self.interactions.select(
                pl.col("timestamp").min().alias("first"), pl.col("timestamp").max().alias("last")
            ).row(0)
            counts += f", {day_of(first)} to {day_of(last)}"
        return f"{self.folder}: {counts}, features {', '.join(self.modalities()) or 'none'}"

    def write_card(self, **facts) -> None:
        """Write the card: the recorded facts, these, and the hashes of the current files."""
        features = {
            name: read_feature_info(feature_path(self.folder, self.name, name))
            for name in self.modalities()
        }
        files = sorted(self.folder.glob(f"{glob.escape(self.name)}.*"))
        hashes = {path.name: sha256_of_file(path) for path in files if _is_in_use(path)}
        facts = {**self.card, **facts, "features": features, "files": hashes}
        write_json(self.path("card.json"), facts)
        self.__dict__.pop("card", None)


def _is_in_use(path: Path) -> bool:
    """Whether a file of a data set is not its card, nor features that were set aside."""
    return ".card." not in path.name and ".npz.old" not in path.name


def write_dataset(
    root,
    name: str,
    interactions: pl.DataFrame,
    items: pl.DataFrame,
    pictures,
    types: dict[str, str] | None = None,
    **facts,
) -> PreparedDataset:
    """Write ``.inter``, ``.item`` and the card of a data set.

    Existing feature files stay if the items are the same, and are removed otherwise: the
    :class:`~recbole_mm.prepare.making.Making` around this call keeps them under another name if
    they are not made again.

    Args:
        root: folder of the data sets.
        name: name of this data set.
        interactions: table from :func:`recbole_mm.prepare.core.core_of`.
        items: ``item_id`` and texts.
        pictures: folder to which the items' picture paths are relative.
        types: RecBole's types of further columns of ``items``.
        facts: facts that the card records in addition to the counts.
    """
    folder = Path(root) / name
    (folder / f"{name}.card.json").unlink(missing_ok=True)  # of an earlier data set
    item_file = folder / f"{name}.item"
    with whole_or_not(item_file) as temporary:
        write_items(temporary, items, types)
        if item_file.is_file() and sha256_of_file(item_file) != sha256_of_file(temporary):
            _remove_features(folder, name)
    write_interactions(folder / f"{name}.inter", interactions)
    dataset = PreparedDataset(root, name)
    dataset.write_card(
        name=name,
        users=interactions["user_id"].n_unique(),
        items=len(items),
        items_without_interactions=len(items) - interactions["item_id"].n_unique(),
        interactions=len(interactions),
        columns=interactions.columns,
        order="by user, then time; same-time events as in the source",
        same_time_neighbours=same_time_share(interactions),
        repeated_pairs=len(interactions) - len(interactions.select("user_id", "item_id").unique()),
        pictures=Path(os.path.relpath(pictures, folder)).as_posix(),
        **facts,
    )
    return dataset


def _remove_features(folder: Path, name: str) -> None:
    """Remove feature files of other items, or of other texts, before the new items are written."""
    for modality in find_modalities(folder, name):
        feature_path(folder, name, modality).unlink()
        (folder / f"{name}.{modality}.problems.jsonl").unlink(missing_ok=True)


def _without_detours(path: Path) -> Path:
    """The path without ``..``, if that is the same folder: behind a link it may be another."""
    plain = os.path.normpath(path)
    return Path(plain) if os.path.realpath(plain) == os.path.realpath(path) else path


def unit_rows(values: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1, float32; zero rows stay zero."""
    vectors = values.astype(np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def read_table(
    path: Path, required: tuple[str, ...], renamed: dict[str, str] | None = None
) -> pl.DataFrame:
    """An atomic file with required columns, which must have a value in every row.

    Args:
        path: path of the file.
        required: names of these columns.
        renamed: name in the file -> name in the table. A column of the file that has the latter
            name is dropped.

    Raises:
        InputError: a column or a value is missing.
        DatasetError: see :class:`recbole_mm.data.atomic_files.AtomicFile`.
    """
    table = read_atomic_file(path)
    found = {own: usual for own, usual in (renamed or {}).items() if own in table.columns}
    table = table.drop([*found.values()], strict=False).rename(found)
    absent = [name for name in required if name not in table.columns]
    if absent:
        raise InputError(
            f"{path}: no column {absent}, it has {table.columns}. Give columns of other names with "
            f"--USER_ID_FIELD, --ITEM_ID_FIELD and --TIME_FIELD, or in {path.stem}.yaml next to "
            f"the file."
        )
    for name in required:
        empty = table[name].is_null()
        if empty.any():
            row = (empty.arg_max() or 0) + 2
            rows = counted(int(empty.sum()), "row", "rows")
            raise InputError(f"{path}: {rows} without {name}, the first is row {row}.")
    return table


def moment_of(seconds: float) -> str:
    """Date and time in UTC, as in 2017-07-01T20:33:00+00:00."""
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).isoformat()
    except (ValueError, OverflowError, OSError):  # after the year 9999
        return f"{seconds:.0f} s"


def day_of(seconds: float) -> str:
    """The day in UTC, as in 2017-07-01."""
    return moment_of(seconds).partition("T")[0]


def same_time_share(interactions: pl.DataFrame) -> float | None:
    """Share of neighboring events of a user with equal times; rows are sorted by user and time."""
    if "timestamp" not in interactions.columns:
        return None
    same_user = interactions["user_id"] == interactions["user_id"].shift(1)
    same_time = interactions["timestamp"] == interactions["timestamp"].shift(1)
    return round(int((same_user & same_time).sum()) / max(int(same_user.sum()), 1), 4)
