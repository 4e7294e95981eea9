r"""Search for settings by RecBole's HyperTuning: the command ``recbole-mm tune``.

Every finished trial is a line of ``trials.jsonl``. The draws follow from a seed, so the same
command goes on where it was: trials on record are looked up instead of run, and a larger budget
adds trials. Only validation scores are kept: nothing is chosen by the test. Ray Tune
(:mod:`recbole_mm.tuning.ray_search`) runs the same trials several at a time.
"""

import argparse
import ast
import json
import os
import shlex
from datetime import datetime, timezone
from logging import getLogger
from pathlib import Path

import yaml
from recbole.trainer import HyperTuning

from recbole_mm.config.errors import ConfigError
from recbole_mm.config.keys import refuse_unknown_keys
from recbole_mm.config.load import load_config
from recbole_mm.config.plain import to_plain
from recbole_mm.config.property_files import properties_dir, read_layers
from recbole_mm.config.values import parse_overrides
from recbole_mm.data.builtin import ensure_builtin
from recbole_mm.prepare.catalog import require_dataset
from recbole_mm.run.identity import PLACES, data_hashes, digest
from recbole_mm.run.jobs import GPU_VARIABLE, environment, number_of_jobs, visible_gpus
from recbole_mm.run.run import objective_function, require_writable
from recbole_mm.tools.files import write_text

ALGORITHMS = ("exhaustive", "random", "bayes")
TOOLS = ("hyperopt", "ray")
BOUNDS = {"uniform": 2, "loguniform": 2, "quniform": 3}  # numbers that a range is given by
TRIALS, BEST = "trials.jsonl", "best.yaml"
SEED_VARIABLE = "HYPEROPT_FMIN_SEED"
KEPT_BACK = ("of", "params", "started")  # of a trial on record, when it is shown


class Trials:
    """The finished trials of a search, on disk, and the objective that looks them up.

    Args:
        path: one JSON object per line: ``of`` (hash of all that was fixed, and of the data),
            ``params``, ``started`` (when the command did), ``valid_score`` or ``error``,
            ``epochs``, ``seconds``.
        fixed: model, data set and all that is not searched.
        files: yaml files below it.
    """

    def __init__(self, path: Path, fixed: dict, files: list[str]):
        self.path, self.fixed, self.files = path, fixed, files
        config = load_config(config_files=files, config_dict=fixed)
        ensure_builtin(config)
        self.of = digest(config, PLACES, data=data_hashes(config))[:12]
        self.bigger = config["valid_metric_bigger"]
        self.started = datetime.now(timezone.utc).isoformat()
        self.integers = {
            key
            for key, value in config.final_config_dict.items()
            if isinstance(value, int) and not isinstance(value, bool)
        }

    @property
    def done(self) -> list[dict]:
        """The trials of this search on disk, where other processes may add to them; of one that
        was tried again, the last."""
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else []
        trials = {}
        for line in lines:
            try:
                trial = json.loads(line)
            except json.JSONDecodeError:
                getLogger().warning(f"{self.path}: passed over what was cut off: {line[:60]!r}")
                continue
            if trial["of"] == self.of:
                trials[json.dumps(trial["params"], sort_keys=True)] = trial
        return list(trials.values())

    def objective(self, params: dict, _files=None, **place) -> dict:
        """What HyperTuning and Ray call: the result of a trial, run now or on record.

        A trial that cannot be trained (widths that do not divide, a loss that is not a number, too
        little memory) counts as the worst, and the search goes on; the next command tries it again.

        Args:
            params: one point of the search space.
            place: keys that decide where it runs.
        """
        params = {key: self._whole(key, value) for key, value in to_plain(params).items()}
        trial = next((trial for trial in self.done if trial["params"] == params), None)
        if trial is None or ("error" in trial and trial.get("started") != self.started):
            trial = {"of": self.of, "params": params, "started": self.started}
            trial |= self._run(params, place)
            self._record(trial)
        return {
            "model": self.fixed["model"],
            "best_valid_score": trial.get("valid_score", 0.0 if self.bigger else 1e9),
            "valid_score_bigger": self.bigger,
            "best_valid_result": {k: v for k, v in trial.items() if k not in KEPT_BACK},
            "test_result": None,
        }

    def _whole(self, key: str, value):
        """64.0, which is what hyperopt draws from a ``quniform``, as 64 where that is wanted."""
        whole = isinstance(value, float) and value.is_integer() and key in self.integers
        return int(value) if whole else value

    def _record(self, trial: dict) -> None:
        with open(self.path, "a+b") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - 1))
            cut_off = file.read(1) not in (b"", b"\n")
            file.write((cut_off * "\n" + json.dumps(trial) + "\n").encode())

    def best(self) -> dict:
        """The best trial.

        Raises:
            ConfigError: all have failed.
        """
        done = self.done
        scored = [trial for trial in done if "valid_score" in trial]
        if not scored:
            reasons = sorted({trial["error"] for trial in done})
            raise ConfigError(f"all {len(done)} trials failed: {'; '.join(reasons)}")
        choose = max if self.bigger else min
        return choose(scored, key=lambda trial: trial["valid_score"])

    def _run(self, params: dict, place: dict) -> dict:
        values = {**self.fixed, **params, **place}
        try:
            result = objective_function(values, self.files, saved=False)
        except (MemoryError, RuntimeError, TypeError, ValueError) as error:
            getLogger().warning(f"trial {params} failed: {error}")
            return {"error": str(error) or type(error).__name__}
        if result["best_valid_score"] is None:
            raise ConfigError("nothing to tune by: eval_args leave no validation targets")
        return {
            "valid_score": float(result["best_valid_score"]),
            "epochs": result["epochs"],
            "seconds": round(result["seconds"], 1),
        }


def tune(
    fixed: dict,
    space: Path,
    out: Path,
    algorithm: str = "random",
    budget: int = 20,
    patience: int | None = None,
    files: list[str] | None = None,
    seed: int = 2020,
    tool: str = "hyperopt",
    jobs: int | None = None,
) -> Path:
    """Search and write the best configuration as a yaml file that runs.

    Args:
        fixed: ``model``, ``dataset`` and all that is not searched, whatever ``space`` has for it.
        space: file in RecBole's format, a line ``key type values`` per parameter.
        out: folder of ``trials.jsonl`` and ``best.yaml``.
        algorithm: ``exhaustive`` (the whole grid, whatever the budget), ``random``, ``bayes``.
        budget: trials.
        patience: trials without a better one after which ``random`` and ``bayes`` end; ``None``:
            never.
        files: yaml files below ``fixed``.
        seed: of the draws.
        tool: ``hyperopt`` runs one trial after another, ``ray`` several at a time.
        jobs: how many; ``None``: one per GPU or core, and one for ``bayes``.

    Raises:
        ConfigError: an unknown algorithm, tool or key, no search space, settings that exclude each
            other, or every trial failed.
    """
    if algorithm not in ALGORITHMS:
        raise ConfigError(f"--algorithm={algorithm}: known are {', '.join(ALGORITHMS)}")
    if tool not in TOOLS:
        raise ConfigError(f"--tool={tool}: known are {', '.join(TOOLS)}")
    if tool == "ray" and patience is not None:
        raise ConfigError("--patience needs --tool=hyperopt: trials at once have no order")
    if tool == "hyperopt" and jobs is not None:
        raise ConfigError("--jobs needs --tool=ray: hyperopt runs one trial after another")
    if algorithm == "bayes" and (jobs or 1) > 1:
        raise ConfigError(f"--jobs={jobs}: bayes draws a trial from those before, one at a time")
    gpus = visible_gpus(fixed.get("gpu_id"))
    jobs = number_of_jobs(1 if algorithm == "bayes" and jobs is None else jobs, gpus)
    if not space.is_file():
        known = sorted(path.stem for path in (properties_dir() / "tuning").glob("*.hyper"))
        raise ConfigError(
            f"no search space {str(space)!r}: there are ones for {', '.join(known)}; give another "
            f"with --space=FILE, a line like `learning_rate choice [0.001,0.01]` per key"
        )
    if budget < 1:
        raise ConfigError(f"--budget={budget}: at least one trial is needed")
    require_writable(out, "Give another --out")
    trials = Trials(out / TRIALS, fixed, files or [])
    limit = budget if patience is None else patience
    try:
        search = HyperTuning(
            trials.objective,
            params_dict=read_space(space, fixed),
            algo=algorithm,
            max_evals=budget,
            early_stop=limit,
        )
        if tool == "ray":
            from recbole_mm.tuning import ray_search
    except ModuleNotFoundError as error:
        raise ConfigError(f"tune needs {error.name}: pip install 'recbole_mm[tune]'") from error
    refuse_unknown_keys(search.space, f"search space {str(space)!r}")
    if algorithm == "exhaustive":
        ranges = [key for key, node in search.space.items() if node.name != "switch"]
        if ranges:
            raise ConfigError(f"{', '.join(ranges)}: only a `choice` has a grid, in {str(space)!r}")
        from hyperopt.early_stop import no_progress_loss

        search.early_stop_fn = no_progress_loss(int(search.max_evals))  # a grid runs to its end
    if tool == "ray":
        with environment({**ray_search.SETTINGS, GPU_VARIABLE: ",".join(gpus) or None}):
            ray_search.run_by_ray(search, trials.bigger, seed, jobs, len(gpus))
    else:
        with environment({SEED_VARIABLE: str(seed)}):
            search.run()
    return _write_best(out / BEST, trials, f"{algorithm}, {len(trials.done)} trials")


def read_space(path: Path, fixed: dict) -> dict[str, dict[str, list]]:
    """A file of RecBole's search spaces, read without evaluating what stands in it.

    Args:
        path: lines ``key choice [a,b]``, ``key uniform low,high``, ``key loguniform low,high`` (of
            natural logarithms) or ``key quniform low,high,step``; shorter lines are passed over.
        fixed: keys that are not searched.

    Returns:
        ``{type: {key: values}}``, HyperTuning's ``params_dict``.

    Raises:
        ConfigError: a line that is none of these, or nothing to search.
    """
    space = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        words = line.split(maxsplit=2)
        if len(words) < 3 or words[0] in fixed:
            continue
        key, kind, text = words
        try:
            values = ast.literal_eval(text)
            if kind == "choice":
                valid = isinstance(values, list)
            else:
                valid = len([float(value) for value in values]) == BOUNDS[kind]
        except (ValueError, SyntaxError, TypeError, KeyError):
            valid = False
        if not valid:
            raise ConfigError(
                f"search space {str(path)!r}, line {number}: {line!r} is none of `key choice "
                f"[a,b]`, `key uniform low,high`, `key loguniform low,high`, `key quniform "
                f"low,high,step`"
            )
        space.setdefault(kind, {})[key] = list(values)
    if not space:
        raise ConfigError(f"search space {str(path)!r}: every key is given, nothing to search")
    return space


def main(arguments: list[str]) -> int:
    """Run the command; 0 when the search has ended.

    Raises:
        ConfigError: see :func:`tune`.
    """
    options, rest = _parser().parse_known_args(arguments)
    overrides = parse_overrides(rest)
    fixed = {"model": options.model, "dataset": options.dataset, "show_progress": False}
    fixed |= overrides
    require_dataset(load_config(config_files=options.config_files.split(), config_dict=fixed))
    space = options.space or properties_dir() / "tuning" / f"{options.model}.hyper"
    best = tune(
        fixed,
        Path(space),
        Path(options.out or f"tuning/{options.model}-{options.dataset}"),
        options.algorithm,
        options.budget,
        options.patience,
        options.config_files.split(),
        tool=options.tool,
        jobs=options.jobs,
    )
    print(best.read_text(encoding="utf-8"))
    print(f"written: {best}\nrun it: recbole-mm --config_files={shlex.quote(str(best))}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="recbole-mm tune",
        usage="recbole-mm tune --model=MODEL --dataset=DATASET [--budget=N] [--KEY=VALUE ...]",
        description="Search for settings by their validation score. A finished trial is not "
        "repeated: the same command goes on where it was, a larger budget adds trials. A key that is "
        "given is not searched.",
        allow_abbrev=False,
    )
    parser.add_argument("-m", "--model", required=True, help="a model's name")
    parser.add_argument("-d", "--dataset", required=True, help="a data set's name")
    parser.add_argument("--algorithm", default="random", help="exhaustive, random or bayes")
    parser.add_argument("--budget", type=int, default=20, help="trials (20); a grid has its own")
    parser.add_argument("--tool", default="hyperopt", help="hyperopt or ray, the same trials")
    parser.add_argument("--jobs", type=int, help="of ray: trials at once (one per GPU, or core)")
    parser.add_argument("--patience", type=int, help="end after so many trials without gain")
    parser.add_argument("--space", help="file of the search space (properties/tuning/MODEL.hyper)")
    parser.add_argument("--out", help="folder of the trials (tuning/MODEL-DATASET)")
    parser.add_argument("--config_files", default="", help="yaml files, with spaces between them")
    return parser


def _write_best(path: Path, trials: Trials, how: str) -> Path:
    best = trials.best()
    values = {**trials.fixed, **best["params"]}
    seconds = sum(trial.get("seconds", 0.0) for trial in trials.done)
    config = load_config(config_files=trials.files, config_dict=trials.fixed)
    layers = read_layers(trials.files)
    text = (
        f"# recbole-mm --config_files={path}\n"
        f"# Best of {how} on {trials.fixed['dataset']}, {seconds:.0f} s of training in all; "
        f"validation {config['valid_metric']} {best['valid_score']:.4f}.\n"
    ) + yaml.safe_dump({**layers, **values}, sort_keys=False)
    write_text(path, text)
    return path
