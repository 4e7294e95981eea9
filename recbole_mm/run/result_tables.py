"""The tables at the end of a run."""

from logging import getLogger

from recbole_mm.run.logs import PRINTED
from recbole_mm.run.result import START, Result, epoch_in_words
from recbole_mm.tools import processes


def print_results(results: list[Result]):
    """Print the tables of a run to stdout and to its log file."""
    tables = [result_table(result) for result in results]
    if len(results) > 1:
        tables.append(stages_table(results))
    for table in tables:
        if processes.is_first():
            print(table, flush=True)
        getLogger().info("\n" + table, extra={PRINTED: True})


def result_table(result: Result) -> str:
    """The end of a run as text: both results side by side, and what the run cost."""
    valid, test = result.best_valid_result or {}, result.test_result or {}
    width = max((len(name) for name in (*valid, *test)), default=0)
    title = f"{result.model} on {result.dataset}{_said_of_time(result)}"
    heading = f"{'':{width}}    valid     test"
    lines = [title, heading if valid or test else "no validation and no test targets"]
    for name in test or valid:
        row = [f"{part[name]:9.4f}" if name in part else f"{'-':>9}" for part in (valid, test)]
        lines.append(f"{name:{width}}{''.join(row)}")
    best = "-"
    if result.best_epoch == START:
        best = "start, the model before training"
        best += ", its item IDs untrained" if result.use_item_id else ""
    elif result.best_epoch is not None:  # the log counts as RecBole does
        best = f"{result.best_epoch + 1}, 'epoch {result.best_epoch}' in the log"
    memory = f"{result.peak_memory / 2**20:.0f} MiB"
    if result.peak_gpu_memory:
        memory += f", GPU {result.peak_gpu_memory / 2**20:.0f} MiB"
    per_epoch = f"{result.seconds_per_epoch:.2f} s training"
    per_epoch += f" + {result.seconds_per_validation:.2f} s validation"
    lines += [
        f"epochs       {result.epochs} (best: {best}), each {per_epoch}",
        f"seconds      {result.seconds:.1f}",
        f"parameters   {result.n_parameters:,}",
        f"peak memory  {memory}",
        f"checkpoint   {result.checkpoint or 'not saved'}",
    ]
    return "\n".join(lines)


def stages_table(results: list[Result]) -> str:
    """The stages of a run as text, one line each, to follow the tables of the stages."""
    rows = [("stage", "valid", "test", "best epoch", "epochs", "seconds")]
    for result in results:
        rows.append(
            (
                _stage_in_words(result),
                _score(result.best_valid_score),
                _score((result.test_result or {}).get(result.valid_metric)),
                epoch_in_words(result.best_epoch),
                str(result.epochs),
                f"{result.seconds:.1f}",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(f"{cell:{w}}" for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([f"{results[0].valid_metric} of each stage", *lines])


def _stage_in_words(result: Result) -> str:
    if result.train_stage != "finetune":
        return f"{result.train_stage or result.model} on {result.dataset}"
    with_id = "with" if result.use_item_id else "without"
    start = "transferred" if result.pre_model_path else "from scratch"
    return f"finetune on {result.dataset} {with_id} ID, {start}{_said_of_time(result)}"


def _said_of_time(result: Result) -> str:
    return " (the model knows the time of the target)" if result.knows_query_time else ""


def _score(value: float | None) -> str:
    """A score as text; ``-`` for a split without targets."""
    return "-" if value is None else f"{value:.4f}"
