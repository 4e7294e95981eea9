r"""A data set of several domains, and data sets without the users of others."""

import os
from itertools import accumulate

import numpy as np
import torch

from recbole_mm.data.domains import domain_folder, domains_of, excluded_data_sets
from recbole_mm.data.errors import DatasetError
from recbole_mm.data.examples import ExampleDataset
from recbole_mm.data.mixture import (
    domain_of_items,
    one_below_another,
    refuse_users_without_domain,
    with_domain,
)
from recbole_mm.data.prefixes import take_rows
from recbole_mm.data.shared_users import plain_tokens, users_of
from recbole_mm.data.token_ids import categorical
from recbole_mm.tools.counts import counted

DOMAIN_SAMPLINGS = ("proportional", "balanced")


class MixtureDataset(ExampleDataset):
    """A sequential data set that may be a mixture (:mod:`recbole_mm.data.mixture`).

    A set with ``domains`` has the interactions of these domains, unless it has its own file. A
    domain without times keeps the order of its file; the others are sorted by time.
    ``domain_sampling: balanced`` draws the same number of training examples from each domain, again
    in every epoch; with ``domain_curriculum`` the domains join one after another. Domains can be
    reserved for validation and test (``held_out_domains``). Users of other data sets, such as the
    target of a transfer, can be excluded from any set (``exclude_users_of``).

    Attributes:
        domains: names of the domains, empty for a set that is not a mixture.
        item_domain: index of each item's domain in a mixture, ``(n_items,)``, -1 for the padding
            item.

    Raises:
        MixtureError: the domains are incompatible.
    """

    domains: list[str]
    item_domain: torch.Tensor

    def _load_data(self, token, dataset_path):
        self.domains = domains_of(self.config)
        super()._load_data(token, dataset_path)

    def _data_processing(self):
        super()._data_processing()
        if self.domains:
            tokens, origin = self.field2id_token[self.iid_field], f"mixture {self.dataset_path}"
            self.item_domain = domain_of_items(tokens, self.domains, origin)

    def _download(self):
        if not self.domains:  # a mixture does not need its own folder
            super()._download()

    def _load_inter_feat(self, token, dataset_path):
        path = f"{dataset_path}/{token}.inter"
        if self.domains and not os.path.isfile(path):
            self._load_domains()
        else:
            super()._load_inter_feat(token, dataset_path)
            if self.domains:
                users = categorical(self.inter_feat[self.uid_field]).categories
                refuse_users_without_domain(users, self.domains, f"mixture {dataset_path}")
            self._leave_users_out(token)
            self.has_time = self._has_time_or_order(path)

    def _leave_users_out(self, name: str) -> None:
        """Remove the interactions of users of other data sets (``exclude_users_of``)."""
        others = excluded_data_sets(self.config)
        if not others:
            return
        if self.benchmark_filename_list:
            raise DatasetError(
                f"exclude_users_of: {others} does not work with benchmark_filename: remove the "
                f"users from the files of {self.dataset_name}"
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
            f"{len(excluded)} interactions, are excluded: users of {', '.join(others)}"
        )
        self.inter_feat = self.inter_feat[~excluded].reset_index(drop=True)

    def _load_domains(self):
        """Load the interactions of all domains, one domain after another.

        A user belongs to one domain, so the user's events are in the order of its times, or of its
        rows.
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
            self.logger.info(
                f"domain {domain}: {counted(len(self.inter_feat), 'interaction', 'interactions')}"
            )
            parts.append(self.inter_feat)
        self.has_time = all(timed)
        for field in dict.fromkeys(name for part in parts for name in part):
            lacking = [d for d, part in zip(self.domains, parts, strict=True) if field not in part]
            if lacking:
                self.logger.info(f"column '{field}' is dropped: {lacking} do not have it")
                for part in parts:
                    if field in part:
                        self._del_col(part, field)
        self.inter_feat = one_below_another(parts)

    def _draw_by_domain(self, train) -> None:
        sampling, pause = self.config["domain_sampling"], self.config["domain_curriculum"]
        if sampling not in DOMAIN_SAMPLINGS:
            raise DatasetError(f"domain_sampling must be one of {DOMAIN_SAMPLINGS}: {sampling!r}.")
        if sampling == "proportional" and not pause:
            return
        if not self.domains:
            key = f"domain_curriculum: {pause}" if pause else f"domain_sampling: {sampling}"
            raise DatasetError(f"{key} needs a mixture; {self.dataset_name} has no domains")
        train.example_of_row = torch.arange(len(train))  # models without training read all of them
        train._domain_shares()  # refuses a domain without examples now

    def on_epoch_start(self, epoch: int) -> None:
        """Draw the examples of an epoch, if domains are balanced or join one after another: no
        example is repeated before all others of its domain were drawn. Every trainer calls this
        method."""
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
        """How many examples an epoch draws from each domain.

        Args:
            epoch: number of the epoch; ``None``: an epoch after all domains have joined.

        Raises:
            DatasetError: a domain for training has no training example.
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

    def _examples_by_domain(self, rows: torch.Tensor) -> torch.Tensor:
        domain = self.item_domain[self.examples[self.iid_field][rows]]
        return torch.bincount(domain, minlength=len(self.domains))

    def _target_counts(self) -> torch.Tensor:
        """Counts weighted by how often an epoch draws an example of the item's domain; with a
        curriculum, after all domains have joined."""
        counts = super()._target_counts()
        if self.example_of_row is not None:
            available = self._examples_by_domain(torch.arange(len(self))).clamp(min=1)
            drawn = torch.tensor(self._domain_shares())
            counts *= (drawn / available)[self.item_domain]  # the padding item has no counts
        return counts

    def _held_out_domains(self) -> list[str]:
        """The domains that are not trained on (``held_out_domains``).

        Raises:
            DatasetError: a name is not a domain of this mixture, or all domains are held out.
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
        """Use the other domains for training, and these for validation and test."""
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
