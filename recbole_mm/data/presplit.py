"""Data sets whose interactions are already split into files (``benchmark_filename``)."""

from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from recbole.utils import FeatureSource, FeatureType
from torch.nn.utils.rnn import pad_sequence

from recbole_mm.data.errors import DatasetError
from recbole_mm.data.reading import AtomicFileDataset
from recbole_mm.tools.counts import counted


class PresplitDataset(AtomicFileDataset):
    """A RecBole sequential data set that also accepts files that are already split.

    There are three files, for training, validation and test, or two, for training and test. They
    contain either

    - events, like a single ``.inter`` file: each is a target after the events before it. Events of
      a later file come after those of the earlier files, regardless of their times; or
    - targets with their histories, from the earliest item to the latest: ``item_id_list``, and
      ``timestamp_list`` for models that read times, where ``item_id`` and ``timestamp`` are the
      user's names of the columns and ``_list`` is ``LIST_SUFFIX``. Histories are loaded with their
      columns, share their ids, and are cut to the latest ``MAX_ITEM_LIST_LENGTH`` entries. RecBole
      needs ``load_col`` and ``alias_of_item_id`` for this and does not cut histories.

    Attributes:
        has_histories: whether the files contain histories.

    Raises:
        DatasetError: files differ in their columns, have rows without user, item or history, or
            histories of different lengths in one row; or no training event follows another one.
    """

    has_histories = False
    file_size_list: list[int]  # RecBole's number of interactions in each file

    def history_field(self, field: str) -> str:
        """The column with the history of ``field``."""
        return f"{field}{self.config['LIST_SUFFIX']}"

    def fields_with_histories(self) -> list[str]:
        """Columns whose histories are in the files."""
        if not self.has_histories:
            return []
        return [field for field in self.inter_feat if self.history_field(field) in self.inter_feat]

    def _get_load_and_unload_col(self, source):
        load_col, unload_col = super()._get_load_and_unload_col(source)
        if load_col and self.benchmark_filename_list and source == FeatureSource.INTERACTION:
            load_col = load_col | {self.history_field(field) for field in load_col}
        return load_col, unload_col

    def _load_inter_feat(self, token, dataset_path):
        self._columns_of_part: dict[str, list[str]] = {}
        without_effect = list(self.filters())
        if self.config["eval_args"]["split"] != {"LS": "valid_and_test"}:
            without_effect.append("eval_args: split")
        if self.benchmark_filename_list and without_effect:
            self.logger.warning(
                f"{', '.join(without_effect)}: no effect on files that are already split"
            )
        super()._load_inter_feat(token, dataset_path)

    def _load_feat(self, filepath, source):
        feat = super()._load_feat(filepath, source)
        if self.benchmark_filename_list and source == FeatureSource.INTERACTION:
            self._take_part(filepath, feat)
        return feat

    def _take_part(self, path: str, feat: pd.DataFrame) -> None:
        self._columns_of_part[path] = list(feat.columns)
        for (first, columns), (other, others) in pairwise(self._columns_of_part.items()):
            if set(columns) != set(others):
                raise DatasetError(
                    f"{first} and {other} differ in the columns that are loaded, {columns} and "
                    f"{others}: give all files of benchmark_filename the same columns"
                )
        self.has_histories = self.history_field(self.iid_field) in feat
        for field in (self.uid_field, self.iid_field):
            _refuse_rows(path, feat[field].isnull(), f"no {field}")
        if self.has_histories:
            self._cut_histories(path, feat)

    def _cut_histories(self, path: str, feat: pd.DataFrame) -> None:
        name = self.history_field(self.iid_field)
        lengths = feat[name].map(len)
        _refuse_rows(path, lengths == 0, f"an empty {name}")
        for field in list(feat.columns):
            history = self.history_field(field)
            if history not in feat:
                continue
            unequal = feat[history].map(len) != lengths
            _refuse_rows(path, unequal, f"{history} and {name} of different lengths")
            feat[history] = [values[-self.max_item_list_len :] for values in feat[history]]
            self.field2seqlen[history] = min(self.field2seqlen[history], self.max_item_list_len)

    def _init_alias(self):
        own = (self.uid_field, self.iid_field)
        for field in self.fields_with_histories():
            if self.field2type[field] == FeatureType.TOKEN and field not in own:
                self._set_alias(field, [field])
        super()._init_alias()

    def _set_alias(self, alias_name, default_value):
        """Like RecBole's, but items in histories share the ids of the items."""
        known = self.fields_with_histories()
        histories = [self.history_field(field) for field in default_value if field in known]
        super()._set_alias(alias_name, [*default_value, *histories])

    def _benchmark_presets(self):
        """Set up histories under any name; RecBole's method only finds ``item_id_list``."""
        if not self.has_histories:
            return
        for field in self.fields_with_histories():
            setattr(self, f"{field}_list_field", self.history_field(field))
        length = self.item_list_length_field
        self.set_field_property(length, FeatureType.TOKEN, FeatureSource.INTERACTION, 1)
        self.inter_feat[length] = self.inter_feat[self.history_field(self.iid_field)].map(len)

    def _dataframe_to_interaction(self, data):
        interaction = super()._dataframe_to_interaction(data)
        times = self.history_field(self.time_field)
        if self.has_histories and times in data:  # RecBole rounds them to float32
            rows = [torch.as_tensor(row, dtype=torch.float64) for row in data[times]]
            interaction.interaction[times] = pad_sequence(rows, batch_first=True)
        return interaction

    def _change_feat_format(self):
        super()._change_feat_format()
        if self.benchmark_filename_list and not self.has_histories:
            self.data_augmentation()

    def part_of_rows(self) -> np.ndarray | None:
        """Index of the file of each interaction; ``None`` for a data set that is not split into
        files."""
        if not self.benchmark_filename_list:
            return None
        return np.repeat(np.arange(len(self.file_size_list)), self.file_size_list)

    def targets_by_part(self, target: np.ndarray, part: np.ndarray) -> np.ndarray:
        """An order of targets that groups them by file; RecBole divides them by ``file_size_list``.

        Args:
            target: rows of events that are targets.
            part: index of the file of each event.
        """
        sizes = np.bincount(part[target], minlength=len(self.file_size_list))
        if sizes[0] == 0:
            raise DatasetError(
                f"{self.dataset_path}: no user has two events in the training file "
                f"({self.benchmark_filename_list[0]}), so nothing can be learned from it."
            )
        self.file_size_list = sizes.tolist()
        return np.argsort(part[target], kind="stable")

    def build(self):
        """Create the training, validation and test data; with two files, validation has no
        targets."""
        datasets = super().build()
        if len(datasets) == 2:
            datasets.insert(1, self.copy(datasets[0].inter_feat[:0]))
        return datasets


def _refuse_rows(path: str, wrong: pd.Series, what: str) -> None:
    if wrong.any():
        row = int(wrong.to_numpy().argmax()) + 2
        raise DatasetError(
            f"{path}: {counted(int(wrong.sum()), 'row has', 'rows have')} {what}, the first is row {row}; "
            f"correct or remove such rows"
        )
