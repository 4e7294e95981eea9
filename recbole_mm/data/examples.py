r"""The examples of a batch: targets with their histories, or windows of events."""

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.utils import get_model

from recbole_mm.data.augmentation import random_crops, shuffled_ties, times_as_target
from recbole_mm.data.errors import DatasetError
from recbole_mm.data.prefixes import EVENT_ROW, FIRST_ROW, LAST_ROW, PrefixDataset, take_rows
from recbole_mm.data.sequences import windows
from recbole_mm.tools import processes
from recbole_mm.tools.counts import counted

# field with the target of each event of a window, see ``loss_positions: all``
TARGET_LIST = "_target_list"

LOSS_POSITIONS = ("last", "all")


class ExampleDataset(PrefixDataset):
    """A sequential data set whose histories are looked up when a batch is created.

    With ``loss_positions: all``, a training example is a window of a user's events instead of a
    single target; each event is the target of those before it in the window. The targets are the
    same, and only as many positions are computed as there are events. Long histories are cut into
    windows of ``MAX_ITEM_LIST_LENGTH`` targets, the latest first. The training part can read events
    at the same time in any order (``shuffle_ties``) and parts of its windows (``crop_share``).

    Attributes:
        windows: windows, or ``None`` if an example is one target.
        example_of_row: examples that an epoch reads, in order; ``None``: all.
        shuffle_ties: whether events at the same time are in a new random order each time.
        crop_share: share of the windows that are cropped.
    """

    windows: Interaction | None = None
    example_of_row: torch.Tensor | None = None
    shuffle_ties = False
    crop_share = 0.0

    @property
    def examples(self) -> Interaction:
        """The rows that batches consist of."""
        return self.inter_feat if self.windows is None else self.windows

    def __len__(self):
        return len(self.examples)

    def __getitem__(self, index, join=True):
        """Targets with their histories, right-padded with 0 to ``MAX_ITEM_LIST_LENGTH``."""
        if self.example_of_row is not None:
            index = self.example_of_row[index]
        batch = take_rows(self.examples, index)
        if FIRST_ROW not in batch:
            return self.join(batch) if join else batch
        columns = dict(batch.interaction)
        first, end = columns.pop(FIRST_ROW), columns.pop(LAST_ROW)
        columns.pop(EVENT_ROW, None)
        if self.crop_share:
            first, end = random_crops(first, end, self.crop_share)
            columns[self.item_list_length_field] = end - first
        rows = self._rows_of_events(first, end if self.windows is None else end + 1)
        targets = rows[..., 1:]
        padding = torch.arange(self.max_item_list_len) >= (end - first).unsqueeze(-1)
        rows = rows[..., : self.max_item_list_len]
        for field in self.history:
            if field == self.uid_field:
                continue
            values = self.history[field][rows]
            of_values = padding.reshape(*padding.shape, *[1] * (values.dim() - padding.dim()))
            columns[getattr(self, f"{field}_list_field")] = values.masked_fill_(of_values, 0)
        if self.windows is not None:
            items = self.history[self.iid_field][targets]
            columns[TARGET_LIST] = items.masked_fill_(padding, 0)
        batch = Interaction(columns)
        return self.join(batch) if join else batch

    def _rows_of_events(self, first: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
        """The rows ``[first, end)`` of each example, ``(..., MAX_ITEM_LIST_LENGTH + 1)``; 0 in the
        padding."""
        rows = first.unsqueeze(-1) + torch.arange(self.max_item_list_len + 1)
        real = rows < end.unsqueeze(-1)
        rows = rows.masked_fill_(~real, 0)
        if self.shuffle_ties:
            rows = rows.gather(-1, shuffled_ties(self.history[self.time_field][rows], real))
        return rows

    def _train_on_windows(self, train) -> None:
        positions = self.config["loss_positions"] or "last"
        if positions not in LOSS_POSITIONS:
            raise DatasetError(f"loss_positions must be one of {LOSS_POSITIONS}: {positions!r}.")
        if positions == "last":
            return
        if not getattr(get_model(self.config["model"]), "trains_on_windows", False):
            raise DatasetError(
                f"loss_positions: all needs a model that trains on windows; "
                f"{self.config['model']} reads one target per example. Set loss_positions: last."
            )
        train.windows = train._make_windows()

    def _make_windows(self) -> Interaction:
        """Windows as rows: they read the rows ``[FIRST_ROW, LAST_ROW)``, and their targets are
        these rows shifted by one."""
        order = np.argsort(self.inter_feat[LAST_ROW].numpy())
        targets = take_rows(self.inter_feat, order)
        row, user = targets[LAST_ROW].numpy(), targets[self.uid_field].numpy()
        first, last = windows(row, user, self.max_item_list_len)
        made = take_rows(targets, last)
        made[FIRST_ROW] = torch.from_numpy(row[first] - 1)
        made[self.item_list_length_field] = torch.from_numpy(row[last] - row[first] + 1)
        return made

    def _augment(self, train) -> None:
        train.shuffle_ties = bool(self.config["shuffle_ties"])
        train.crop_share = self.config["crop_share"] or 0.0
        if train.shuffle_ties and not self.has_time:
            raise DatasetError(
                f"shuffle_ties: {self.dataset_path} has no column '{self.time_field}', so no events "
                f"are known to be at the same time. Set shuffle_ties: False."
            )
        if train.crop_share and train.windows is None:
            raise DatasetError(
                "crop_share cuts windows: set loss_positions: all, or crop_share: 0."
            )

    def _refuse_settings_that_need_events(self) -> None:
        settings = {"held_out_items": self.config["held_out_items"]}
        settings["loss_positions"] = self.config["loss_positions"] == "all"
        settings["shuffle_ties"] = self.config["shuffle_ties"]
        given = [key for key, value in settings.items() if value]
        if given and self.has_histories:
            raise DatasetError(
                f"{given[0]}: {self.config[given[0]]} needs events, but the files of "
                f"{self.dataset_name} contain histories ({self.history_field(self.iid_field)}); "
                f"give files of {self.uid_field}, {self.iid_field} and {self.time_field}"
            )

    def _own_share(self, users):
        """Users that this process evaluates."""
        if len(users) < processes.size():
            raise DatasetError(
                f"{self.dataset_path}: {counted(len(users), 'user', 'users')} to evaluate, fewer than the "
                f"{processes.size()} processes; start fewer processes."
            )
        return take_rows(users, np.arange(processes.rank(), len(users), processes.size()))

    def item_shares(self) -> torch.Tensor:
        """Shares of the items among the targets of an epoch, ``(n_items,)``."""
        counts = self._target_counts()
        return counts / counts.sum()

    def _target_counts(self) -> torch.Tensor:
        """How often each item is a target in an epoch, ``(n_items,)``; on average with shuffled
        ties."""
        items, weights = self.inter_feat[self.iid_field], None
        if self.windows is not None and self.shuffle_ties:
            items = self.history[self.iid_field]
            columns = (self.history[name].numpy() for name in (self.uid_field, self.time_field))
            bounds = (self.windows[name].numpy() for name in (FIRST_ROW, LAST_ROW))
            weights = torch.from_numpy(times_as_target(*columns, *bounds))
        return torch.bincount(items, weights, minlength=self.item_num).double()
