"""A trained model that recommends: to any user, for any history."""

import dataclasses
import secrets
from pathlib import Path

import polars as pl

from recbole_mm.recommend.checkpoint import Opened, open_checkpoint
from recbole_mm.recommend.histories import (
    Histories,
    HistoryError,
    hash_of_dataset,
    histories_of_dataset,
    read_histories,
)
from recbole_mm.recommend.item_details import item_details
from recbole_mm.recommend.output import PartialOutput
from recbole_mm.recommend.paths import require_new
from recbole_mm.recommend.request import Answer, Request, Summary
from recbole_mm.run.identity import package_version
from recbole_mm.tools.hashing import sha256_of_file


class Recommender:
    """A trained model with its items.

    Args:
        opened: what :func:`~recbole_mm.recommend.checkpoint.open_checkpoint` gives.

    Attributes:
        model: of ours, in evaluation.
        catalog: the items that it ranks.
        config: as it was trained.
    """

    def __init__(self, opened: Opened):
        self.model, self.catalog, self.config, self._train, self._identity = opened

    @classmethod
    def from_pretrained(cls, path, device=None, data_path=None) -> "Recommender":
        """Open a checkpoint of MMM4Rec, MISSRec or UniSRec.

        Args:
            path: the checkpoint.
            device: of the model; ``None``: a GPU if there is one.
            data_path: folder of the data sets; ``None``: that of the training.

        Raises:
            UserError: it is not such a checkpoint, or its data set cannot be used.
        """
        return cls(open_checkpoint(path, device, data_path))

    def recommend(self, histories=None, k: int = 10, **options) -> pl.DataFrame:
        """The ``k`` best items of every user, after all of her events.

        A user without an event that the catalog knows gets the items with most training interactions
        (``source``: ``popular``; their score is that number).

        Args:
            histories: a table (csv, tsv, jsonl, parquet, ...), or a polars or pandas frame, see
                :mod:`recbole_mm.recommend.histories`; ``None``: all users of the data set, with all
                events.
            k: items per user.
            options: see :class:`~recbole_mm.recommend.request.Request`.

        Returns:
            ``user``, ``item``, ``score``, ``rank`` (from 1) and ``source`` (``model`` or ``popular``),
            users in their order. For pandas histories a pandas frame.

        Raises:
            UserError: histories or options that cannot be used.
        """
        answer = self._answer(histories, Request(k=k, **options))
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
        **options,
    ) -> Summary:
        """:meth:`recommend` into a file, in memory that does not grow with the number of users.

        The file is written whole or not at all. An interrupted call resumes when it is repeated, if its
        histories are a file or those of the data set.

        Args:
            output: a ``.parquet``, ``.csv``, ``.tsv`` or ``.jsonl`` file.
            histories: see :meth:`recommend`.
            k: items per user.
            overwrite: replace a file that exists.
            show_progress: whether there is a progress bar.
            options: see :class:`~recbole_mm.recommend.request.Request`.

        Raises:
            UserError: histories, options or an output that cannot be used.
            RunFailed: the output cannot be written.
        """
        path = require_new(output, overwrite)
        request = Request(k=k, **options)
        partial = PartialOutput(path, self._plan(histories, request))
        answer = self._answer(histories, request, partial.scratch)
        summary = partial.fill(answer, show_progress)
        partial.finish()
        return summary

    def _answer(self, histories, request: Request, scratch=lambda _: None) -> Answer:
        if request.batch_size is None:
            request = dataclasses.replace(request, batch_size=self.config["eval_batch_size"])
        tokens = self.catalog.tokens
        if histories is None:
            read = self._histories_of_data(request)
        else:
            file = scratch("histories")
            read = read_histories(histories, tokens, request.form, request.users, file)
        details = self._details(request)
        return Answer(self.model, self.catalog, read, request, details, scratch("candidates"))

    def _histories_of_data(self, request: Request) -> Histories:
        if self._train is None:
            raise HistoryError("a bundle has no users of its own: give histories")
        return histories_of_dataset(self._train, self.catalog.tokens, request.users)

    def _details(self, request: Request) -> pl.DataFrame | None:
        wanted = {"title": request.titles, "image": request.pictures}
        names = [name for name, is_wanted in wanted.items() if is_wanted]
        if not names:
            return None
        place = self.config["data_path"], self.config["dataset"]
        return item_details(*place, self.catalog.tokens, names)

    def _plan(self, histories, request: Request) -> dict:
        """Everything that an answer depends on."""
        given = {**dataclasses.asdict(request), "histories": histories}
        if histories is None and self._train is not None:
            given["histories"] = hash_of_dataset(self._train)
        return {
            "version": package_version("recbole_mm"),
            "model": self._identity,
            **{name: _identity_of(value) for name, value in given.items()},
        }


def _identity_of(value):
    """A file by its content; a table in memory is never the same as another."""
    if isinstance(value, (str, Path)) and Path(value).is_file():
        return sha256_of_file(value)
    if value is None or isinstance(value, (bool, int, float, str, dict, list, tuple)):
        return value
    return secrets.token_hex()


def _is_pandas(frame) -> bool:
    return type(frame).__module__.partition(".")[0] == "pandas"
