"""RecBole's data set, reading files by the rules of :mod:`recbole_mm.data.atomic_files`."""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from recbole.data.dataset import SequentialDataset
from recbole.utils import FeatureSource, FeatureType

from recbole_mm.data.atomic_files import AtomicFile, Column
from recbole_mm.data.coded import CodedTable, CodedTexts, coded_table
from recbole_mm.data.errors import DatasetError
from recbole_mm.data.event_times import check_times
from recbole_mm.data.inter_counts import Side, kept_by_counts
from recbole_mm.data.kept_tables import Source, cache_folder, kept_table
from recbole_mm.data.token_ids import IdOfToken, categorical, numbered
from recbole_mm.tools.counts import counted
from recbole_mm.tools.names import nearest

NAME_COLUMNS = (
    "alias_of_user_id", "alias_of_item_id", "val_interval", "threshold", "normalize_field",
    "numerical_features", "discretization",
)  # fmt: skip
"""RecBole's keys whose values name columns of any file."""

FILTERS = (
    "rm_dup_inter", "val_interval", "user_inter_num_interval", "item_inter_num_interval",
    "filter_inter_by_user_or_item",
)  # fmt: skip
"""RecBole's keys that filter rows."""

NO_FILTER = (None, False, "[0,inf)")
"""Values of these keys that filter nothing."""

USUAL_TIME_FIELD = "timestamp"
"""RecBole's name of the times, which a data set need not have."""


class AtomicFileDataset(SequentialDataset):
    """A RecBole sequential data set that loses no row while reading.

    RecBole's own class treats the tokens ``NA``, ``null``, ``None`` and ``nan`` as missing cells,
    and a quote at the start of a cell swallows the lines up to the next one.

    Raises:
        DatasetError: a file violates the rules or lacks a column that the user names; interactions
            have no users, items or rows, or invalid times.
    """

    inter_feat: Any  # a DataFrame until the events are in order, then an Interaction

    def _load_feat(self, filepath, source):
        feat = self._read_feat(filepath, source)
        if source == FeatureSource.INTERACTION:
            self._refuse_unusable_interactions(filepath, feat)
        return feat

    def _refuse_unusable_interactions(self, path: str, feat: pd.DataFrame | None) -> None:
        loaded = [] if feat is None else list(feat.columns)
        kinds = [f"{field}:{self.field2type[field].value}" for field in loaded]
        wanted = [f"{field}:token" for field in (self.uid_field, self.iid_field)]
        if not set(wanted) <= set(kinds):
            columns = ", ".join(f"{name}:{kind}" for name, kind in self._open(path).columns)
            raise DatasetError(
                f"{path}: it must have the columns {' and '.join(wanted)}; loaded are {kinds} of "
                f"{columns}. Name them, with this type, in the first line of the file and in "
                f"load_col, or set their names with USER_ID_FIELD and ITEM_ID_FIELD."
            )
        if feat is None or len(feat) == 0:
            raise DatasetError(f"{path}: no interactions. A data set needs at least one.")
        if self.time_field in feat:
            check_times(path, feat[self.time_field].to_numpy(), self.time_field)

    def _read_feat(self, filepath, source):
        load_col, unload_col = self._get_load_and_unload_col(source)
        if load_col == set():
            return None
        table = self._read_table(filepath, source, load_col, unload_col)
        if not table.values:
            self.logger.warning(f"no columns are loaded from [{filepath}]")
            return None
        kinds = {column.name: column for column in table.header}
        loaded = {
            name: self._load_column(kinds[name], values, source)
            for name, values in table.values.items()
        }
        return pd.DataFrame(loaded, copy=False)

    def _read_table(self, path, source, load_col, unload_col) -> CodedTable:
        given = (self.config["field_separator"], self.config["encoding"])
        columns = (None if names is None else frozenset(names) for names in (load_col, unload_col))
        kept = kept_table(
            Source(path, *given, *columns),
            cache_folder(self.config["data_cache"]),
            lambda: self._parse(self._open(path), source, load_col, unload_col),
        )
        self._refuse_unknown_columns(path, kept.header, source)
        return kept

    def _parse(self, file: AtomicFile, source, load_col, unload_col) -> CodedTable:
        self._refuse_unknown_columns(file.path, file.columns, source)
        names = [
            column.name
            for column in file.columns
            if (load_col is None or column.name in load_col)
            and (unload_col is None or column.name not in unload_col)
        ]
        return coded_table(file, names)

    def _open(self, path) -> AtomicFile:
        return AtomicFile(path, self.config["field_separator"], self.config["encoding"])

    def _refuse_unknown_columns(self, path, header: list[Column], source) -> None:
        """Refuse missing columns that the user names. The default names times, which may be
        missing."""
        source = getattr(source, "value", source)
        known = [column.name for column in header]
        default = [self.uid_field, self.iid_field, self.time_field]
        columns = {
            key: (self.config[key] or {}).get(source, "*")
            for key in ("load_col", "unload_col", "unused_col")
        }
        if source == FeatureSource.INTERACTION.value and self.time_field != USUAL_TIME_FIELD:
            columns["TIME_FIELD"] = [self.time_field]
        for key, named in columns.items():
            if named in ("*", default):
                continue
            if key in ("unload_col", "unused_col") and {self.uid_field, self.iid_field} & {*named}:
                raise DatasetError(
                    f"{path}: {key} names {', '.join(named)}: users and items are needed; remove them "
                    f"from {key}"
                )
            unknown = [name for name in named if name not in known]
            if unknown:
                near = nearest(unknown[0], known)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise DatasetError(
                    f"{path}: it has no column {unknown[0]!r}, which {key} names; its columns "
                    f"are {', '.join(known)}{hint}"
                )

    def _init_alias(self):
        for key in NAME_COLUMNS:
            unknown = [name for name in self.config[key] or () if name not in self.field2type]
            if unknown:
                raise DatasetError(
                    f"{self.dataset_path}: {key} names {unknown[0]!r}, but the columns that are "
                    f"loaded are {', '.join(self.field2type)}; add it to load_col, or correct it"
                )
        super()._init_alias()

    def _load_column(self, column: Column, values: np.ndarray | CodedTexts, source):
        """Convert the values of a column and register its properties.

        Tokens are a categorical, equal to RecBole's column of strings; other values are as in
        RecBole.
        """
        name, kind = column.name, FeatureType(column.kind)
        if source != "link":  # columns of a link file get their properties from other files
            self.field2source[name], self.field2type[name] = source, kind
            if kind in (FeatureType.FLOAT, FeatureType.FLOAT_SEQ):
                self.field2bucketnum[name] = 2
        if kind in (FeatureType.TOKEN, FeatureType.FLOAT):
            self.field2seqlen[name] = 1
        if isinstance(values, np.ndarray):
            return values.copy()  # RecBole fills its gaps
        if kind == FeatureType.TOKEN:
            return values.categorical()
        read = np.array if kind == FeatureType.TOKEN_SEQ else _numbers
        separator = self.config["seq_separator"]
        sequences = values.rows(
            [read([part for part in text.split(separator) if part]) for text in values.texts],
            missing=read([]),
        )
        longest = max(map(len, sequences), default=0)
        limit = (self.config["seq_len"] or {}).get(name, longest)
        self.field2seqlen[name] = min(limit, longest)
        return [sequence[:limit] for sequence in sequences]

    def _filter_by_inter_num(self):
        """Like RecBole's, but counting codes instead of strings."""
        sides = {}
        for kind in ("user", "item"):
            given = self.config[f"{kind}_inter_num_interval"]
            intervals = self._parse_intervals_str(None if given in NO_FILTER else given)
            if intervals:
                sides[f"{kind}_feat"] = self._side(kind, intervals)
        rows = kept_by_counts(list(sides.values()), len(self.inter_feat))
        if len(rows) < len(self.inter_feat):
            self.inter_feat = self.inter_feat.iloc[rows]
        for name, side in sides.items():
            if side.own is not None:
                setattr(self, name, getattr(self, name)[side.kept_own])

    def _side(self, kind: str, intervals: list[tuple]) -> Side:
        field, own = {"user": self.uid_field, "item": self.iid_field}[kind], None
        if len(intervals) > 1:
            self.logger.warning(f"{kind}_inter_num_interval: more than one interval is given")
        tokens = categorical(self.inter_feat[field])
        feat = getattr(self, f"{kind}_feat")
        if feat is not None:
            own = categorical(feat[field]).set_categories(tokens.categories).codes
        within = partial(self._within_intervals, intervals=intervals)
        return Side(tokens.codes, within, least=intervals[0][1], own=own)

    def _remap(self, remap_list):
        """Like RecBole's: ids in the order in which tokens first occur in the columns of the
        list."""
        if not remap_list:
            return
        columns = [
            categorical(
                feat[field] if kind == FeatureType.TOKEN else np.concatenate([*feat[field]])
            )
            for feat, field, kind in remap_list
        ]
        ids, tokens = numbered(columns)
        id_of_token = IdOfToken(tokens)
        for (feat, field, kind), numbers in zip(remap_list, ids, strict=True):
            if field not in self.field2id_token:
                self.field2id_token[field] = tokens
                self.field2token_id[field] = id_of_token
            if kind == FeatureType.TOKEN:
                feat[field] = numbers
            else:
                feat[field] = np.split(numbers, np.cumsum(feat[field].map(len))[:-1])

    @property
    def avg_actions_of_users(self):
        return self._events_per_id(self.uid_field)

    @property
    def avg_actions_of_items(self):
        return self._events_per_id(self.iid_field)

    def _events_per_id(self, field: str) -> float:
        return len(self.inter_feat) / np.count_nonzero(np.bincount(self.inter_feat[field]))

    def _filter_inter_by_user_or_item(self):
        """Like RecBole's, but report the interactions that are dropped or that lack properties."""
        leaves_out = self.config["filter_inter_by_user_or_item"]
        effect = "are dropped" if leaves_out else "are kept, with missing properties"
        for field, own in ((self.uid_field, "user_feat"), (self.iid_field, "item_feat")):
            feat = getattr(self, own)
            if feat is None:
                continue
            unknown = self.inter_feat.loc[~self.inter_feat[field].isin(feat[field]), field]
            if len(unknown):
                self.logger.warning(
                    f"{len(unknown)} of {len(self.inter_feat)} interactions {effect}: "
                    f"{counted(unknown.nunique(), 'value', 'values')} of {field} without a row in {own}, e.g. "
                    f"{unknown.iloc[0]!r} (filter_inter_by_user_or_item: {leaves_out})"
                )
        super()._filter_inter_by_user_or_item()

    def _filter_nan_user_or_item(self):
        """Drop the rows without user or item, and no others; RecBole drops the wrong rows, those
        whose positions are the labels of these rows."""
        for field, own in ((self.uid_field, "user_feat"), (self.iid_field, "item_feat")):
            for name in (own, "inter_feat"):
                feat = getattr(self, name)
                if feat is None or field not in feat:
                    continue
                missing = feat[field].isnull()
                if missing.any():
                    self.logger.warning(
                        f"dropped: {counted(missing.sum(), 'row', 'rows')} of {name} without "
                        f"{field}, the first in row {int(missing.to_numpy().argmax()) + 2} of those read."
                    )
                    setattr(self, name, feat[~missing].reset_index(drop=True))

    def _reset_index(self):
        """Like RecBole's, but name the filters that leave nothing."""
        empty = [name for name in self.feat_name_list if getattr(self, name).empty]
        if empty:
            filters = ", ".join(f"{key}={value}" for key, value in self.filters().items())
            raise DatasetError(
                f"{self.dataset_path}: no row of {' and '.join(empty)} is left; rows without user "
                f"or item are dropped, as are those that fail the filters ({filters or 'none'})"
            )
        super()._reset_index()

    def filters(self) -> dict[str, Any]:
        """The keys that filter rows, with their values."""
        values = {key: self.config[key] for key in FILTERS}
        return {key: value for key, value in values.items() if value not in NO_FILTER}


def _numbers(parts: list[str]) -> np.ndarray:
    return np.array([float(part) for part in parts])
