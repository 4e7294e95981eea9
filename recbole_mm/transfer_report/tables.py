"""The tables of a transfer report, as text cells."""

from statistics import median

from recbole_mm.reporting.statistics import deviation
from recbole_mm.reporting.tables import (
    Table,
    best_two,
    difference_cell,
    interval_cell,
    mean_cell,
    p_value_cell,
)
from recbole_mm.run.result import epoch_in_words
from recbole_mm.transfer_report.convergence import SHARES, Reached
from recbole_mm.transfer_report.settings import ALL
from recbole_mm.transfer_report.study import Study, best_rate
from recbole_mm.transfer_report.summary import Block, Row
from recbole_mm.transfer_report.variants import SCRATCH, TRAINED


def starts_table(blocks: list[Block], metric: str) -> Table:
    """Every start and baseline on a target, under one condition after another."""
    rows: list[list[str]] = []
    marks: dict[tuple[int, int], str] = {}
    for block in blocks:
        first = len(rows)
        rows += [_start_cells(row, block, metric) for row in block.rows]
        best = best_two({2: [row.mean for row in block.rows]})
        marks |= {(first + row, column): mark for (row, column), mark in best.items()}
    head = ["", "seeds", metric, "interval over users", f"minus {SCRATCH}", "change"]
    ends = ["p", "p (Holm)", f"validation {_valid_metric(blocks)}", "best epochs"]
    return Table([*head, *ends], rows, marks)


def _valid_metric(blocks: list[Block]) -> str:
    return ", ".join(dict.fromkeys(block.valid_metric for block in blocks))


def _start_cells(row: Row, block: Block, metric: str) -> list[str]:
    scratch = block.row(SCRATCH)
    compared = row.comparison
    difference = compared.difference if compared else row.difference
    base = scratch.mean if scratch else 0.0
    share = f"{difference.value / base:+.1%}" if difference and base else "-"
    is_baseline = row.start == SCRATCH
    return [
        _name(row, block),
        str(len(row.values)),
        mean_cell({metric: row.mean}, {metric: row.deviation}, metric),
        interval_cell(row.interval),
        "" if is_baseline else difference_cell(difference),
        "" if is_baseline else share,
        p_value_cell(compared.p) if compared else "",
        p_value_cell(compared.corrected_p) if compared else "",
        _mean(row.valid),
        ", ".join(map(epoch_in_words, row.best_epochs)),
    ]


def _name(row: Row, block: Block) -> str:
    """The name of a row, which stays visible when a wide table is scrolled."""
    return row.start if block.condition == ALL else f"{row.start}, {block.condition.text}"


def _mean(values: list[float]) -> str:
    if not values:
        return "-"
    return mean_cell({"": sum(values) / len(values)}, {"": deviation(values)}, "")


def pace_table(blocks: list[Block]) -> Table:
    """Steps and seconds until a trained start reaches scratch's best validation score."""
    head = ["", "best validation"]
    for share in SHARES:
        head += [f"steps to {share:.0%}", f"s to {share:.0%}", f"seeds that reach {share:.0%}"]
    rows = [
        [_name(row, block), _mean(row.valid), *_pace_cells(row.reached)]
        for block in blocks
        for row in block.rows
        if row.start in TRAINED
    ]
    return Table(head, rows)


def _pace_cells(reached: list[Reached]) -> list[str]:
    cells = []
    for times in reached:
        steps = [step for step in times.steps if step is not None]
        seconds = [second for second in times.seconds if second is not None]
        if not times.steps:
            cells += ["-", "-", "-"]
            continue
        cells += [
            f"{median(steps):,.0f}" if steps else "never",
            f"{median(seconds):.1f}" if seconds else "never",
            f"{times.times} of {len(times.steps)}",
        ]
    return cells


def searched_table(study: Study) -> Table:
    """Best validation score of every learning rate that a start tried; the chosen one is bold."""
    rates = sorted(study.settings.learning_rates)
    rows = []
    marks = {}
    for number, ((target, condition, start), scores) in enumerate(study.searched.items()):
        values = [scores.get(rate) for rate in rates]
        cells = ["failed" if value is None else f"{value:.4f}" for value in values]
        rows.append([f"{start}, {target}", condition.text, f"{best_rate(scores):g}", *cells])
        marks[number, 3 + rates.index(best_rate(scores))] = "best"
    return Table(["", "trained on", "chosen", *(f"{rate:g}" for rate in rates)], rows, marks)


def pretraining_table(study: Study) -> Table:
    """The pre-trained models, one row per seed."""
    rows = [
        [
            name,
            str(seed),
            "-" if result.best_valid_score is None else f"{result.best_valid_score:.4f}",
            epoch_in_words(result.best_epoch),
            str(result.epochs),
            f"{result.seconds:.0f}",
            f"{result.n_parameters:,}",
        ]
        for (name, seed), (result, _) in study.pretrainings.items()
    ]
    head = ["", "seed", "validation", "best epoch", "epochs", "seconds", "trainable parameters"]
    return Table(head, rows)


def data_table(blocks: list[Block]) -> Table:
    """Users, items, interactions and targets of every target under every condition."""
    names = list(blocks[0].description.counts)
    rows = [
        [
            block.target,
            block.condition.text,
            *(f"{block.description.counts[name]:,}" for name in names),
            f"{block.description.steps_per_epoch:,}",
        ]
        for block in blocks
    ]
    return Table(["data", "trained on", *names, "steps per epoch"], rows)


def hashes_table(study: Study) -> Table:
    """The files of the data sets with their hashes."""
    return Table(["file", "SHA-256"], [list(row) for row in study.hashes.items()])
