"""The file of an answer: written completely or not at all, in parts, so that a run can resume.

Under torchrun every process computes its share of the parts, and the first one joins them. Ray
workers send theirs to the process that started them.
"""

import gzip
import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import polars as pl
from tqdm import tqdm

from recbole_mm.prepare.formats import ending_of, is_packed
from recbole_mm.recommend.disk import disk_errors
from recbole_mm.recommend.request import Answer, Summary, Workers
from recbole_mm.tools import processes
from recbole_mm.tools.counts import counted
from recbole_mm.tools.errors import UserError
from recbole_mm.tools.files import whole_or_not, write_json
from recbole_mm.tools.hashing import sha256_of_file
from recbole_mm.tools.json_files import fits
from recbole_mm.tools.json_text import parse_json
from recbole_mm.tools.locks import locked
from recbole_mm.tools.path_patterns import pattern_of
from recbole_mm.tools.records import read_record, write_record

PLAN = "plan.json"
logger = logging.getLogger(__name__)


@contextmanager
def partial_output(path: Path, plan: dict, workers: Workers) -> Iterator["PartialOutput"]:
    """The :class:`PartialOutput` of a file, which no other command writes meanwhile; see there for
    the arguments.

    Raises:
        Locked: another command writes the file.
    """
    refusal = f"{path}: another command is writing it: wait for it, end it, or name another file"
    place = path.with_name(f".{path.name}.partial.lock")
    with locked(place, refusal) if processes.is_first() else nullcontext():
        partial = PartialOutput(path, plan, workers)
        try:
            yield partial
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and partial.n_finished:
                logger.warning(partial.hint)
            partial.clean()
            raise


class PartialOutput:
    """Finished parts of an answer, in a hidden folder next to the file, until all are complete.

    Args:
        path: path of the file.
        plan: everything that the answer depends on, JSON-able. Parts of another plan are deleted.
        workers: workers that compute the parts.

    Attributes:
        n_finished: users of this process whose lists are in finished parts.
    """

    def __init__(self, path: Path, plan: dict, workers: Workers):
        self.path, self.workers = path, workers
        self.folder = path.with_name(f".{path.name}.partial")
        self.n_finished = 0
        plan = json.loads(json.dumps({**plan, "processes": workers.size}))
        if processes.is_first() and _read_json(self.folder / PLAN) != plan:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir()
            write_json(self.folder / PLAN, plan)
        processes.barrier()

    @property
    def hint(self) -> str:
        """What happens to the work of a run that ends early; empty if there is none."""
        if not self.n_finished:
            return ""
        return (
            f"The lists of {counted(self.n_finished, 'user', 'users')} are finished and kept in "
            f"{self.folder}: the same command resumes"
        )

    def clean(self) -> None:
        """Delete the folder if no run has finished a part in it, since it is of no use then."""
        finished = [path for path in self.folder.glob("*.json") if path.name != PLAN]
        if not finished and processes.size() == 1:  # others may be finishing parts
            shutil.rmtree(self.folder, ignore_errors=True)

    def scratch(self, name: str) -> Path:
        """A file for data that is too large for memory."""
        return self.folder / f"{name}.scratch"

    def fill(self, answer: Answer, show_progress: bool) -> Summary:
        """Compute the missing parts, and return the summary of all.

        Raises:
            RunFailed: the parts cannot be written.
        """
        summary = Summary()
        total = answer.histories.n_users
        shown = show_progress and processes.is_first()
        no_bar = None if shown else True  # None: where standard error is not a terminal
        missing = []
        with tqdm(total=total, desc="recommend", unit="user", disable=no_bar) as bar:
            for number in range(processes.rank(), answer.n_parts, processes.size()):
                own = _finished(*self._files(number))
                if own is None:
                    missing.append(number)
                else:
                    bar.update(own.users)
                    summary += own
                    self.n_finished += own.users
            for number, table, own in self.workers.compute(answer, missing, bar.update):
                self._write(number, table, own)
                summary += own
                self.n_finished += own.users
        return sum(processes.of_all(summary), Summary())

    def _files(self, number: int) -> tuple[Path, Path]:
        """The files of a part; the second one is written last."""
        return (self.folder / f"{number:06d}.parquet", self.folder / f"{number:06d}.json")

    def _write(self, number: int, table: pl.DataFrame, own: Summary) -> None:
        table_file, done_file = self._files(number)
        with disk_errors(self.path, self.hint):
            with whole_or_not(table_file) as temporary:
                table.write_parquet(temporary)
            write_record(done_file, {"counts": list(own), "table": sha256_of_file(table_file)})

    def finish(self, n_parts: int) -> None:
        """Join the parts into the file, delete them, and give the file its name as the last step:
        once it exists, nothing is left to do.

        Args:
            n_parts: number of parts.

        Raises:
            RunFailed: the file cannot be written.
        """
        if processes.is_first():
            table = pl.scan_parquet([pattern_of(self._files(n)[0]) for n in range(n_parts)])
            with disk_errors(self.path, self.hint), whole_or_not(self.path) as temporary:
                write_result(table, self.path, temporary)
                shutil.rmtree(self.folder, ignore_errors=True)
        processes.barrier()


def write_result(table: pl.LazyFrame, named: Path, path: Path) -> None:
    """Write a table to a path, in the format of the file that it will be named like, packed or not."""
    if not is_packed(named):
        _sink(table, ending_of(named), path)
        return
    plain = path.with_name(f"{path.name}.plain")
    try:
        _sink(table, ending_of(named), plain)
        with (
            plain.open("rb") as unpacked,
            path.open("wb") as file,
            gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed,
        ):
            shutil.copyfileobj(unpacked, packed)
    finally:
        plain.unlink(missing_ok=True)


def _sink(table: pl.LazyFrame, suffix: str, path: Path) -> None:
    """Write a table in the format of a suffix: ``.parquet``, ``.jsonl``, ``.tsv`` or ``.csv``."""
    if suffix == ".parquet":
        table.sink_parquet(path)
    elif suffix == ".jsonl":
        table.sink_ndjson(path)
    else:
        table.sink_csv(path, separator="\t" if suffix == ".tsv" else ",")


def _finished(table_file: Path, done_file: Path) -> Summary | None:
    """The summary of a part; ``None`` if it is not finished, or is damaged."""
    try:
        record = read_record(done_file) or {}
    except UserError:
        return None
    counts = record.get("counts")
    if not isinstance(counts, list) or not fits(counts, list[int]):
        return None
    if len(counts) != len(Summary._fields):
        return None
    is_whole = table_file.is_file() and record.get("table") == sha256_of_file(table_file)
    return Summary(*counts) if is_whole else None


def _read_json(path: Path):
    """The content of one of our files; ``None`` if it is missing or damaged."""
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
