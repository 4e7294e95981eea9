"""The report of a search: one HTML page with its history, its curves and the importance of keys."""

import warnings
from pathlib import Path

import optuna
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna.trial import FrozenTrial, TrialState

from recbole_mm.config.load import RunConfig
from recbole_mm.reporting.environment import environment
from recbole_mm.reporting.figures import svg_text
from recbole_mm.reporting.page import render
from recbole_mm.reporting.tables import Table
from recbole_mm.run.identity import data_hashes
from recbole_mm.tools.files import write_text
from recbole_mm.tuning.search_space import searched
from recbole_mm.tuning.trials import Trials, score_of, shown

REPORT = "report.html"
LEAST_TRIALS = 4
"""Minimum number of complete trials for an estimate of importance."""

NOTES = {
    "history": "Every trial by its number, and the best score so far. A pruned trial (cross) has the "
    "score of its last epoch.",
    "curves": "Validation score by epoch. The thick line is the best trial; dashed lines were pruned.",
}


def write_report(trials: Trials, config: RunConfig, best: Path, command: str) -> Path:
    """Write ``report.html`` next to the best configuration.

    Args:
        trials: trials of the search; at least one is complete.
        config: configuration of the search, without the keys that are searched.
        best: file of the best configuration.
        command: command line of the search.

    Returns:
        the path.
    """
    importance, metric = importance_of(trials), config["valid_metric"]
    figures = {"history": history_figure(trials, metric), "curves": curves_figure(trials, metric)}
    if importance:
        figures["importance"] = importance_figure(importance)
    content = {
        "title": f"{config['model']} on {config['dataset']}: {trials.settings.algorithm} search",
        "summary": summary_of(trials, metric),
        "figures": {name: Markup(svg_text(f)) for name, f in figures.items() if f is not None},
        "notes": {**NOTES, "importance": _note_on_importance(importance)},
        "tables": {
            "trials": trials_table(trials, metric),
            "data": _space_table(trials),
            "hashes": _pairs("file", "SHA-256", data_hashes(config)),
            "environment": _pairs("environment", "", environment(config["device"])),
        },
        "best": best.read_text(encoding="utf-8"),
        "command": command,
    }
    path = best.with_name(REPORT)
    write_text(path, render("recbole_mm.tuning", REPORT, content))
    return path


def summary_of(trials: Trials, metric: str) -> str:
    """The search in a sentence."""
    ended = trials.ended
    counts = {state: sum(t.state == state for t in ended) for state in TrialState}
    seconds = sum(trial.user_attrs["seconds"] for trial in ended)
    return (
        f"{len(ended)} trials ({counts[TrialState.COMPLETE]} complete, "
        f"{counts[TrialState.PRUNED]} pruned, {counts[TrialState.FAIL]} failed), {seconds:.0f} s in "
        f"total; best validation {metric} {trials.best().value:.4f} in trial "
        f"{trials.ended.index(trials.best()) + 1}"
    )


def importance_of(trials: Trials) -> dict[str, float]:
    """Share of each searched key in what distinguishes good trials (PED-ANOVA); empty with too few
    complete trials, or if all have the same score.

    Reference:
        Shuhei Watanabe, Archit Bansal and Frank Hutter. "PED-ANOVA: Efficiently Quantifying
        Hyperparameter Importance in Arbitrary Subspaces." IJCAI 2023 (arXiv 2304.10255).
    """
    complete = [trial for trial in trials.ended if trial.state == TrialState.COMPLETE]
    if len(complete) < LEAST_TRIALS or len({trial.value for trial in complete}) == 1:
        return {}
    study = optuna.create_study(direction=trials.study.direction)
    study.add_trials(complete)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about few trials: the page says so too
        return optuna.importance.get_param_importances(study)


def history_figure(trials: Trials, metric: str) -> Figure:
    """Scores by trial number, and the best so far."""
    figure, axes = _axes("trial", f"validation {metric}")
    better = max if trials.bigger else min
    best_so_far: list[tuple[int, float]] = []
    for number, trial in enumerate(trials.ended, 1):
        complete = trial.state == TrialState.COMPLETE
        if trial.value is not None:
            axes.plot(number, trial.value, "ko" if complete else "kx", markersize=5)
        if complete:
            before = best_so_far[-1][1] if best_so_far else score_of(trial)
            best_so_far.append((number, better(score_of(trial), before)))
    axes.step(*zip(*best_so_far, strict=True), where="post", color="0.5", linewidth=1.5)
    return figure


def curves_figure(trials: Trials, metric: str) -> Figure | None:
    """Validation scores of every trial by epoch; ``None`` if no trial has such scores."""
    best = trials.best().number
    curves = [trial for trial in trials.ended if trial.intermediate_values]
    if not curves:
        return None
    figure, axes = _axes("epoch", f"validation {metric}")
    for trial in curves:
        axes.plot(
            *zip(*sorted(trial.intermediate_values.items()), strict=True),
            color="0" if trial.number == best else "0.6",
            linewidth=2.2 if trial.number == best else 0.9,
            linestyle="--" if trial.state == TrialState.PRUNED else "-",
            zorder=3 if trial.number == best else 2,
        )
    return figure


def importance_figure(importance: dict[str, float]) -> Figure:
    """Bars, the most important key on top."""
    figure = Figure(figsize=(8, 0.8 + 0.3 * len(importance)), layout="constrained")
    axes = figure.subplots()
    names = list(importance)[::-1]
    axes.barh(names, [importance[name] for name in names], color="0.7", edgecolor="black")
    axes.set_xlabel("importance")
    return figure


def trials_table(trials: Trials, metric: str) -> Table:
    """Every trial, the best first."""
    keys = list(dict.fromkeys(key for t in trials.ended for key in t.user_attrs["point"]))
    numbers = {trial.number: str(number) for number, trial in enumerate(trials.ended, 1)}
    sign = -1 if trials.bigger else 1

    def rank(trial: FrozenTrial) -> tuple:
        score = None if trial.value is None else sign * trial.value
        return trial.state != TrialState.COMPLETE, score is None, score or 0.0

    rows = []
    for trial in sorted(trials.ended, key=rank):
        attributes, point = trial.user_attrs, trial.user_attrs["point"]
        score = "" if trial.value is None else f"{trial.value:.4f}"
        state = attributes["reason"] or trial.state.name.lower()
        values = [shown(point[key]) if key in point else "" for key in keys]
        costs = [str(attributes["epochs"]), f"{attributes['seconds']:.0f}"]
        rows.append([numbers[trial.number], score, *values, *costs, state])
    return Table(["trial", metric, *keys, "epochs", "seconds", "ended"], rows)


def _space_table(trials: Trials) -> Table:
    rows = [line.split(": ", 1) for line in searched(trials.space)]
    return Table(["searched", "values"], [list(row) for row in rows])


def _pairs(name: str, value: str, values: dict[str, str]) -> Table:
    return Table([name, value], [list(row) for row in values.items()])


def _note_on_importance(importance: dict[str, float]) -> str:
    if not importance:
        return (
            f"Not estimated: it needs {LEAST_TRIALS} complete trials with different scores. Raise "
            f"--budget."
        )
    return (
        "How much the values of a key distinguish the good trials from all trials (PED-ANOVA, "
        "complete trials only; the shares add up to 1). With few trials this is a hint, not a "
        "measurement."
    )


def _axes(x: str, y: str):
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes
