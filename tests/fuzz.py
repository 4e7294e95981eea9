"""Damaged files for every reader: each must give a result or our own error that names the file.

    python tests/fuzz.py --inputs 10000                 # shared out among all readers
    python tests/fuzz.py --inputs 500 --reader trials --seed 7

A failure (another exception, no file named, more than the time or the memory) is kept in --output
with its seed; the same seed gives the same input again. The exit status is 1 if there is one.
"""

import argparse
import contextlib
import faulthandler
import glob
import json
import logging
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).resolve().parent
sys.path[:0] = [str(TESTS.parent), *(str(TESTS / room) for room in ("", "prepare"))]

from mutations import mutate_file
from readers import READERS, Reader, Shelf

from recbole_mm.tools.errors import RunFailed, UserError

OUTCOMES = ("read", "our error", "set aside", "failed")
SECONDS = 10
"""Most that one input may take."""
MEMORY = 2 << 30
"""Most bytes beyond what a process has before it reads."""


class TookTooLong(BaseException):
    """An input that is still being read; nothing catches it."""


class Tried(NamedTuple):
    """What became of an input.

    Attributes:
        outcome: one of :data:`OUTCOMES`.
        file: the damaged one.
        why: the error.
    """

    outcome: str
    file: Path
    why: str = ""


class Bench:
    """Valid files of a reader, one of which is damaged for each input.

    Args:
        reader: what is tried.
        shelf: what its files are copied from.
        folder: an empty one.
    """

    def __init__(self, reader: Reader, shelf: Shelf, folder: Path):
        self.reader, self.folder, self.valid = reader, folder / "work", folder / "valid"
        self.folder.mkdir(parents=True)
        with quiet():
            made = reader.make(shelf, self.folder)
        self.forms = {path.relative_to(self.folder): form for path, form in sorted(made.items())}
        shutil.copytree(self.folder, self.valid, symlinks=True)

    def read_valid(self) -> None:
        """The valid files, which must be read; remembers those that are gone then."""
        with quiet():
            self.reader.read(self.folder)
        self.used_up = {file for file in self.forms if not (self.folder / file).exists()}
        self._restore()

    def damage(self, seed) -> Path:
        """Damage one file by a seed."""
        rng = random.Random(f"{self.reader.name} {seed}")
        file = rng.choice(list(self.forms))
        mutate_file(self.folder / file, self.forms[file], rng)
        return self.folder / file

    def attempt(self, seed) -> Tried:
        """Damage and read."""
        file = self.damage(seed)
        try:
            with quiet(), limited(SECONDS):
                self.reader.read(self.folder)
            return Tried("set aside" if self._is_aside(file) else "read", file)
        except (UserError, RunFailed) as error:
            named = file.name in str(error) or str(file.parent) in str(error)
            if named:
                return Tried("our error", file, str(error))
            return Tried("failed", file, f"it does not name the file: {type(error)} {error}")
        except (Exception, TookTooLong):  # noqa: BLE001 whatever a reader raises
            return Tried("failed", file, traceback.format_exc())
        finally:
            self._keep(file)
            self._restore()

    def _is_aside(self, file: Path) -> bool:
        gone = not file.exists() and file.relative_to(self.folder) not in self.used_up
        return gone or any(file.parent.glob(f"{glob.escape(file.name)}.damaged*"))

    def _keep(self, file: Path) -> None:
        self.last = file.read_bytes() if file.is_file() else b""

    def _restore(self) -> None:
        shutil.rmtree(self.folder)
        shutil.copytree(self.valid, self.folder, symlinks=True)


@contextlib.contextmanager
def quiet():
    """No output, and no lines of RecBole."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            open(os.devnull, "w") as nowhere,
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
        ):
            yield
    finally:
        logging.disable(disabled)


@contextlib.contextmanager
def limited(seconds: float):
    """:class:`TookTooLong` in the block after this time."""

    def stop(*_):
        raise TookTooLong(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def limit_memory() -> None:
    """What asks for much more than this process has gets a MemoryError."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


def try_reader(reader: Reader, seeds: range, output: Path) -> Counter:
    """All inputs of a reader, in processes of their own: one that crashes ends no other."""
    counts, rest = Counter(), list(seeds)
    record = output / f"{reader.name}.jsonl"
    record.unlink(missing_ok=True)
    while rest:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                _try_in_child(reader, rest, output, record)
                status = 0
            except BaseException:  # noqa: BLE001 also a fault of this script
                traceback.print_exc()
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        lines = record.read_text().splitlines() if record.is_file() else []
        done = [json.loads(line) for line in lines]
        begun = {entry["seed"] for entry in done}
        ended = {entry["seed"] for entry in done if "outcome" in entry}
        for seed in begun - ended:
            why = f"the process ended: {os.waitstatus_to_exitcode(status)}"
            _write(record, seed=seed, outcome="failed", why=why)
        if not begun & set(rest):
            print(f"{reader.name}: the valid files cannot be made or read", file=sys.stderr)
            return Counter(failed=1)
        rest = [seed for seed in rest if seed not in begun]
    for line in record.read_text().splitlines():
        counts[json.loads(line).get("outcome", "begun")] += 1
    return counts


def _try_in_child(reader, seeds, output: Path, record: Path) -> None:
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        bench = Bench(reader, Shelf(Path(folder, "shelf")), Path(folder, "bench"))
        bench.read_valid()
        limit_memory()
        for seed in seeds:
            _write(record, seed=seed)
            faulthandler.dump_traceback_later(3 * SECONDS, exit=True)
            tried = bench.attempt(seed)
            faulthandler.cancel_dump_traceback_later()
            _write(record, seed=seed, outcome=tried.outcome, file=tried.file.name, why=tried.why)
            if tried.outcome == "failed":
                kept = output / f"{reader.name}-{seed}-{tried.file.name}"
                kept.write_bytes(bench.last)


def _write(record: Path, **entry) -> None:
    with open(record, "a") as file:
        file.write(json.dumps(entry) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inputs", type=int, default=10_000, help="of all readers [10000]")
    parser.add_argument("--reader", action="append", choices=sorted(READERS), help="[all]")
    parser.add_argument("--seed", type=int, default=1, help="of the first input [1]")
    parser.add_argument("--output", type=Path, default=Path("fuzz"), help="of failures [fuzz]")
    options = parser.parse_args()
    readers = [READERS[name] for name in options.reader or READERS]
    share = options.inputs / sum(reader.speed for reader in readers)
    output = options.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    print(f"{'reader':24}{'tried':>8}" + "".join(f"{name:>11}" for name in OUTCOMES), flush=True)
    total: Counter = Counter()
    for reader in readers:
        number = max(1, round(share * reader.speed))
        counts = try_reader(reader, range(options.seed, options.seed + number), output)
        total += counts
        _print_row(reader.name, counts)
    _print_row("all", total)
    return 1 if total["failed"] else 0


def _print_row(name: str, counts: Counter) -> None:
    tried = sum(counts[outcome] for outcome in OUTCOMES)
    print(f"{name:24}{tried:8}" + "".join(f"{counts[o]:11}" for o in OUTCOMES), flush=True)


if __name__ == "__main__":
    sys.exit(main())
