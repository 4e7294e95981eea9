"""A trained model that recommends to any user, for any history."""

import dataclasses
import logging
import secrets
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl
import torch
from huggingface_hub import ModelHubMixin, snapshot_download
from huggingface_hub.errors import HFValidationError, HTTPError

from recbole_mm.config.models import known_models
from recbole_mm.data.feature_files import read_feature_tokens
from recbole_mm.data.features import ItemFeatures
from recbole_mm.recommend.bundles import bundle_of, open_bundle, whole_folder_or_not
from recbole_mm.recommend.card import model_card
from recbole_mm.recommend.catalog import Catalog, CatalogError
from recbole_mm.recommend.checkpoint import Opened, open_checkpoint
from recbole_mm.recommend.encoding import EncoderChoice
from recbole_mm.recommend.histories import (
    Histories,
    histories_of_dataset,
    read_histories,
)
from recbole_mm.recommend.item_details import item_details, listed_items
from recbole_mm.recommend.new_items import NewItems, read_new_items
from recbole_mm.recommend.output import partial_output
from recbole_mm.recommend.paths import require_model, require_new
from recbole_mm.recommend.request import (
    Answer,
    Request,
    Summary,
    ThisProcess,
    Workers,
    request_of,
)
from recbole_mm.recommend.serving_files import ServingReport, write_serving_files
from recbole_mm.recommend.similar import similar_items
from recbole_mm.recommend.tables import USUAL, TableError, TableForm
from recbole_mm.recommend.whole_scores import WholeScores
from recbole_mm.run.identity import data_hashes, package_version
from recbole_mm.tools import processes
from recbole_mm.tools.counts import counted
from recbole_mm.tools.errors import UserError, first_line
from recbole_mm.tools.files import refuse_input_as_output
from recbole_mm.tools.hashing import sha256_of_file, sha256_of_parts
from recbole_mm.tools.memory import keep_freed_memory
from recbole_mm.transfer.bundle import CARD, HASHED, MANIFEST, write_bundle

FILES = (*HASHED, MANIFEST, CARD)
logger = logging.getLogger(__name__)


class Recommender(ModelHubMixin, library_name="recbole_mm"):
    """A trained model with its items.

    It is saved as a bundle (:mod:`recbole_mm.transfer.bundle`) by ``save_pretrained(folder)`` and
    ``push_to_hub(repo_id)``, see :class:`huggingface_hub.ModelHubMixin`.

    Args:
        opened: result of :func:`~recbole_mm.recommend.checkpoint.open_checkpoint` or
            :func:`~recbole_mm.recommend.bundles.open_bundle`.
    """

    def __init__(self, opened: Opened):
        keep_freed_memory()
        self._opened = opened

    @property
    def model(self):
        """The model, in evaluation mode."""
        return self._opened.model

    @property
    def catalog(self) -> Catalog:
        """The items that it ranks."""
        return self._opened.catalog

    @property
    def config(self) -> dict:
        """The configuration that it was trained with."""
        return self._opened.config

    @property
    def facts(self) -> dict:
        """What is known about its training: data, protocol, metrics."""
        return self._opened.facts

    @property
    def has_data(self) -> bool:
        """Whether the data set of the training is loaded; a bundle has none."""
        return self._opened.splits is not None

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path, *, device=None, data_path=None, **hub_options
    ) -> "Recommender":
        """Open a checkpoint or a bundle; nothing in it is executed.

        RecBole's sequential models and the baselines without training support only
        :meth:`recommend`, :meth:`write` and :meth:`evaluate`.

        Args:
            pretrained_model_name_or_path: checkpoint, folder of a bundle, or name of a repository
                on the Hugging Face hub that has a bundle.
            device: device of the model; ``None``: a GPU if there is one.
            data_path: folder of the data sets of a checkpoint; ``None``: that of the training.
            hub_options: options of :class:`huggingface_hub.ModelHubMixin`.

        Raises:
            UserError: the model is none of these, or damaged, or its data set cannot be used.
        """
        path = Path(pretrained_model_name_or_path)
        if path.is_file():
            return cls(open_checkpoint(path, device, data_path))
        if path.is_dir():
            return cls(open_bundle(path, device))
        require_model(pretrained_model_name_or_path)
        with hub_errors(f"{path}: no checkpoint or bundle here, and none on the hub"):
            return super().from_pretrained(
                pretrained_model_name_or_path, device=device, **hub_options
            )

    @classmethod
    def _from_pretrained(cls, *, model_id, device=None, **hub_options) -> "Recommender":
        folder = snapshot_download(model_id, allow_patterns=list(FILES), **hub_options)
        return cls(open_bundle(folder, device))

    def require_multi_modal(self, what: str) -> None:
        """Refuse what needs one of our models.

        Args:
            what: purpose of the model, for the message.

        Raises:
            UserError: the model is one of RecBole's, or a baseline without training.
        """
        if isinstance(self.model, WholeScores):
            raise UserError(
                f"{self.model.name} works only with recommend, not with {what}, which needs one of "
                f"{known_models()}"
            )

    def _save_pretrained(self, save_directory: Path) -> None:
        self.require_multi_modal("export")
        bundle = bundle_of(self._opened._replace(catalog=self._with_titles()))
        card = model_card(bundle.config, len(self.catalog.tokens) - 1)
        write_bundle(save_directory, bundle, card)

    def push_to_hub(self, repo_id: str, **options) -> str:
        """Upload the bundle to the Hugging Face hub; see :class:`huggingface_hub.ModelHubMixin`.

        Args:
            repo_id: ``OWNER/NAME``.
            options: options of :class:`huggingface_hub.ModelHubMixin`.

        Returns:
            the address of the commit.

        Raises:
            UserError: the hub cannot be reached, or refuses the upload.
        """
        with hub_errors(f"{repo_id}: cannot be uploaded to the hub"):
            return super().push_to_hub(repo_id, **options)

    def export(
        self, folder, overwrite: bool = False, onnx: bool = False, index: str | None = None
    ) -> ServingReport | None:
        """Save the bundle, completely or not at all.

        Args:
            folder: folder of the bundle.
            overwrite: whether to replace an existing bundle.
            onnx: whether to write the files of :mod:`recbole_mm.recommend.onnx_files`, too.
            index: kind of an index of the items to be written next to these, ``exact`` or ``hnsw``;
                ``None``: no index.

        Returns:
            how closely onnxruntime and torch agree; ``None`` without ``onnx`` and ``index``.

        Raises:
            UserError: the folder exists, or cannot be written, or a package is missing.
        """
        with whole_folder_or_not(folder, overwrite) as new:
            self.save_pretrained(new)
            if not onnx and index is None:
                return None
            saved = Recommender.from_pretrained(new, device="cpu")
            train = self._opened.splits[0] if self._opened.splits else None
            return write_serving_files(new, saved, train, index)

    def evaluate(self) -> dict:
        """Metrics on the test targets with 95% intervals over users, which bundles then state; empty
        if the split of the training has no test targets.

        Raises:
            UserError: a bundle has no data set.
        """
        from recbole_mm.recommend.evaluation import metrics_of_targets  # scipy's statistics

        if self._opened.splits is None:
            raise UserError("a bundle has no data set, so it cannot be evaluated")
        *_, targets = self._opened.splits
        metrics = metrics_of_targets(self.model, targets, self.config["eval_batch_size"])
        test = {name: interval._asdict() for name, interval in metrics.items()}
        self._opened = self._opened._replace(facts={**self.facts, "test": test})
        return test

    def add_items(
        self,
        items=None,
        vectors=None,
        form: TableForm = USUAL,
        pictures=None,
        device=None,
        encoders=None,
    ) -> int:
        """Recommend items that the model was not trained with, by their features.

        Items in the catalog stay as they are. A model with ID ranks the new ones like items without
        a training interaction.

        Args:
            items: table of items with vectors, or with texts and pictures, see
                :mod:`recbole_mm.recommend.new_items`.
            vectors: feature files by modality; without a table, their items are the new ones.
            form: item column (``TableForm(item=...)``) and format of the table.
            pictures: folder that holds all pictures; ``None``: that of the table.
            device: device of an encoder of texts and pictures; ``None``: a GPU if there is one.
            encoders: folders of encoders, by modality, that are no longer where they were.

        Returns:
            number of new items.

        Raises:
            UserError: features have another width or encoder, items are duplicates, ...; in this
                case, nothing is added.
        """
        return len(self._add_items(items, vectors, form, pictures, device, encoders)[0].tokens)

    def add_items_of_data(self) -> int:
        """Recommend the items of the data set that the training does not know, as they have no
        interactions, like new items by their features.

        Returns:
            number of these items; 0 for a bundle, for a mixture of data sets, for a data set whose
            rows are filtered, which may have removed their interactions, and for a model that does
            not read features.
        """
        train = self._opened.splits[0] if self._opened.splits else None
        is_ours = not isinstance(self.model, WholeScores) and bool(self.catalog.features)
        if train is None or train.domains or train.filters() or not is_ours:
            return 0
        files = {modality: train.feature_file(modality) for modality in self.catalog.features}
        having = {token for file in files.values() for token in read_feature_tokens(file)}
        new = having - set(self.catalog.tokens.to_list())
        listed = listed_items(self.config)
        listed = listed.filter(pl.col("item").is_in(list(new)))
        return self.add_items(listed, files) if len(listed) else 0

    def replace_catalog(
        self,
        items=None,
        vectors=None,
        form: TableForm = USUAL,
        pictures=None,
        device=None,
        encoders=None,
    ) -> int:
        """Recommend only the items of a table from now on; new ones are added.

        Items that are not in it still count in histories. The arguments are those of
        :meth:`add_items`.
        """
        new, tokens = self._add_items(items, vectors, form, pictures, device, encoders)
        offered = torch.zeros_like(self.catalog.offered)
        offered[self.catalog.ids(tokens, "items")] = True
        self._offer(offered)
        return len(new.tokens)

    def remove_items(self, items, strict: bool = False) -> None:
        """Stop recommending some items; they still count in histories.

        Args:
            items: external ids of the items; those that are not in the catalog are skipped and
                reported.
            strict: whether such an item is an error.

        Raises:
            CatalogError: an item is not in the catalog, and ``strict`` is set.
        """
        offered = self.catalog.offered.clone()
        offered[self.catalog.known_ids(items, "removed items", strict)] = False
        self._offer(offered)

    def _add_items(
        self, items, vectors, form, pictures, device, encoders
    ) -> tuple[NewItems, list[str]]:
        self.require_multi_modal("new items")
        encoder = EncoderChoice(device, encoders or {})
        new, tokens = read_new_items(self.catalog, items, vectors, form, pictures, encoder)
        if new.problems:
            logger.warning(
                f"{counted(len(new.problems), 'text or picture', 'texts or pictures')} of new "
                f"items skipped, as they cannot be read, e.g. {new.problems[0]}"
            )
        nothing = ~torch.stack([each.present for each in new.features.values()]).any(dim=0)
        if bool(nothing.any()):
            logger.warning(
                f"without features, and never recommended: {counted(int(nothing.sum()), 'new item', 'new items')}"
            )
        if new.tokens:
            before, table = self._with_titles(), self.model.item_table
            self.model.append_items(new.tokens, new.features)
            # the model's own tensors, so that features are in memory only once
            features = {
                modality: ItemFeatures(table.stored(modality).cpu(), table.present(modality).cpu())
                for modality in before.features
            }
            catalog = before.with_items(new.tokens, features, new.titles, new.pictures)
            self._changed(catalog, *(each.values for each in new.features.values()))
        return new, tokens

    def _offer(self, offered: torch.Tensor) -> None:
        self._changed(self.catalog._replace(offered=offered), offered)

    def _changed(self, catalog: Catalog, *tensors: torch.Tensor) -> None:
        """Set another catalog and a new identity, since answers depend on it."""
        shown = [
            None if each is None else each.to_list() for each in (catalog.titles, catalog.pictures)
        ]
        text = f"{self._opened.identity} {catalog.tokens.to_list()} {shown}"
        arrays = [tensor.contiguous().flatten().numpy().view(np.uint8).data for tensor in tensors]
        identity = sha256_of_parts([text, *arrays])
        self._opened = self._opened._replace(catalog=catalog, identity=identity)

    def of_model(self, model) -> "Recommender":
        """The same recommender with another model of the same items."""
        return Recommender(self._opened._replace(model=model))

    def with_titles(self) -> "Recommender":
        """The same recommender, with titles of the items if the data set has some."""
        return Recommender(self._opened._replace(catalog=self._with_titles()))

    def _with_titles(self) -> Catalog:
        """The catalog, with titles if the data set has some."""
        if self.catalog.titles is not None or not self.has_data:
            return self.catalog
        try:
            titles = item_details(self.config, self.catalog.tokens, ["title"])["title"]
        except UserError:
            return self.catalog
        return self.catalog._replace(titles=titles)

    def similar_items(self, items, k: int = 10, by: str | None = None) -> pl.DataFrame:
        """The nearest items by each modality and as the model sees them (``by``: ``fused``); see
        :func:`~recbole_mm.recommend.similar.similar_items`.

        Args:
            items: one or more external ids.
            k: number of neighbors per item.
            by: one modality, or ``fused``; ``None``: by each of them.
        """
        self.require_multi_modal("similar items")
        asked = [items] if isinstance(items, str) else items
        return similar_items(self.model, self.catalog, asked, k, by)

    def recommend(self, histories=None, k: int = 10, **options) -> pl.DataFrame:
        """The ``k`` best items of every user, after all events of the user.

        A user without a known item gets the items with the most interactions in the whole data set
        (``source``: ``popular``; their score is that number).

        Args:
            histories: table (csv, tsv, jsonl, parquet, ...), or a polars or pandas frame, see
                :mod:`recbole_mm.recommend.histories`; ``None``: all users of the data set, with all
                events.
            k: number of items per user.
            options: attributes of a :class:`~recbole_mm.recommend.request.Request`.

        Returns:
            ``user``, ``item``, ``score``, ``rank`` (from 1) and ``source`` (``model`` or ``popular``),
            users in their order; a pandas frame for pandas histories.

        Raises:
            UserError: histories or options cannot be used.
        """
        answer = self._answer(histories, request_of(k=k, **options))
        table = pl.concat([answer.part(number)[0] for number in range(answer.n_parts)])
        if not _is_pandas(histories):
            return table
        return type(histories)(table.to_dict(as_series=False))

    def write(
        self,
        output,
        histories=None,
        k: int = 10,
        overwrite: bool = False,
        show_progress: bool = False,
        workers: Workers | None = None,
        **options,
    ) -> Summary:
        """:meth:`recommend` to a file, in memory that does not grow with the number of users.

        The file is written completely or not at all; torchrun distributes the users among its
        processes. An interrupted call resumes when it is repeated, if its histories are a file or
        those of the data set.

        Args:
            output: ``.parquet``, ``.csv``, ``.tsv`` or ``.jsonl`` file.
            histories: see :meth:`recommend`.
            k: number of items per user.
            overwrite: whether to replace an existing file.
            show_progress: whether there is a progress bar.
            workers: workers that compute the lists, see
                :func:`~recbole_mm.recommend.ray_workers.on_ray`; ``None``: this process.
            options: attributes of a :class:`~recbole_mm.recommend.request.Request`.

        Raises:
            UserError: histories, options or the output cannot be used.
            RunFailed: the output cannot be written.
        """
        files = {"histories": histories, "candidates": options.get("candidates")}
        named = {name: file for name, file in files.items() if isinstance(file, (str, Path))}
        refuse_input_as_output(output, named, "output=")
        path = require_new(output, overwrite)
        request = request_of(k=k, **options)
        workers = workers or ThisProcess()
        plan = processes.of_first(self._plan(histories, request))
        with partial_output(path, plan, workers) as partial:
            answer = self._answer(histories, request, partial.scratch, workers.size)
            summary = partial.fill(answer, show_progress)
            partial.finish(answer.n_parts)
        return summary

    def _answer(
        self, histories, request: Request, scratch=lambda _: None, n_workers: int = 1
    ) -> Answer:
        if request.batch_size is None:
            request = dataclasses.replace(request, batch_size=self.config.get("eval_batch_size"))
        tokens = self.catalog.tokens
        if histories is None:
            read = self._histories_of_data(request)
        else:
            file = scratch("histories")
            form = request.form._replace(trained=self._columns())
            stored = self._stored() if request.stored_events else None
            read = read_histories(histories, tokens, form, request.users, file, stored)
        details = self._details(request)
        candidates = scratch("candidates")
        return Answer(
            self.model, self.catalog, read, request, details, candidates, n_workers=n_workers
        )

    def _columns(self) -> tuple[tuple[str, str], ...]:
        keys = {"user": "USER_ID_FIELD", "item": "ITEM_ID_FIELD", "time": "TIME_FIELD"}
        return tuple((role, self.config[key]) for role, key in keys.items() if self.config.get(key))

    def _histories_of_data(self, request: Request) -> Histories:
        return histories_of_dataset(self._stored(), self.catalog.tokens, request.users)

    def _stored(self):
        """The data set of the training, with all events."""
        if self._opened.splits is None:
            raise TableError("a bundle has no users or events of its own: give whole histories")
        return self._opened.splits[0]

    def _details(self, request: Request) -> pl.DataFrame | None:
        wanted = {"title": request.titles, "image": request.pictures}
        names = [name for name, is_wanted in wanted.items() if is_wanted]
        if not names:
            return None
        known = {"title": self.catalog.titles, "image": self.catalog.pictures}
        of_data = [name for name in names if name == "image" or known[name] is None]
        if of_data and self.has_data:
            details = item_details(self.config, self.catalog.tokens, of_data)
            for name in of_data:
                mine = known[name]
                known[name] = details[name] if mine is None else mine.fill_null(details[name])
        missing = [name for name in names if known[name] is None]
        if missing:
            raise CatalogError(_without_details(missing[-1], self.catalog))
        return pl.DataFrame({name: known[name] for name in names})

    def _plan(self, histories, request: Request) -> dict:
        """Everything that an answer depends on."""
        given = {**dataclasses.asdict(request), "histories": histories}
        for name in ("histories", "candidates"):
            if isinstance(given[name], Mapping):  # columns
                given[name] = secrets.token_hex()
        if self._opened.splits is not None:  # a bundle has all that it reads
            given["data"] = data_hashes(self._opened.splits[0].config)
        return {
            "version": package_version("recbole_mm"),
            "model": self._opened.identity,
            **{name: _identity_of(value) for name, value in given.items()},
        }


@contextmanager
def hub_errors(refusal: str):
    """Turn what huggingface_hub raises if the hub cannot be reached, or refuses, into one line.

    Raises:
        UserError: the hub cannot be reached, or refuses.
    """
    try:
        yield
    except (HTTPError, HFValidationError, OSError) as error:
        reason = first_line(error)
        raise UserError(f"{refusal}: {reason}") from error


def _identity_of(value):
    """A file by its content; a table in memory is never the same as another."""
    if isinstance(value, (str, Path)) and Path(value).is_file():
        return sha256_of_file(value)
    if value is None or isinstance(value, (bool, int, float, str, dict, list, tuple)):
        return value
    return secrets.token_hex()


def _without_details(name: str, catalog: Catalog) -> str:
    """A message that a bundle has no titles, or no paths of pictures."""
    option = "titles" if name == "title" else "pictures"
    has_names = name == "image" and catalog.picture_names is not None
    what = (
        "only the names of the pictures of its items" if has_names else f"no {option} of its items"
    )
    return f"the bundle has {what}; omit --{option} (in Python {option}=True)"


def _is_pandas(frame) -> bool:
    return type(frame).__module__.partition(".")[0] == "pandas"
