r"""The data set of the multi-modal models: a sequential data set with item features."""

import os
from pathlib import Path

import torch

from recbole_mm.data.builtin import ensure_builtin
from recbole_mm.data.domains import common_modalities, domains_with
from recbole_mm.data.feature_files import (
    describe_features,
    feature_path,
    find_modalities,
    read_feature_info,
)
from recbole_mm.data.features import ItemFeatures, read_item_features
from recbole_mm.data.mixed_dataset import MixtureDataset
from recbole_mm.data.mixture import read_mixture_features, without_domain
from recbole_mm.data.seen_split import recorded_split, refuse_other_split, split_record
from recbole_mm.tools import processes
from recbole_mm.tools.counts import counted

READ_OTHER_HISTORIES = ("FEARec",)
"""RecBole models that look up the histories of other examples in ``inter_feat``."""


class MultiModalDataset(MixtureDataset):
    """A RecBole sequential data set whose items also have frozen features.

    It reads ``<dataset>.<modality>.npz`` for every modality (see
    :mod:`recbole_mm.data.features`) and aligns the rows by item token.

    Attributes:
        modalities: names, in the order of the config; text and image first if the config names
            none.
        features: modality -> :class:`~recbole_mm.data.features.ItemFeatures`.
        feature_info: modality -> origin of its features, see
            :func:`~recbole_mm.data.feature_files.describe_features`.

    Raises:
        DatasetError: unknown modalities, or features of an encoder that was tuned on another split.
        FeatureFileError: see :func:`~recbole_mm.data.features.read_item_features`.
    """

    def _load_data(self, token, dataset_path):
        ensure_builtin(self.config)
        super()._load_data(token, dataset_path)

    def _data_processing(self):
        super()._data_processing()
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
        """The feature file of a modality; for a mixture, whose domains agree, the first one."""
        return self._feature_file(modality, self._parts_with(modality)[0])

    def _parts_with(self, modality: str) -> list[str | None]:
        """The domains that have features of a modality; ``[None]`` for a set that is not a
        mixture."""
        folder = self.config["feature_path"] or self.dataset_path
        return list(domains_with(Path(folder).parent, self.domains, modality)) or [None]

    def find_modalities(self) -> list[str]:
        """The modalities with a feature file; in a mixture, those that all domains have (others are
        used if the config names them)."""
        folder = self.config["feature_path"] or self.dataset_path
        if self.domains:
            names, left_out = common_modalities(os.path.dirname(folder), self.domains)
            hint = " (name them in 'modalities' to use them where they exist)" if left_out else ""
            self.logger.info(
                f"modalities of all domains: {names}; omitted: {left_out or 'none'}{hint}"
            )
        else:
            names = find_modalities(folder, self.dataset_name)
            self.logger.info(f"modalities found in {folder}: {names}")
        return names

    def read_features(self, name: str) -> ItemFeatures:
        """Read one feature file of this data set, aligned with its items."""
        return self._align(name, self.config["min_feature_coverage"] or 0.0)

    def presence(self, name: str) -> torch.Tensor:
        """Whether each item has the modality, without a minimum coverage, ``(n_items,)`` bool."""
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
                f"{counted(int(nothing.sum()), 'item has', 'items have')} no modality and can be "
                f"recommended only by ID, after a training interaction."
            )

    def build(self):
        """Create the training, validation and test data; held-out items are targets only in the
        test, held-out domains only in validation and test, and training targets may be limited to a
        share of the users (``train_users``)."""
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
                    fix = f"omit {modality!r} (--modalities)"
                    refuse_other_split(path, seen, current[domain], fix)

    def _feature_file(self, modality: str, domain: str | None = None) -> Path:
        folder = self.config["feature_path"] or self.dataset_path
        if domain is None:
            return feature_path(folder, self.dataset_name, modality)
        return feature_path(Path(folder).parent / domain, domain, modality)

    def split_record(self, domain: str | None = None) -> dict:
        """The identity of the events of this split, see
        :func:`~recbole_mm.data.seen_split.split_record`.

        Args:
            domain: domain of a mixture to treat as a separate data set; ``None``: the whole set.
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
