"""Commands that are killed at any point and run again: the result is that of an undisturbed run.

    python tests/kills.py --kills 20                   # of every command
    python tests/kills.py --kills 50 --command prepare --seed 7

A point is each opening of a file to write, renaming, removal or making of a folder in the working
directory; the process ends just before it. The exit status is 1 if a command did not recover.
"""

import argparse
import json
import os
import random
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).resolve().parent
sys.path[:0] = [str(TESTS.parent), *(str(TESTS / room) for room in ("", "prepare"))]

import polars as pl
import yaml
from fuzz import quiet
from readers import EVENTS, GOODS, HISTORIES, MODEL, Shelf, _write_table
from test_convert import missrec_folder
from tiny import PRETRAIN
from zygote import KILLED, Zygote, can_tune_encoders

from recbole_mm.prepare.making import command_to_resume
from recbole_mm.tools.hashing import sha256_of_file
from recbole_mm.tools.records import SEAL

VOLATILE = {
    "seconds", "seconds_per_epoch", "seconds_per_validation", "peak_memory", "started", "created",
    "checkpoint_dir", "environment", SEAL,
}  # fmt: skip
"""Entries of records that are those of a run, not of its result."""
IGNORED = ("log", "log_tensorboard", ".matplotlib")
LEFT_OVER = re.compile(
    r"\.tmp$|^\..*\.lock$|^\.prepare-|^\.demo-|\.unfinished$|\.earlier|\.partial$"
)


class Case(NamedTuple):
    """A command that is killed.

    Attributes:
        name: of the command.
        make: writes its input into an empty folder, which becomes the working directory.
        arguments: of ``recbole-mm``.
        result: what an undisturbed and a disturbed run must have in common; ``None``: all files.
        dataset: name of a data set that it makes: after a kill it is the one before, the one that is
            to come, or refused as unfinished, never a mixture of both.
    """

    name: str
    make: Callable[[Shelf, Path], None]
    arguments: list[str]
    result: Callable[[Path, str], object] | None = None
    dataset: str | None = None


def make_shop(_, folder: Path) -> None:
    shop = folder / "shop"
    shop.mkdir()
    _write_table(shop / "interactions.csv", EVENTS)
    _write_table(shop / "items.csv", GOODS)


def make_shop_again(shelf, folder: Path) -> None:
    """The data set exists, of other texts."""
    make_shop(shelf, folder)
    from recbole_mm.cli import main

    old = folder / "old"
    old.mkdir()
    _write_table(old / "interactions.csv", EVENTS[:20])
    _write_table(
        old / "items.csv", [GOODS[0], *((i, f"other {t}", b, p) for i, t, b, p in GOODS[1:])]
    )
    assert main(["prepare", str(old), "--name=shop", f"--output={folder / 'dataset'}"]) == 0


def make_dataset(shelf: Shelf, folder: Path) -> None:
    shutil.copytree(shelf.dataset, folder / "dataset")


def make_domains(shelf: Shelf, folder: Path) -> None:
    make_dataset(shelf, folder)
    (folder / "dataset" / "other").mkdir()
    for path in (folder / "dataset" / "toy").glob("toy.*"):
        shutil.copy(path, folder / "dataset" / "other" / path.name.replace("toy", "other", 1))


def make_processed(_, folder: Path) -> None:
    missrec_folder(folder)


def make_stages(shelf: Shelf, folder: Path) -> None:
    make_dataset(shelf, folder)
    finetune = {"train_stage": "finetune"}
    settings = {**MODEL, "model": "MMM4Rec", "dataset": "toy", "epochs": 2}
    content = {**settings, "stages": [PRETRAIN, finetune]}
    (folder / "stages.yaml").write_text(yaml.safe_dump(content))


def make_search(shelf: Shelf, folder: Path) -> None:
    make_dataset(shelf, folder)
    (folder / "mine.hyper").write_text("learning_rate loguniform -7,-2\n")
    (folder / "mine.yaml").write_text(yaml.safe_dump(MODEL))


def make_worker(shelf: Shelf, folder: Path) -> None:
    from recbole_mm.compare.runs import EntryRun, plan
    from recbole_mm.config.load import load_config

    make_dataset(shelf, folder)
    here = os.getcwd()
    os.chdir(folder)
    try:
        config = load_config("MMM4Rec", "toy", config_dict={**MODEL, "epochs": 2})
        plan(EntryRun("MMM4Rec", 1, Path("run")), config)
    finally:
        os.chdir(here)


def compared(folder: Path, _) -> tuple:
    """The numbers of the entries and the ranks, without how long it took."""
    numbers = pl.read_csv(folder / "out/numbers.csv", infer_schema_length=None)
    ranks = pl.read_parquet(folder / "out/ranks.parquet")
    return numbers.filter(~pl.col("metric").is_in(VOLATILE)).rows(), ranks.rows()


def make_histories(shelf: Shelf, folder: Path) -> None:
    shutil.copytree(shelf.bundle, folder / "bundle")
    rows = zip(HISTORIES["user"], HISTORIES["items"], strict=True)
    lines = [json.dumps({"user": user, "items": items}) for user, items in rows]
    (folder / "today.jsonl").write_text("\n".join(lines) + "\n")


def make_checkpoint(shelf: Shelf, folder: Path) -> None:
    make_dataset(shelf, folder)
    shutil.copy(shelf.checkpoint, folder / "model.pth")


def make_encoder(shelf: Shelf, folder: Path) -> None:
    make_dataset(shelf, folder)
    shutil.copytree(shelf.text_encoder, folder / "words")


def tuned_encoder(folder: Path, _) -> dict[str, object]:
    """All files; the loss is that of the batches since the last start."""
    files = files_of(folder)
    record = files["encoders/toy-words/recbole_mm_tuning.json"]
    del record["result"]["loss"]
    return files


def metrics_printed(_, output: str) -> list[str]:
    """The lines of the table of metrics."""
    return [line for line in output.splitlines() if re.search(r"@\d+ +[\d.]+ +[\d.]+$", line)]


def best_trial(folder: Path, _) -> tuple:
    """The scores of the trials, in their order, and the best configuration."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from optuna.study import get_all_study_names, load_study

    journal = next(folder.glob("tuning/*/journal.log"))
    storage = JournalStorage(JournalFileBackend(str(journal)))
    (name,) = get_all_study_names(storage)
    study = load_study(study_name=name, storage=storage)
    trials = [(trial.user_attrs["point"], trial.value) for trial in study.trials if trial.value]
    best = next(folder.glob("tuning/*/best.yaml")).read_text()
    return trials, [line for line in best.splitlines() if not line.startswith("#")]


TRAIN = [f"--{key}={value}" for key, value in {**MODEL, "epochs": 2}.items()]
CASES = {
    case.name: case
    for case in (
        Case("prepare", make_shop, ["prepare", "shop"], dataset="shop"),
        Case("prepare-again", make_shop_again, ["prepare", "shop"], dataset="shop"),
        Case("convert", make_processed, ["convert", "missrec", "Sci"], dataset="Sci"),
        Case("mix", make_domains, ["mix", "Both", "toy", "other"], dataset="Both"),
        Case("extract", make_dataset, ["extract", "toy", "--batch-size=1"]),
        Case(
            "train",
            make_dataset,
            ["train", "--model=MMM4Rec", "--dataset=toy", *TRAIN],
            metrics_printed,
        ),
        Case("stages", make_stages, ["train", "--config_files=stages.yaml"]),
        Case(
            "tune",
            make_search,
            ["tune", "--model=MMM4Rec", "--dataset=toy", "--config_files=mine.yaml", "--budget=3",
             "--space=mine.hyper", "--jobs=1"],
            best_trial,
        ),
        Case(
            "compare",
            make_dataset,
            ["compare", "--models=Popularity,HistoryKNN", "--dataset=toy", "--seeds=1", "--jobs=1",
             "--out=out"],
            compared,
        ),
        Case("compare-worker", make_worker, ["worker", "run"]),
        Case(
            "recommend",
            make_histories,
            ["recommend", "--model=bundle", "--histories=today.jsonl", "--output=top.csv", "--k=3"],
        ),
        Case("similar", make_histories, ["similar", "--model=bundle", "--output=similar.csv"]),
        Case("export", make_checkpoint, ["export", "model.pth", "bundle", "--overwrite"]),
        Case(
            "tune-encoder",
            make_encoder,
            ["tune-encoder", "toy", "--encoder=words", "--batch-size=8", "--max-pairs=24",
             "--device=cpu"],
            tuned_encoder,
        ),
    )
    if case.name != "tune-encoder" or can_tune_encoders()
}  # fmt: skip


def usable_files(folder: Path, dataset: str) -> dict[str, str] | None:
    """Hashes of the tables and features of a data set; ``None`` if it is refused as unfinished."""
    root = folder / "dataset"
    if command_to_resume(root, dataset):
        return None
    files = (root / dataset).glob(f"{dataset}.*")
    return {f.name: sha256_of_file(f) for f in files if f.suffix in (".inter", ".item", ".npz")}


class Broken(AssertionError):
    """A command that did not recover."""


def files_of(folder: Path) -> dict[str, object]:
    """Content by name, without what belongs to a run and not to its result."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    names = {path.relative_to(folder): path for path in paths}
    return {
        str(name): _content(path)
        for name, path in names.items()
        if name.parts[0] not in IGNORED and path.stat().st_size
    }


def _content(path: Path):
    if path.suffix != ".json":
        return path.read_bytes()
    return _without_volatile(json.loads(path.read_text()))


def _without_volatile(value):
    if isinstance(value, dict):
        kept = {key: each for key, each in value.items() if key not in VOLATILE}
        return {key: _without_volatile(each) for key, each in kept.items()}
    return [_without_volatile(each) for each in value] if isinstance(value, list) else value


class Undisturbed:
    """A command with its input, and the result of an undisturbed run.

    Args:
        case: the command.
        zygote: runs it.
        shelf: what its input is copied from.
        folder: an empty one.
    """

    def __init__(self, case: Case, zygote: Zygote, shelf: Shelf, folder: Path):
        self.case, self.zygote, self.folder = case, zygote, folder
        self.input = folder / "input"
        self.input.mkdir(parents=True)
        with quiet():
            case.make(shelf, self.input)
        work = self._fresh()
        ended = zygote.run(work, case.arguments)
        if ended.status != 0:
            raise Broken(f"{case.name} fails without a kill: {ended.output}")
        self.points, self.result = ended.points, self._result(work, ended.output)
        if case.dataset:
            self.usable = [usable_files(place, case.dataset) for place in (self.input, work)]

    def kill(self, points: list[int]) -> None:
        """Kill the command at a point, the next attempt at the next one, and so on; then run it.

        A kill after the last file has got its name comes too late to undo anything: a command that does
        not overwrite then finds its own output, and has to say that it exists.

        Raises:
            Broken: it fails, its result is another one, or something is left over.
        """
        work = self._fresh()
        for point in points:
            ended = self.zygote.run(work, self.case.arguments, point)
            # 0: there was less to do than the first time; an output may exist by now
            if ended.status not in (0, KILLED) and "exists" not in ended.output:
                raise Broken(f"{self.case.name}, killed before {points}: {ended.output}")
            self._refuse_mixtures(work, point)
        self._run_again(work, f"after a kill at {points}")

    def interrupt(self, point: int, by: str, status: int, message: str) -> None:
        """Send the command a signal, which has to end it in one line; then run it again.

        Args:
            point: before which it is sent.
            by: name of the signal.
            status: that the command has to end with.
            message: in the line.

        Raises:
            Broken: it ends in another way, or see :meth:`kill`.
        """
        work = self._fresh()
        ended = self.zygote.run(work, self.case.arguments, point, by)
        lines = ended.output.splitlines()
        if ended.status != status or message not in lines[-1]:
            raise Broken(f"{self.case.name}, {by} at {point}: {ended.status}, {ended.output}")
        if "Traceback" in ended.output:
            raise Broken(f"{self.case.name}, {by} at {point}: {ended.output}")
        self._run_again(work, f"after {by} at {point}")

    def _run_again(self, work: Path, what: str) -> None:
        ended = self.zygote.run(work, self.case.arguments)
        if ended.status != 0 and "exists" not in ended.output:
            raise Broken(f"{self.case.name} {what}: {ended.output}")
        found = self._result(work, ended.output)
        if found != self.result:
            raise Broken(f"{self.case.name} {what}: {_difference(found, self.result)}")
        left = [str(path) for path in work.rglob("*") if LEFT_OVER.search(path.name)]
        if left:
            raise Broken(f"{self.case.name} {what} leaves {left}")

    def _refuse_mixtures(self, work: Path, point: int) -> None:
        if not self.case.dataset:
            return
        usable = usable_files(work, self.case.dataset)
        if usable is not None and usable not in self.usable:
            raise Broken(f"{self.case.name}, killed before {point}, can be used with {usable}")

    def _result(self, work: Path, output: str):
        return (self.case.result or (lambda folder, _: files_of(folder)))(work, output)

    def _fresh(self) -> Path:
        work = self.folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(self.input, work, symlinks=True)
        return work


def _difference(found, expected) -> str:
    if not isinstance(found, dict):
        return f"{found} instead of {expected}"
    names = [n for n in {*found, *expected} if found.get(n) != expected.get(n)]
    only = [(n, n in found, n in expected) for n in sorted(names)]
    return f"files differ (name, found, expected): {only}"


def points_of(case: Undisturbed, kills: int, seed: int) -> list[list[int]]:
    """Where to kill: single points all over the run, and every fourth time two in a row."""
    rng = random.Random(f"{case.case.name} {seed}")
    chosen = sorted(rng.sample(range(case.points), min(kills, case.points)))
    return [
        [point, rng.randrange(case.points)] if number % 4 == 3 else [point]
        for number, point in enumerate(chosen)
    ]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20, help="of each command [20]")
    parser.add_argument("--command", action="append", choices=sorted(CASES), help="[all]")
    parser.add_argument("--seed", type=int, default=1, help="of the points [1]")
    options = parser.parse_args()
    failed = 0
    print(f"{'command':16}{'points':>8}{'kills':>8}{'recovered':>11}", flush=True)
    with tempfile.TemporaryDirectory() as root, Zygote() as zygote:
        shelf = Shelf(Path(root, "shelf"))
        for name in options.command or CASES:
            case = Undisturbed(CASES[name], zygote, shelf, Path(root, name))
            tried = points_of(case, options.kills, options.seed)
            recovered = sum(_recovers(case, points) for points in tried)
            failed += len(tried) - recovered
            print(f"{name:16}{case.points:8}{len(tried):8}{recovered:11}", flush=True)
    return 1 if failed else 0


def _recovers(case: Undisturbed, points: list[int]) -> bool:
    try:
        case.kill(points)
    except Broken as error:
        print(error, file=sys.stderr)
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
