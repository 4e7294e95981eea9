"""The finished trials of a search, on disk, and the objective function that looks them up."""

import json
import os
from datetime import datetime, timezone
from logging import getLogger
from pathlib import Path

from recbole_mm.config.errors import ConfigError
from recbole_mm.config.kinds import is_number
from recbole_mm.config.load import load_config
from recbole_mm.config.plain import to_plain
from recbole_mm.run.identity import PLACES, data_hashes, digest
from recbole_mm.run.run import objective_function
from recbole_mm.run.splits import find_or_make
from recbole_mm.tools.records import sealed, unsealed
from recbole_mm.tuning.search_space import is_point

NOT_SHOWN = ("search", "params", "started")
"""Keys of a recorded trial that are not part of its result."""


class Trials:
    """The finished trials of a search, those of another search space left out.

    Args:
        path: one JSON object per line: ``search`` (hash of the fixed keys and of the data),
            ``params``, ``started`` (when the command started), ``valid_score`` or ``error``,
            ``epochs``, ``seconds``.
        fixed: model, data set and all keys that are not searched.
        files: yaml files below it.
        space: what is searched (:func:`~recbole_mm.tuning.search_space.read_search_space`).
    """

    def __init__(self, path: Path, fixed: dict, files: list[str], space: dict):
        self.path, self.fixed, self.files, self.space = path, fixed, files, space
        config = load_config(config_files=files, config_dict=fixed)
        find_or_make(config)
        self.search = digest(config, PLACES, data=data_hashes(config))[:12]
        self.bigger = config["valid_metric_bigger"]
        self.damaged: set[str] = set()
        self.started = datetime.now(timezone.utc).isoformat()
        self.integers = {
            key
            for key, value in config.final_config_dict.items()
            if isinstance(value, int) and not isinstance(value, bool)
        }

    @property
    def finished(self) -> list[dict]:
        """The trials of this search on disk, where other processes may add to them; of a trial
        that was repeated, the last."""
        text = self.path.read_bytes() if self.path.is_file() else b""
        trials = {}
        for line in text.decode("utf-8", "replace").split("\n"):
            trial = _read_trial(line) if line.strip() else {}
            if trial is None:
                self._report_damage(line)
            elif trial.get("search") == self.search and is_point(trial["params"], self.space):
                trials[json.dumps(trial["params"], sort_keys=True)] = trial
        return list(trials.values())

    def _report_damage(self, line: str) -> None:
        if line not in self.damaged:
            getLogger().warning(f"{self.path}: skipped a damaged line: {line[:60]!r}")
        self.damaged.add(line)

    def objective(self, params: dict, _files=None, **place) -> dict:
        """What HyperTuning and Ray call: the result of a trial, run now or recorded before.

        A trial that cannot be trained (widths that do not divide, a loss that is not a number, too
        little memory) counts as the worst, and the search continues; the next command retries it.

        Args:
            params: one point of the search space.
            place: keys that decide where it runs.
        """
        params = {key: self._whole(key, value) for key, value in to_plain(params).items()}
        trial = next((trial for trial in self.finished if trial["params"] == params), None)
        if trial is None or ("error" in trial and trial.get("started") != self.started):
            trial = {"search": self.search, "params": params, "started": self.started}
            trial |= self._run(params, place)
            self._record(trial)
        return {
            "model": self.fixed["model"],
            "best_valid_score": trial.get("valid_score", 0.0 if self.bigger else 1e9),
            "valid_score_bigger": self.bigger,
            "best_valid_result": {k: v for k, v in trial.items() if k not in NOT_SHOWN},
            "test_result": None,
        }

    def best(self) -> dict:
        """The best trial.

        Raises:
            ConfigError: all have failed.
        """
        finished = self.finished
        scored = [trial for trial in finished if "valid_score" in trial]
        if not scored:
            reasons = sorted({trial["error"] for trial in finished})
            raise ConfigError(f"all {len(finished)} trials failed: {'; '.join(reasons)}")
        choose = max if self.bigger else min
        return choose(scored, key=lambda trial: trial["valid_score"])

    def _whole(self, key: str, value):
        """64.0, which is what hyperopt draws from a ``quniform``, as 64 where that is wanted."""
        whole = isinstance(value, float) and value.is_integer() and key in self.integers
        return int(value) if whole else value

    def _record(self, trial: dict) -> None:
        with open(self.path, "a+b") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - 1))
            cut_off = file.read(1) not in (b"", b"\n")
            file.write((cut_off * "\n" + json.dumps(sealed(trial)) + "\n").encode())

    def _run(self, params: dict, place: dict) -> dict:
        values = {**self.fixed, **params, **place}
        try:
            result = objective_function(values, self.files, saved=False)
        except (MemoryError, RuntimeError, TypeError, ValueError) as error:
            getLogger().warning(f"trial {params} failed: {error}")
            return {"error": str(error) or type(error).__name__}
        if result["best_valid_score"] is None:
            raise ConfigError(
                "nothing to tune by: eval_args leave no validation targets; give a split that has "
                "some"
            )
        return {
            "valid_score": float(result["best_valid_score"]),
            "epochs": result["epochs"],
            "seconds": round(result["seconds"], 1),
        }


def _read_trial(line: str) -> dict | None:
    """A line of the file; ``None`` if it is not a whole trial."""
    try:
        trial = unsealed(line)
    except ValueError:
        return None
    if not isinstance(trial.get("params"), dict) or not is_number(trial.get("seconds", 0)):
        return None
    if "valid_score" in trial:
        return trial if is_number(trial["valid_score"]) else None
    return trial if isinstance(trial.get("error"), str) else None
