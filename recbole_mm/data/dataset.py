r"""Sequential data sets with item features, exact times, and prefixes by index."""

import os
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.utils import FeatureSource, FeatureType, get_model

from recbole_mm.data.augmentation import random_crops, shuffled_ties, times_as_target
from recbole_mm.data.builtin import ensure_builtin
from recbole_mm.data.domains import (
    common_modalities,
    domain_folder,
    domains_of,
    domains_with,
    excluded_data_sets,
)
from recbole_mm.data.errors import DatasetError
from recbole_mm.data.feature_files import (
    describe_features,
    feature_path,
    find_modalities,
    read_feature_info,
)
from recbole_mm.data.features import ItemFeatures, read_item_features
from recbole_mm.data.mixture import (
    domain_of_items,
    one_below_another,
    read_mixture_features,
    with_domain,
    without_domain,
)
from recbole_mm.data.presplit import PresplitDataset
from recbole_mm.data.seen_split import recorded_split, refuse_other_split, split_record
from recbole_mm.data.sequences import (
    among_kept,
    cut_at_moments,
    drawn_by_token,
    leave_one_out,
    order_of_events,
    prefixes,
    users_by_start,
    windows,
)
from recbole_mm.data.shared_users import plain_tokens, users_of
from recbole_mm.data.token_ids import categorical
from recbole_mm.tools import processes

# columns of a target: its history is the rows [first, last) of ``MultiModalDataset.history``, where
# it is row ``last`` itself unless some items are held out: it is then row ``event`` of
# ``MultiModalDataset.events``, which has theirs too
FIRST_ROW = "_first_row"
LAST_ROW = "_last_row"
EVENT_ROW = "_event_row"
# what follows each event of a window, see ``loss_positions: all``
TARGET_LIST = "_target_list"

LOSS_POSITIONS = ("last", "all")
READ_OTHER_HISTORIES = ("FEARec",)
"""Models of RecBole that look up the histories of other examples in ``inter_feat``."""

DOMAIN_SAMPLINGS = ("proportional", "balanced")


def take_rows(events: Interaction, rows) -> Interaction:
    """``events[rows]``, of whose row numbers RecBole would make a Python list for every column."""
    if isinstance(rows, (int, slice)):
        return events[rows]
    rows = np.asarray(rows)
    if rows.ndim == 0:
        return events[int(rows)]
    rows = np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.int64)
    taken = {field: events[field].numpy().take(rows, axis=0) for field in events}
    return Interaction({field: torch.from_numpy(values) for field, values in taken.items()})


class MultiModalDataset(PresplitDataset):
    """A RecBole sequential data set that also knows its items by frozen features.

    It reads ``<dataset>.<modality>.npz`` for every modality (see
    :mod:`recbole_mm.data.features`) and aligns the rows by item token.

    Differences from RecBole's own class, for every model that uses it:

    - Events are ordered by user, time, and ``tie_order``: by default events of the same time keep
      the order of the ``.inter`` file. Without a time column the file's order is the order.
    - Times stay float64 and are never normalised: batches hold unix seconds to the last digit.
    - A set with ``domains`` is a mixture (:mod:`recbole_mm.data.mixture`): its interactions are
      those of its domains, unless it has a file of its own. A domain without times keeps the order
      of its file, the others are in order of time. ``domain_sampling: balanced`` draws
      as many training examples from each, drawn again every epoch; with ``domain_curriculum`` the
      domains join one after another. Domains can be kept for validation and test alone
      (``held_out_domains``).
    - Users of other data sets, such as the target of a transfer, can be left out
      (``exclude_users_of``).
    - A prefix is two row numbers, and its items are looked up when a batch is made: memory is
      linear in interactions and does not depend on ``MAX_ITEM_LIST_LENGTH``.
    - With ``loss_positions: all`` a training example is a window of a user's events, each the
      target of those before it in the window, instead of a single target: the targets are the
      same, and only as many positions are computed as there are events. Long histories are cut into windows of
      ``MAX_ITEM_LIST_LENGTH`` targets, the latest first.

    Attributes:
        modalities: names, in the order of the config; text and image first if the config does not name any.
        features: modality -> :class:`~recbole_mm.data.features.ItemFeatures`.
        feature_info: modality -> how its features were made, see
            :func:`~recbole_mm.data.feature_files.describe_features`.
        has_time: whether all interactions have times.
        domains: names of the domains, empty for a set that is not a mixture.
        item_domain: of a mixture, the index of each item's domain, ``(n_items,)``, -1 for the
            padding item.

    Raises:
        MixtureError: domains that do not go together.
        DatasetError: no interactions, negative or missing times, unknown modalities.
        FeatureFileError: see :func:`~recbole_mm.data.features.read_item_features`.
    """

    def _load_data(self, token, dataset_path):
        ensure_builtin(self.config)
        self.domains = domains_of(self.config)
        self.example_of_row = self.windows = None
        self.shuffle_ties, self.crop_share = False, 0.0  # only the training part changes examples
        super()._load_data(token, dataset_path)

    def _download(self):
        if not self.domains:  # a mixture needs no folder of its own
            super()._download()

    def _load_inter_feat(self, token, dataset_path):
        path = f"{dataset_path}/{token}.inter"
        if self.domains and not os.path.isfile(path):
            self._load_domains()
        else:
            super()._load_inter_feat(token, dataset_path)
            self._leave_users_out(token)
            self.has_time = self._has_time_or_order(path)

    def _leave_users_out(self, name: str) -> None:
        """Leave out the interactions of users of other data sets (``exclude_users_of``)."""
        others = excluded_data_sets(self.config)
        if not others:
            return
        if self.benchmark_filename_list:
            raise DatasetError(
                f"exclude_users_of: {others} does not go with benchmark_filename: leave the users "
                f"out of the files of {self.dataset_name}"
            )
        users = categorical(self.inter_feat[self.uid_field])
        tokens = plain_tokens(users.categories, bool(self.domains) and name == self.dataset_name)
        excluded = np.append(tokens.isin(users_of(self.config, others)), False)[users.codes]
        known = np.unique(users.codes[users.codes >= 0])
        gone = np.unique(users.codes[excluded])
        if len(gone) == len(known):
            raise DatasetError(
                f"exclude_users_of: all {len(known)} users of {name} are users of {others}"
            )
        self.logger.info(
            f"exclude_users_of: {len(gone)} of {len(known)} users of {name}, and {excluded.sum()} of "
            f"{len(excluded)} interactions, are left out: users of {', '.join(others)}"
        )
        self.inter_feat = self.inter_feat[~excluded].reset_index(drop=True)

    def _has_time_or_order(self, path: str) -> bool:
        """Whether the interactions have times; if not, the order of their rows stands in for them."""
        names = [self.time_field]
        if self.has_histories:
            names.append(self.history_field(self.time_field))
        missing = [name for name in names if name not in self.inter_feat]
        if not missing:
            return True
        order = "" if self.has_histories else "the order of its rows is the order of events, and "
        self.logger.info(
            f"{path} has no column '{missing[0]}': {order}models run without time. A column of "
            f"another name: --TIME_FIELD=COLUMN"
        )
        if self.time_field in missing:
            self._take_order_for_time()
        return False

    def _take_order_for_time(self) -> None:
        self.inter_feat[self.time_field] = np.arange(len(self.inter_feat), dtype=np.float64)
        self.set_field_property(self.time_field, FeatureType.FLOAT, FeatureSource.INTERACTION, 1)

    def _load_domains(self):
        """The interactions of all domains, one domain after the other.

        Users belong to one domain, so their events are in order of its times, or of its rows.
        """
        if self.benchmark_filename_list or self.config["feature_path"]:
            raise DatasetError(
                f"{self.dataset_name} is a mixture: benchmark_filename and feature_path do not "
                f"apply to it. Leave them empty."
            )
        parts, timed = [], []
        for domain in self.domains:
            folder = str(domain_folder(self.config, domain))
            super()._load_inter_feat(domain, folder)
            self._leave_users_out(domain)
            timed.append(self._has_time_or_order(f"{folder}/{domain}.inter"))
            for field in (self.uid_field, self.iid_field):
                self.inter_feat[field] = with_domain(self.inter_feat[field], domain)
            self.logger.info(f"domain {domain}: {len(self.inter_feat)} interactions")
            parts.append(self.inter_feat)
        self.has_time = all(timed)
        for field in dict.fromkeys(name for part in parts for name in part):
            lacking = [d for d, part in zip(self.domains, parts, strict=True) if field not in part]
            if lacking:
                self.logger.info(f"column '{field}' is left out: {lacking} do not have it")
                for part in parts:
                    if field in part:
                        self._del_col(part, field)
        self.inter_feat = one_below_another(parts)

    def _normalize(self):
        names = (self.time_field, self.history_field(self.time_field))
        times = {name: self.inter_feat[name].copy() for name in names if name in self.inter_feat}
        super()._normalize()
        for name, values in times.items():
            self.inter_feat[name] = values

    def _data_processing(self):
        super()._data_processing()
        if self.domains:
            tokens, origin = self.field2id_token[self.iid_field], f"mixture {self.dataset_path}"
            self.item_domain = domain_of_items(tokens, self.domains, origin)
        self._load_features()

    def _load_features(self):
        names = self.config["modalities"]
        if names is None:
            names = self.find_modalities()
        if isinstance(names, str):
            names = [names]
        self.modalities = list(names)
        self.features = {name: self.read_features(name) for name in self.modalities}
        self.feature_info = {
            name: describe_features(self.feature_file(name)) for name in self.modalities
        }
        self._report_coverage()

    def feature_file(self, modality: str) -> Path:
        """The feature file of a modality; of a mixture, whose domains agree, the first one."""
        return self._feature_file(modality, self._parts_with(modality)[0])

    def _parts_with(self, modality: str) -> list[str | None]:
        """The domains that have features of a modality; of a data set that is no mixture, itself."""
        folder = self.config["feature_path"] or self.dataset_path
        return list(domains_with(Path(folder).parent, self.domains, modality)) or [None]

    def find_modalities(self) -> list[str]:
        """The modalities with a feature file, in a mixture those that all domains have; others
        are in use if they are named."""
        folder = self.config["feature_path"] or self.dataset_path
        if self.domains:
            names, left_out = common_modalities(os.path.dirname(folder), self.domains)
            hint = " (modalities names what is used, where it exists)" if left_out else ""
            self.logger.info(
                f"modalities of all domains: {names}; left out: {left_out or 'none'}{hint}"
            )
        else:
            names = find_modalities(folder, self.dataset_name)
            self.logger.info(f"modalities found in {folder}: {names}")
        return names

    def read_features(self, name: str) -> ItemFeatures:
        """One feature file of this data set, aligned with its items."""
        return self._align(name, self.config["min_feature_coverage"] or 0.0)

    def presence(self, name: str) -> torch.Tensor:
        """Which items have the modality, however few, ``(n_items,)`` bool."""
        return self._align(name, 0.0).present

    def _align(self, name: str, coverage: float) -> ItemFeatures:
        folder = self.config["feature_path"] or self.dataset_path
        tokens = self.field2id_token[self.iid_field]
        if self.domains:
            root = os.path.dirname(folder)
            return read_mixture_features(root, self.domains, name, tokens, coverage)
        return read_item_features(feature_path(folder, self.dataset_name, name), tokens, coverage)

    def _report_coverage(self):
        if not self.features:
            return
        n_items = self.item_num - 1
        nothing = torch.ones(n_items, dtype=torch.bool)
        for name, features in self.features.items():
            nothing &= ~features.present[1:]
            share = features.present.sum().item() / max(n_items, 1)
            self.logger.info(
                f"modality {name}: width {features.values.shape[1]}, {share:.1%} of {n_items} items"
            )
            without = [domain for domain in self.domains if domain not in self._parts_with(name)]
            if without:
                self.logger.warning(
                    f"modality {name}: {', '.join(without)} has no such feature file, so none of its "
                    f"items has it"
                )
        if nothing.any():
            self.logger.info(
                f"{int(nothing.sum())} items have no modality: they can only be recommended by "
                f"their id, if they have a training interaction."
            )

    def _dataframe_to_interaction(self, data):
        interaction = super()._dataframe_to_interaction(data)
        if self.time_field in data:
            times = data[self.time_field].to_numpy(dtype=np.float64)
            interaction.interaction[self.time_field] = torch.from_numpy(times.copy())
        return interaction

    def data_augmentation(self):
        """Make every event but a user's first the target of the events before it, by index."""
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
            self.logger.info(f"{single} users have a single interaction and are left out.")
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
        """In which order targets are divided: by file, or users by the times of their first targets,
        which is how RecBole orders a leave-one-out split."""
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

    def _remove_duplication(self):
        """As RecBole's (``rm_dup_inter``), but in the order of events, and rows keep their order.

        RecBole sorts by time with an unstable algorithm, which shuffles events of the same time.
        """
        keep = self.config["rm_dup_inter"]
        if keep is None:
            return
        by_time = self.inter_feat.sort_values(self.time_field, kind="stable")
        kept = by_time.drop_duplicates([self.uid_field, self.iid_field], keep=keep).index
        self.inter_feat = self.inter_feat.loc[self.inter_feat.index.isin(kept)]

    def held_out(self) -> torch.Tensor:
        """Items that are left out of training (``held_out_items``), ``(n_items,)`` bool; see
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

    def build(self):
        """Training, validation and test; held-out items are only targets of the test, held-out
        domains of validation and test, and the training targets are those of a share of the users
        (``train_users``)."""
        datasets = self._divide()
        self._refuse_settings_that_need_events()
        if self.config["held_out_domains"]:
            datasets = self._without_held_out_domains(datasets)
        if self.config["held_out_items"]:
            datasets = self._without_held_out(datasets)
        if self.config["train_users"] not in (None, 1):
            datasets[0] = self._of_training_users(datasets[0])
        self._refuse_leaking_features(datasets[0])
        self._train_on_windows(datasets[0])
        self._draw_by_domain(datasets[0])
        if self.config["model"] in READ_OTHER_HISTORIES:
            name, train = self.history_field(self.iid_field), datasets[0]
            train.inter_feat[name] = train[torch.arange(len(train))][name]
        self._augment(datasets[0])
        if processes.size() > 1:
            for part in datasets[1:]:
                part.inter_feat = self._own_share(part.inter_feat)
        return datasets

    def _divide(self):
        if not self._leaves_last_out:
            return super().build()
        self._change_feat_format()  # users are in the order of RecBole's sort by time then
        split = self.config["eval_args"]["split"]
        return self.leave_one_out(self.uid_field, leave_one_mode=split["LS"])

    def _refuse_settings_that_need_events(self) -> None:
        settings = {"held_out_items": self.config["held_out_items"]}
        settings["loss_positions"] = self.config["loss_positions"] == "all"
        settings["shuffle_ties"] = self.config["shuffle_ties"]
        given = [key for key, value in settings.items() if value]
        if given and self.has_histories:
            raise DatasetError(
                f"{given[0]}: {self.config[given[0]]} needs events, but the files of "
                f"{self.dataset_name} hold histories ({self.history_field(self.iid_field)}); give "
                f"files of {self.uid_field}, {self.iid_field} and {self.time_field}"
            )

    def _refuse_leaking_features(self, train) -> None:
        """Refuse features of an encoder that was tuned on another split."""
        current: dict[str | None, dict] = {}
        for modality in self.modalities:
            for domain in self._parts_with(modality):
                path = self._feature_file(modality, domain)
                seen = recorded_split(read_feature_info(path), path)
                if seen is not None:
                    if domain not in current:
                        current[domain] = train.split_record(domain)
                    fix = f"leave {modality!r} out (--modalities)"
                    refuse_other_split(path, seen, current[domain], fix)

    def _feature_file(self, modality: str, domain: str | None = None) -> Path:
        folder = self.config["feature_path"] or self.dataset_path
        if domain is None:
            return feature_path(folder, self.dataset_name, modality)
        return feature_path(Path(folder).parent / domain, domain, modality)

    def split_record(self, domain: str | None = None) -> dict:
        """What identifies the events of this split, see
        :func:`~recbole_mm.data.seen_split.split_record`.

        Args:
            domain: of a mixture, one of its domains, as a data set of its own.
        """
        users, items = (ids.numpy() for ids in self.events_seen())
        if domain is not None:
            own = (self.item_domain == self.domains.index(domain)).numpy()[items]
            users, items = users[own], items[own]
        names = [self._tokens_of(field) for field in (self.uid_field, self.iid_field)]
        if domain is not None:
            names = [without_domain(tokens, domain) for tokens in names]
        of_events = (names[0][users], names[1][items])
        return split_record(self.config, domain or self.dataset_name, *of_events)

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

    def _draw_by_domain(self, train) -> None:
        sampling, pause = self.config["domain_sampling"], self.config["domain_curriculum"]
        if sampling not in DOMAIN_SAMPLINGS:
            raise DatasetError(f"domain_sampling must be one of {DOMAIN_SAMPLINGS}: {sampling!r}.")
        if sampling == "proportional" and not pause:
            return
        if not self.domains:
            key = f"domain_curriculum: {pause}" if pause else f"domain_sampling: {sampling}"
            raise DatasetError(f"{key} needs a mixture; {self.dataset_name} has no domains")
        train.example_of_row = torch.arange(len(train))
        train.on_epoch_start(0)

    def _make_windows(self) -> Interaction:
        """Windows as rows: what they read is ``[FIRST_ROW, LAST_ROW)``, their targets are the same
        rows one later."""
        order = np.argsort(self.inter_feat[LAST_ROW].numpy())
        targets = take_rows(self.inter_feat, order)
        row, user = targets[LAST_ROW].numpy(), targets[self.uid_field].numpy()
        first, last = windows(row, user, self.max_item_list_len)
        made = take_rows(targets, last)
        made[FIRST_ROW] = torch.from_numpy(row[first] - 1)
        made[self.item_list_length_field] = torch.from_numpy(row[last] - row[first] + 1)
        return made

    @property
    def examples(self) -> Interaction:
        """The rows that batches consist of."""
        return self.inter_feat if self.windows is None else self.windows

    def __len__(self):
        return len(self.examples)

    def _own_share(self, users):
        """Users that this process evaluates."""
        if len(users) < processes.size():
            raise DatasetError(
                f"{self.dataset_path}: {len(users)} users to evaluate are fewer than the "
                f"{processes.size()} processes; start fewer processes."
            )
        return take_rows(users, np.arange(processes.rank(), len(users), processes.size()))

    def on_epoch_start(self, epoch: int) -> None:
        """Draw the examples of an epoch, if domains are balanced or join one after another: none is
        repeated before all others of its domain were drawn."""
        if self.example_of_row is None:
            return
        random = torch.Generator().manual_seed(self.config["seed"] + epoch)
        domain = self.item_domain[self.examples[self.iid_field]]
        drawn = []
        for number, share in enumerate(self._domain_shares(epoch)):
            examples = (domain == number).nonzero().squeeze(1)
            rounds = -(-share // max(len(examples), 1))
            order = [torch.randperm(len(examples), generator=random) for _ in range(rounds)]
            drawn += [examples[torch.cat(order)[:share]]] if share else []
        self.example_of_row = torch.cat(drawn)

    def _domain_shares(self, epoch: int | None = None) -> list[int]:
        """How many examples an epoch draws of each domain.

        Args:
            epoch: its number; ``None``: one after all domains have joined.
        """
        available = self._examples_by_domain(torch.arange(len(self))).tolist()
        training = [n for n, d in enumerate(self.domains) if d not in self._held_out_domains()]
        for number in training:
            if not available[number]:
                raise DatasetError(f"domain {self.domains[number]} has no training example.")
        pause = self.config["domain_curriculum"]
        if pause and epoch is not None:
            training = training[: 1 + epoch // pause]
        balanced = self.config["domain_sampling"] == "balanced"
        weights = [1 if balanced else available[number] for number in training]
        ends = [len(self) * total // sum(weights) for total in accumulate(weights)]
        shares = [0] * len(self.domains)
        for number, start, end in zip(training, [0, *ends], ends, strict=False):
            shares[number] = end - start
        return shares

    def _held_out_domains(self) -> list[str]:
        """The domains that are not trained on (``held_out_domains``).

        Raises:
            DatasetError: not domains of this mixture, or all of them.
        """
        names = self.config["held_out_domains"] or []
        names = [names] if isinstance(names, str) else list(names)
        unknown = [name for name in names if name not in self.domains]
        if unknown:
            raise DatasetError(
                f"held_out_domains: {unknown[0]!r} is not a domain of {self.dataset_name}, which has "
                f"{self.domains or 'none'}"
            )
        if names and set(names) == set(self.domains):
            raise DatasetError(f"held_out_domains: {names} are all domains; leave one for training")
        return names

    def _without_held_out_domains(self, datasets):
        """The other domains for training, these for validation and test."""
        names = self._held_out_domains()
        numbers = torch.tensor([self.domains.index(name) for name in names])
        held_out = torch.isin(self.item_domain, numbers)
        parts = []
        for number, part in enumerate(datasets):
            own = held_out[part.inter_feat[self.iid_field]].numpy()
            rows = np.flatnonzero(own if number else ~own)
            parts.append(self.copy(take_rows(part.inter_feat, rows)))
        self.logger.info(
            f"held_out_domains: {', '.join(names)}: {len(parts[0])} training targets of the other "
            f"domains, {len(parts[1])} targets for validation and {len(parts[2])} for the test"
        )
        return parts

    def _without_held_out(self, datasets):
        held_out = self.held_out()
        train, valid, test = (d.inter_feat for d in datasets)
        train, valid = (
            take_rows(part, np.flatnonzero(~held_out[part[self.iid_field]].numpy()))
            for part in (train, valid)
        )
        n_cold = int(held_out[test[self.iid_field]].sum())
        self.logger.info(
            f"{int(held_out.sum())} items are held out: they are the targets of {n_cold} of "
            f"{len(test)} test users, and appear in no history."
        )
        return [self.copy(part) for part in (train, valid, test)]

    def _of_training_users(self, train):
        """The training targets of a share of the users that have some, of one user at least.

        The events of the other users stay histories of their validation and test targets, but no
        training target, count, transition or window has them.
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

    def leave_one_out(self, group_by, leave_one_mode):
        """As RecBole's, rows in its order, by arrays instead of a Python list per user."""
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
        """As RecBole's; a global split puts events with the same time on one side, the later one.

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
            columns[getattr(self, f"{field}_list_field")] = values.masked_fill_(padding, 0)
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

    def item_counts(self) -> torch.Tensor:
        """How often this split has an item as a target or in a history, ``(n_items,)`` int64."""
        return torch.bincount(self.events_seen()[1], minlength=self.item_num)

    def events_seen(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Users and items, as ids, of the events that are targets of this split or before one; of
        histories in a file, each as often as it occurs there."""
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
            window: how many items of the history, at most; not more than
                ``MAX_ITEM_LIST_LENGTH``.

        Returns:
            ids ``(n, window)``, the latest item first, 0 where a history is shorter; ids ``(n,)``.
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

    def item_shares(self) -> torch.Tensor:
        """Shares of the items among the targets that are drawn for training, ``(n_items,)``.

        With balanced domains an item counts as often as an epoch draws an example of its domain (with a
        curriculum, once all domains have joined), and with shuffled ties as often as it is a target of its window, on average.
        """
        counts = self._target_counts()
        if self.example_of_row is not None:
            available = self._examples_by_domain(torch.arange(len(self))).clamp(min=1)
            drawn = torch.tensor(self._domain_shares())
            counts *= (drawn / available)[self.item_domain]  # of the padding item there are none
        return counts / counts.sum()

    def _target_counts(self) -> torch.Tensor:
        """How often an item is a target in an epoch that draws every example once, ``(n_items,)``."""
        items, weights = self.inter_feat[self.iid_field], None
        if self.windows is not None and self.shuffle_ties:
            items = self.history[self.iid_field]
            columns = (self.history[name].numpy() for name in (self.uid_field, self.time_field))
            bounds = (self.windows[name].numpy() for name in (FIRST_ROW, LAST_ROW))
            weights = torch.from_numpy(times_as_target(*columns, *bounds))
        return torch.bincount(items, weights, minlength=self.item_num).double()

    def _examples_by_domain(self, rows: torch.Tensor) -> torch.Tensor:
        domain = self.item_domain[self.examples[self.iid_field][rows]]
        return torch.bincount(domain, minlength=len(self.domains))

    def inter_matrix(self, form="coo", value_field=None):
        """Sparse matrix of the interactions that this split may look at, ``(users, items)``."""
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
        """Rows of the history that are targets here, or before one."""
        first, last = self.inter_feat[FIRST_ROW], self.inter_feat[LAST_ROW]
        return torch.cat([last, first[last - first == 1]]).unique()
