r"""Events in order, and every event as the target of those before it, by row numbers."""

from itertools import pairwise

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.utils import FeatureSource, FeatureType

from recbole_mm.data.errors import DatasetError
from recbole_mm.data.presplit import PresplitDataset
from recbole_mm.data.sequences import (
    among_kept,
    cut_at_moments,
    drawn_by_token,
    leave_one_out,
    order_of_events,
    prefixes,
    users_by_start,
)
from recbole_mm.tools.counts import counted

# columns of a target: its history is the rows [first, last) of ``PrefixDataset.history``. The
# target is row ``last`` there; if items are held out, it is row ``event`` of
# ``PrefixDataset.events``, which also has the held-out events
FIRST_ROW = "_first_row"
LAST_ROW = "_last_row"
EVENT_ROW = "_event_row"


def take_rows(events: Interaction, rows) -> Interaction:
    """``events[rows]``, without RecBole's conversion of the row numbers to a list for every
    column."""
    if isinstance(rows, (int, slice)):
        return events[rows]
    rows = np.asarray(rows)
    if rows.ndim == 0:
        return events[int(rows)]
    rows = np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.int64)
    taken = {field: events[field].numpy().take(rows, axis=0) for field in events}
    return Interaction({field: torch.from_numpy(values) for field, values in taken.items()})


class PrefixDataset(PresplitDataset):
    """A RecBole sequential data set whose targets are row numbers of its events.

    Differences from RecBole's own class:

    - Events are ordered by user, time, and ``tie_order``: by default, events at the same time keep
      the order of the ``.inter`` file. Without a time column, the file's order is used.
    - Times stay float64 and are never normalized: batches contain exact unix seconds.
    - A prefix is two row numbers: memory is linear in interactions and does not depend on
      ``MAX_ITEM_LIST_LENGTH``.
    - Items can be excluded from training and from all histories (``held_out_items``), and the
      training targets can be limited to a share of the users (``train_users``).

    Attributes:
        has_time: whether all interactions have times.
        events: all events, in order.
        history: events that histories consist of, in order.

    Raises:
        DatasetError: no user has two events; parts of a split would be empty.
    """

    has_time: bool
    events: Interaction
    history: Interaction

    def _has_time_or_order(self, path: str) -> bool:
        """Whether the interactions have times; if not, the order of their rows is used instead."""
        names = [self.time_field]
        if self.has_histories:
            names.append(self.history_field(self.time_field))
        missing = [name for name in names if name not in self.inter_feat]
        if not missing:
            return True
        order = "" if self.has_histories else "the order of its rows is the order of events, and "
        self.logger.info(
            f"{path} has no column '{missing[0]}': {order}models run without time. If it has "
            f"another name: --TIME_FIELD=COLUMN"
        )
        if self.time_field in missing:
            self._take_order_for_time()
        return False

    def _take_order_for_time(self) -> None:
        self.inter_feat[self.time_field] = np.arange(len(self.inter_feat), dtype=np.float64)
        self.set_field_property(self.time_field, FeatureType.FLOAT, FeatureSource.INTERACTION, 1)

    def _normalize(self):
        names = (self.time_field, self.history_field(self.time_field))
        times = {name: self.inter_feat[name].copy() for name in names if name in self.inter_feat}
        super()._normalize()
        for name, values in times.items():
            self.inter_feat[name] = values

    def _dataframe_to_interaction(self, data):
        interaction = super()._dataframe_to_interaction(data)
        if self.time_field in data:
            times = data[self.time_field].to_numpy(dtype=np.float64)
            interaction.interaction[self.time_field] = torch.from_numpy(times.copy())
        return interaction

    def _remove_duplication(self):
        """Like RecBole's (``rm_dup_inter``), but in the order of events, and rows keep their order.

        RecBole sorts by time with an unstable algorithm, which shuffles events at the same time.
        """
        keep = self.config["rm_dup_inter"]
        if keep is None:
            return
        by_time = self.inter_feat.sort_values(self.time_field, kind="stable")
        kept = by_time.drop_duplicates([self.uid_field, self.iid_field], keep=keep).index
        self.inter_feat = self.inter_feat.loc[self.inter_feat.index.isin(kept)]

    def data_augmentation(self):
        """Make every event except a user's first the target of the events before it, by index."""
        self._aug_presets()
        self._check_field("uid_field", "time_field")
        part = self.part_of_rows()
        order = self._order_of_events(part)
        events = take_rows(self.inter_feat, order)
        found = prefixes(events[self.uid_field].numpy())
        if len(found.target) == 0:
            raise DatasetError(
                f"{self.dataset_path}: all {len(events)} users of data set "
                f"{self.dataset_name!r} have a single interaction, so nothing can be predicted. "
                f"Users need two interactions or more."
            )
        n_users = len(events) - len(found.target)
        single = n_users - np.count_nonzero(found.target == found.first + 1)
        if single:
            users = counted(single, "user", "users")
            self.logger.info(f"skipped: {users} with a single interaction.")
        self.history = self.events = events
        if self.config["held_out_items"]:
            kept = ~self.held_out()[events[self.iid_field]].numpy()
            self.history = take_rows(events, np.flatnonzero(kept))
            found = among_kept(found, kept)
        places = self._order_of_targets(found.target, None if part is None else part[order])
        target, first, last = (rows.take(places) for rows in found)
        first = np.maximum(first, last - self.max_item_list_len)
        self.inter_feat = take_rows(events, target)
        if self.config["held_out_items"]:
            self.inter_feat[EVENT_ROW] = torch.from_numpy(target)
        self.inter_feat.update(
            Interaction(
                {
                    FIRST_ROW: torch.from_numpy(first),
                    LAST_ROW: torch.from_numpy(last),
                    self.item_list_length_field: torch.from_numpy(last - first),
                }
            )
        )

    def _order_of_events(self, part: np.ndarray | None) -> np.ndarray:
        ties, ranks = self.config["tie_order"] or "file", None
        if ties == "item":
            rank_of_item = np.unique(self._tokens_of(self.iid_field), return_inverse=True)[1]
            ranks = rank_of_item[self.inter_feat[self.iid_field].numpy()]
        users, times = (self.inter_feat[field].numpy() for field in self._user_and_time)
        return order_of_events(users, times, ties, ranks, part)

    def _order_of_targets(self, target: np.ndarray, part: np.ndarray | None) -> np.ndarray:
        """The order in which targets are split: by file, or by the time of each user's first
        target, which is RecBole's order for a leave-one-out split."""
        if part is not None:
            return self.targets_by_part(target, part)
        if not self._leaves_last_out:
            return np.arange(len(target))
        return users_by_start(*(self.events[f].numpy().take(target) for f in self._user_and_time))

    @property
    def _user_and_time(self) -> tuple[str, str]:
        return self.uid_field, self.time_field

    @property
    def _leaves_last_out(self) -> bool:
        arguments = self.config["eval_args"]
        in_time = arguments["order"] == "TO" and not self.benchmark_filename_list
        return in_time and list(arguments["split"] or ()) == ["LS"]

    def _tokens_of(self, field: str) -> np.ndarray:
        return np.asarray(self.field2id_token[field]).astype(str)

    def _divide(self):
        if not self._leaves_last_out:
            return super().build()
        self._change_feat_format()  # afterwards, users are in the order of RecBole's sort by time
        split = self.config["eval_args"]["split"]
        return self.leave_one_out(self.uid_field, leave_one_mode=split["LS"])

    def leave_one_out(self, group_by, leave_one_mode):
        """Like RecBole's, with rows in its order, but with arrays instead of a list per user."""
        n_left_out = {"valid_and_test": 2, "valid_only": 1, "test_only": 1}
        if leave_one_mode not in n_left_out:
            raise DatasetError(
                f"eval_args: split: LS must be one of {sorted(n_left_out)}, not {leave_one_mode!r}."
            )
        parts = leave_one_out(self.inter_feat[group_by].numpy(), n_left_out[leave_one_mode])
        if n_left_out[leave_one_mode] == 1:
            parts.insert(2 if leave_one_mode == "valid_only" else 1, parts[0][:0])
        self._drop_unused_col()
        return [self.copy(take_rows(self.inter_feat, part)) for part in parts]

    def split_by_ratio(self, ratios, group_by=None):
        """Like RecBole's, but a global split puts events at the same time on the same, later side.

        Raises:
            DatasetError: a global split of events without times, or an empty part.
        """
        if group_by is not None:
            return super().split_by_ratio(ratios, group_by)
        if not self.has_time:
            raise DatasetError(
                f"{self.dataset_path}: a split by time needs times, but the interactions have "
                f"no column '{self.time_field}'."
            )
        times = self.inter_feat[self.time_field].numpy()
        total = sum(ratios)
        cuts = self._calcu_split_ids(tot=len(times), ratios=[ratio / total for ratio in ratios])
        edges = cut_at_moments(times, cuts)
        if any(size == 0 < ratio for size, ratio in zip(np.diff(edges), ratios, strict=True)):
            raise DatasetError(
                f"{self.dataset_path}: too many events with the same time to split them by time "
                f"into parts of {ratios}: the parts would have {np.diff(edges).tolist()} events."
            )
        self._drop_unused_col()
        return [self.copy(self.inter_feat[a:b]) for a, b in pairwise(edges)]

    def held_out(self) -> torch.Tensor:
        """Whether items are excluded from training (``held_out_items``), ``(n_items,)`` bool; see
        :func:`~recbole_mm.data.sequences.drawn_by_token`.

        Raises:
            DatasetError: the share is not in [0, 1).
        """
        share = self.config["held_out_items"] or 0.0
        if not 0 <= share < 1:
            raise DatasetError(
                f"held_out_items must be a share of the items in [0, 1), not {share}."
            )
        drawn = drawn_by_token(self._tokens_of(self.iid_field)[1:], share) + 1
        held_out = torch.zeros(self.item_num, dtype=torch.bool)
        held_out[torch.from_numpy(drawn)] = True
        return held_out

    def _without_held_out(self, datasets):
        held_out = self.held_out()
        train, valid, test = (d.inter_feat for d in datasets)
        train, valid = (
            take_rows(part, np.flatnonzero(~held_out[part[self.iid_field]].numpy()))
            for part in (train, valid)
        )
        if len(train) == 0:
            raise DatasetError(
                f"{self.dataset_path}: held_out_items: {self.config['held_out_items']} leaves no training "
                f"target, {int(held_out.sum())} of {self.item_num - 1} items are held out; give a smaller share"
            )
        n_cold = int(held_out[test[self.iid_field]].sum())
        self.logger.info(
            f"held out of training and histories: {counted(int(held_out.sum()), 'item', 'items')}, "
            f"the targets of {n_cold} of {counted(len(test), 'test user', 'test users')}."
        )
        return [self.copy(part) for part in (train, valid, test)]

    def _of_training_users(self, train):
        """Keep the training targets of a share of the users that have some, at least of one user.

        The events of the other users remain in the histories of their validation and test targets,
        but are not part of any training target, count, transition or window.
        """
        share, users = self.config["train_users"], train.inter_feat[self.uid_field].numpy()
        having = np.unique(users)
        tokens = self._tokens_of(self.uid_field)[having]
        drawn = having[drawn_by_token(tokens, max(share, 1 / max(len(having), 1)))]
        kept = take_rows(train.inter_feat, np.flatnonzero(np.isin(users, drawn)))
        self.logger.info(
            f"train_users: {share}: {len(drawn)} of {len(having)} users have training targets, "
            f"{len(kept)} of {len(users)}."
        )
        return self.copy(kept)

    def item_counts(self) -> torch.Tensor:
        """How often an item is a target or in a history of this split, ``(n_items,)`` int64."""
        return torch.bincount(self.events_seen()[1], minlength=self.item_num)

    def item_counts_of_all_events(self) -> torch.Tensor:
        """How often an item occurs in all events, ``(n_items,)`` int64. Files of histories belong to
        one split each, so call it on the data set before its split."""
        items = self.events_seen()[1] if self.has_histories else self.events[self.iid_field]
        return torch.bincount(items, minlength=self.item_num)

    def events_seen(self) -> tuple[torch.Tensor, torch.Tensor]:
        """User and item ids of the events that are targets of this split or precede one; if a file
        contains histories, each event counts as often as it occurs there."""
        if FIRST_ROW in self.inter_feat:
            rows = self._rows_seen()
            return self.history[self.uid_field][rows], self.history[self.iid_field][rows]
        users, items = self.inter_feat[self.uid_field], self.inter_feat[self.iid_field]
        name = self.history_field(self.iid_field)
        if name in self.inter_feat:
            histories = self.inter_feat[name]
            in_history = users.unsqueeze(1).expand_as(histories)
            users = torch.cat([users, in_history.flatten()])
            items = torch.cat([items, histories.flatten()])
        return users[items > 0], items[items > 0]

    def next_items(self, window: int) -> tuple[np.ndarray, np.ndarray]:
        """The last items of the history of each target of this split, and the target.

        Args:
            window: maximum number of items of the history, at most ``MAX_ITEM_LIST_LENGTH``.

        Returns:
            ids ``(n, window)``, the latest item first, 0 where a history is shorter; ids of the
            targets ``(n,)``.
        """
        lengths = self.inter_feat[self.item_list_length_field].numpy()
        place = lengths[:, None] - 1 - np.arange(window)
        if FIRST_ROW in self.inter_feat:
            rows = self.inter_feat[FIRST_ROW].numpy()[:, None] + np.maximum(place, 0)
            before = self.history[self.iid_field].numpy()[rows]
        else:
            histories = self.inter_feat[self.history_field(self.iid_field)].numpy()
            before = np.take_along_axis(histories, np.maximum(place, 0), axis=1)
        return np.where(place >= 0, before, 0), self.inter_feat[self.iid_field].numpy()

    def inter_matrix(self, form="coo", value_field=None):
        """Sparse matrix of the interactions that this split may use, ``(users, items)``."""
        if FIRST_ROW not in self.inter_feat:
            return super().inter_matrix(form, value_field)
        return self._create_sparse_matrix(
            take_rows(self.history, self._rows_seen().numpy()),
            self.uid_field,
            self.iid_field,
            form,
            value_field,
        )

    def _rows_seen(self) -> torch.Tensor:
        """Rows of the history that are targets here or precede one."""
        first, last = self.inter_feat[FIRST_ROW], self.inter_feat[LAST_ROW]
        return torch.cat([last, first[last - first == 1]]).unique()
