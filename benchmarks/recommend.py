"""Users per second and peak memory of `recbole-mm recommend`, compared with RecBole and RecTools.

    recbole-mm prepare ../shared/data/Toys
    python benchmarks/recommend.py --dataset=Toys [--rectools=PYTHON] [--models=MMM4Rec,UniSRec]
    python benchmarks/recommend.py --dataset=Toys --users=100000,1000000      # memory by users
    python benchmarks/recommend.py --items=1000000 [--rectools=PYTHON]        # a large catalog

Every contender runs in its own process: models of width 64 that read the last 20 events, ten
items for every user of the data set. Weights are random, which changes nothing here. Ours and
RecTools read whole histories, RecBole's `full_sort_topk` those before the test target, 1,024 users
at a time. ``--rectools`` names the Python of an environment that has RecTools.

With ``--items`` the data set is a random one of this many items with two modalities (512 and 384
wide, float16), lists are for 2,000 of its users, 256 at a time, and ours are bundles.

Time covers the recommendations, from histories to tokens, but not opening the model. The
contenders take turns: ``users / s`` is by the shortest of their turns, ``users / s of CPU`` by the
median of their processor time after the first turn, which is what to compare on a busy machine
(``OMP_NUM_THREADS=1``); ``first`` is the time of the first turn, which prepares the items. Memory
of mapped files, which can be released at any time, counts in ``MB peak`` but not in ``MB own``.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import numpy as np
import polars as pl
from process_memory import OwnMemory, peak, resident

from recbole_mm.data.feature_files import feature_path, write_item_features

K, WIDTH, LENGTH, BATCH = 10, 64, 20, 1024
EVENTS = 10  # events of a synthetic user
LARGE = "large"  # the data set of --items
LARGE_BATCH, USERS_OF_A_LARGE_CATALOG, EVENTS_OF_A_LARGE_CATALOG = 256, 2000, 50
WIDTHS = {"text": 384, "image": 512}
LARGE_PART = 100_000  # items whose features are made at once
DONE = "done"  # a contender prints this after its preparation and after every turn
REPETITIONS, REPETITIONS_OF_A_LARGE_CATALOG = 5, 3
SETTINGS = {
    "MMM4Rec": {"head_dim": 16, "d_state": 16},
    "MISSRec": {"n_heads": 2, "interest_ratio": 0.02},
    "UniSRec": {"n_heads": 2},
    "SASRecPlus": {"n_heads": 2},
    "SASRec": {"n_heads": 2, "n_layers": 2},
}


def config_of(model: str, args):
    from recbole_mm.config.load import load_config

    values = {
        "hidden_size": WIDTH,
        "inner_size": 2 * WIDTH,
        "MAX_ITEM_LIST_LENGTH": LENGTH,
        "eval_batch_size": args.batch,
        "checkpoint_dir": args.scratch,
        "show_progress": False,
        **SETTINGS[model],
    }
    if args.data_path:
        values["data_path"] = args.data_path
    if args.items and model == "SASRecPlus":
        values |= {"modalities": list(WIDTHS), "use_item_id": False}
    return load_config(model, args.dataset, config_dict=values)


def checkpoint_of(model: str, args) -> str:
    """A checkpoint with random weights."""
    from recbole_mm.run.run import Run

    run = Run(config_of(model, args))
    run.model.on_epoch_start(0)
    run.trainer._save_checkpoint(0, verbose=False)
    return run.trainer.saved_model_file


def bundle_of(model: str, args) -> str:
    """A bundle of the checkpoint."""
    from recbole_mm.recommend.recommender import Recommender

    folder = Path(args.scratch, f"bundle-{model}")
    Recommender.from_pretrained(checkpoint_of(model, args)).export(folder, overwrite=True)
    return str(folder)


def measured(function, **known) -> dict:
    """Users per second and memory of a function that returns how many users it served. It is called
    once for every line of the standard input."""
    before, memory, seconds, cpu, n_users = resident(), OwnMemory(), [], [], 0
    print(DONE, flush=True)
    for _ in sys.stdin:
        begun, cpu_begun = time.perf_counter(), time.process_time()
        n_users = function()
        cpu.append(time.process_time() - cpu_begun)
        seconds.append(time.perf_counter() - begun)
        print(DONE, flush=True)
    memory.ended.set()
    return {
        **known,
        "users": n_users,
        "first": round(seconds[0], 2),
        "seconds": round(min(seconds), 2),
        "users / s": round(n_users / min(seconds)),
        "users / s of CPU": round(n_users / median(cpu[1:] or cpu)),
        "MB before": round(before / 1e6),
        "MB own": round(memory.most / 1e6),
        "MB peak": round(peak() / 1e6),
    }


def ours(model: str, args) -> dict:
    """All users of the data set."""
    from recbole_mm.recommend.recommender import Recommender

    recommender = Recommender.from_pretrained(args.checkpoint)
    output = Path(args.scratch, f"{model}.parquet")
    return measured(
        lambda: recommender.write(output, k=K, overwrite=True).users, by=f"recbole_mm {model}"
    )


def by_users(model: str, args) -> dict:
    """A csv of synthetic users, streamed."""
    from recbole_mm.recommend.recommender import Recommender

    recommender = Recommender.from_pretrained(args.checkpoint)
    output = Path(args.scratch, "users.parquet")
    return measured(
        lambda: recommender.write(output, args.histories, k=K, overwrite=True).users,
        by=f"recbole_mm {model}, csv",
    )


def by_items(model: str, args) -> dict:
    """Some users of a large catalog, with a bundle."""
    from recbole_mm.recommend.recommender import Recommender

    recommender = Recommender.from_pretrained(args.checkpoint)
    table = Path(args.data_path, LARGE, f"{LARGE}.inter")
    histories = read_events(table).filter(pl.col("user_id").is_in(users_of(args)))
    output = Path(args.scratch, "items.parquet")
    return measured(
        lambda: recommender.write(output, histories, k=K, overwrite=True).users,
        by=f"recbole_mm {model}, {args.items} items",
    )


def recbole(model: str, args) -> dict:
    """RecBole's own function."""
    from recbole.utils.case_study import full_sort_topk

    from recbole_mm.run.run import Run

    run = Run(config_of(model, args))
    test = run.splits.test
    dataset, device = test.dataset, run.config["device"]
    users = np.unique(dataset.inter_feat[dataset.uid_field].numpy())
    if args.items:
        users = dataset.token2id(dataset.uid_field, users_of(args))

    def recommend():
        for part in np.array_split(users, -(-len(users) // args.batch)):
            _, items = full_sort_topk(part, run.model, test, k=K, device=device)
            dataset.id2token(dataset.iid_field, items.cpu())
            dataset.id2token(dataset.uid_field, part)
        return len(users)

    return measured(recommend, by=f"RecBole {model}, full_sort_topk")


RECTOOLS = """
import json, resource, sys, time, warnings
from pathlib import Path
from statistics import median
import pandas as pd
warnings.filterwarnings("ignore")
from pytorch_lightning import Trainer
from rectools.dataset import Dataset
from rectools.models import SASRecModel

def memory():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * resource.getpagesize() / 1e6)

path, done = sys.argv[1:3]
width, length, batch, k, n_users = map(int, sys.argv[3:])
table = pd.read_csv(path, sep="\\t")
table.columns = [name.partition(":")[0] for name in table.columns]
table = table.rename(columns={"timestamp": "datetime"})[["user_id", "item_id", "datetime"]]
table["datetime"] = pd.to_datetime(table["datetime"], unit="s")
dataset = Dataset.construct(table.assign(weight=1))
def trainer():
    return Trainer(max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False,
                   enable_progress_bar=False, enable_model_summary=False)
model = SASRecModel(n_factors=width, n_blocks=2, n_heads=2, session_max_len=length,
                    batch_size=128, recommend_batch_size=batch, get_trainer_func=trainer,
                    loss="BCE", n_negatives=1)
model.fit(dataset)
users = table["user_id"].unique()[:n_users or None]
before, seconds, cpu = memory(), [], []
print(done, flush=True)
for _ in sys.stdin:
    begun, cpu_begun = time.perf_counter(), time.process_time()
    found = model.recommend(users=users, dataset=dataset, k=k, filter_viewed=False)
    cpu.append(time.process_time() - cpu_begun)
    seconds.append(time.perf_counter() - begun)
    print(done, flush=True)
print(json.dumps({"by": "RecTools SASRec, recommend", "users": len(users),
                  "first": round(seconds[0], 2), "seconds": round(min(seconds), 2),
                  "users / s": round(len(users) / min(seconds)),
                  "users / s of CPU": round(len(users) / median(cpu[1:] or cpu)),
                  "MB before": before,
                  "MB peak": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)}))
"""


def rectools(args) -> list[str]:
    """The command of RecTools, in its own environment."""
    file = Path(args.data_path or "dataset", args.dataset, f"{args.dataset}.inter")
    n_users = USERS_OF_A_LARGE_CATALOG if args.items else 0  # all
    values = file, DONE, WIDTH, LENGTH, args.batch, K, n_users
    return [args.rectools, "-c", RECTOOLS, *map(str, values)]


class Contender:
    """A process that serves all its users once per request."""

    def __init__(self, command: list[str]):
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._wait()

    def _wait(self) -> None:
        for line in self.process.stdout:
            if line.strip() == DONE:
                return
        raise SystemExit(f"{self.process.args[:2]} ended with {self.process.wait()}")

    def turn(self) -> None:
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self._wait()

    def row(self) -> dict:
        """What it has measured."""
        self.process.stdin.close()
        return json.loads(self.process.stdout.read().splitlines()[-1])


def in_turns(commands: list[list[str]], repetitions: int) -> Iterator[dict]:
    """The rows of contenders that take turns."""
    contenders = [Contender(command) for command in commands]
    for _ in range(repetitions):
        for contender in contenders:
            contender.turn()
    for contender in contenders:
        yield contender.row()


def write_histories(path: Path, n_users: int, tokens: list[str]) -> None:
    random = np.random.default_rng(0)
    events = n_users * EVENTS
    pl.DataFrame(
        {
            "user": pl.Series(random.integers(0, n_users, events)).cast(pl.String),
            "item": pl.Series(tokens).gather(random.integers(0, len(tokens), events)),
            "timestamp": np.arange(events),
        }
    ).write_csv(path)


def write_large_dataset(
    folder: Path, n_items: int, events: int = EVENTS_OF_A_LARGE_CATALOG
) -> None:
    """Random histories of ``events`` events, one event for each item, and random features."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    tokens = [f"i{item}" for item in range(n_items)]
    pl.DataFrame(
        {
            "user_id:token": [f"u{event // events}" for event in range(n_items)],
            "item_id:token": pl.Series(tokens).gather(random.permutation(n_items)),
            "timestamp:float": np.arange(n_items),
        }
    ).write_csv(folder / f"{LARGE}.inter", separator="\t")
    for modality, width in WIDTHS.items():
        values = np.empty((n_items, width), dtype=np.float16)
        for first in range(0, n_items, LARGE_PART):
            part = random.standard_normal((min(LARGE_PART, n_items - first), width), np.float32)
            values[first : first + LARGE_PART] = part / np.linalg.norm(part, axis=1, keepdims=True)
        write_item_features(feature_path(folder, LARGE, modality), tokens, values)


def read_events(path: Path) -> pl.DataFrame:
    table = pl.read_csv(path, separator="\t")
    return table.rename({name: name.partition(":")[0] for name in table.columns})


def users_of(args) -> list[str]:
    """The users of a large catalog who get lists."""
    return tokens_of("user_id", args)[:USERS_OF_A_LARGE_CATALOG]


def tokens_of(column: str, args) -> list[str]:
    file = Path(args.data_path or "dataset", args.dataset, f"{args.dataset}.inter")
    table = pl.read_csv(file, separator="\t", infer_schema_length=0)
    return table[f"{column}:token"].unique(maintain_order=True).to_list()


def command_of(function: str, model: str, args, **more) -> list[str]:
    """The command that runs one of the functions above in its own process."""
    options = {**vars(args), **more, "child": function, "models": model}
    flags = [f"--{key}={value}" for key, value in options.items() if value is not None]
    return [sys.executable, __file__, *flags]


def saved(model: str, args) -> str:
    """Path of a bundle, for a large catalog, or of a checkpoint."""
    command = command_of("bundle_of" if args.items else "checkpoint_of", model, args)
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def run(args) -> Iterator[dict]:
    paths = {model: saved(model, args) for model in args.models.split(",")}
    if args.users:
        yield from run_by_users(paths, args)
        return
    ours = "by_items" if args.items else "ours"
    commands = [command_of(ours, model, args, checkpoint=path) for model, path in paths.items()]
    commands.append(command_of("recbole", "SASRec", args))
    if args.rectools:
        commands.append(rectools(args))
    yield from in_turns(commands, REPETITIONS_OF_A_LARGE_CATALOG if args.items else REPETITIONS)


def run_by_users(paths: dict[str, str], args) -> Iterator[dict]:
    tokens = tokens_of("item_id", args)
    for n_users in map(int, args.users.split(",")):
        histories = Path(args.scratch, "histories.csv")
        write_histories(histories, n_users, tokens)
        for model, path in paths.items():
            more = {"checkpoint": path, "histories": histories}
            yield from in_turns([command_of("by_users", model, args, **more)], 1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--dataset", default="demo")
    parser.add_argument("--data_path")
    parser.add_argument("--models", default="MMM4Rec,MISSRec,UniSRec,SASRecPlus")
    parser.add_argument("--users", help="numbers of synthetic users")
    parser.add_argument("--items", help="number of items of a random data set")
    parser.add_argument("--rectools", help="Python of an environment with RecTools")
    parser.add_argument("--batch", type=int, help="users at a time")
    for name in ("child", "scratch", "checkpoint", "histories"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.batch = args.batch or (LARGE_BATCH if args.items else BATCH)
    if args.child:
        print(json.dumps(globals()[args.child](args.models, args), default=str))
        return
    with tempfile.TemporaryDirectory() as scratch:
        args.scratch = scratch
        if args.items:
            args.dataset, args.data_path = LARGE, scratch
            write_large_dataset(Path(scratch, LARGE), int(args.items))
        for row in run(args):
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
