"""RecBole's data set, with files read by the rules of :mod:`recbole_mm.data.atomic_files`."""

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
from recbole.data.dataset import SequentialDataset
from recbole.utils import FeatureType

from recbole_mm.data.atomic_files import AtomicFile, Column


class AtomicFileDataset(SequentialDataset):
    """A RecBole sequential data set that loses no row while it reads.

    RecBole's own class takes the tokens ``NA``, ``null``, ``None`` and ``nan`` for missing cells,
    and a quote at the beginning of a cell swallows the lines up to the next one.
    """

    inter_feat: Any  # a DataFrame until the events are in order, then an Interaction

    def _load_feat(self, filepath, source):
        load_col, unload_col = self._get_load_and_unload_col(source)
        if load_col == set():
            return None
        file = AtomicFile(filepath, self.config["field_separator"], self.config["encoding"])
        columns = [
            column
            for column in file.columns
            if (load_col is None or column.name in load_col)
            and (unload_col is None or column.name not in unload_col)
        ]
        if not columns:
            self.logger.warning(f"no columns are loaded from [{filepath}]")
            return None
        table = file.table([column.name for column in columns])
        return pd.DataFrame(
            {
                column.name: self._load_column(column, table[column.name], source)
                for column in columns
            }
        )

    def _load_column(self, column: Column, cells: pl.Series, source):
        """The values of a column as RecBole has them; its properties are registered."""
        name, kind = column.name, FeatureType(column.kind)
        if source != "link":  # columns of a file of links have their properties from other files
            self.field2source[name], self.field2type[name] = source, kind
            if kind in (FeatureType.FLOAT, FeatureType.FLOAT_SEQ):
                self.field2bucketnum[name] = 2
        if kind in (FeatureType.TOKEN, FeatureType.FLOAT):
            self.field2seqlen[name] = 1
            return cells.to_numpy() if kind == FeatureType.FLOAT else shared_strings(cells)
        read = np.array if kind == FeatureType.TOKEN_SEQ else _numbers
        separator = self.config["seq_separator"]
        values = [
            read([part for part in text.split(separator) if part])
            for text in cells.fill_null("").to_list()
        ]
        longest = max(map(len, values), default=0)
        limit = (self.config["seq_len"] or {}).get(name, longest)
        self.field2seqlen[name] = min(limit, longest)
        return [value[:limit] for value in values]

    def _filter_nan_user_or_item(self):
        """Drop the rows without user or item, and no others: RecBole drops rows whose positions are
        the labels of these rows."""
        for field, own in ((self.uid_field, "user_feat"), (self.iid_field, "item_feat")):
            for name in (own, "inter_feat"):
                feat = getattr(self, name)
                if feat is None or field not in feat:
                    continue
                missing = feat[field].isnull()
                if missing.any():
                    self.logger.warning(
                        f"{missing.sum()} rows of {name} have no {field} and are left out, the "
                        f"first in row {int(missing.to_numpy().argmax()) + 2} of those read."
                    )
                    setattr(self, name, feat[~missing].reset_index(drop=True))


def shared_strings(cells: pl.Series) -> np.ndarray:
    """Strings as Python objects, equal ones the same object; NaN where a cell is missing."""
    distinct = cells.drop_nulls().unique(maintain_order=True)
    index = cells.cast(pl.Enum(distinct)).to_physical().fill_null(len(distinct))
    return np.array([*distinct.to_list(), np.nan], dtype=object)[index.to_numpy()]


def _numbers(parts: list[str]) -> np.ndarray:
    return np.array([float(part) for part in parts])
