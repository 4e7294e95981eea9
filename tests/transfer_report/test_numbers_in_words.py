"""When a score is reached, and what pre-training brought, in words."""

import dataclasses

import polars as pl
import pytest

from recbole_mm.reporting.figures import svg_text
from recbole_mm.reporting.statistics import Comparison, Interval
from recbole_mm.run.result import Result
from recbole_mm.transfer_report.budget import Description
from recbole_mm.transfer_report.convergence import Reached, reached
from recbole_mm.transfer_report.figures import curves_figure, sizes_figure
from recbole_mm.transfer_report.numbers import numbers
from recbole_mm.transfer_report.settings import ALL, Condition
from recbole_mm.transfer_report.summary import Block, Row
from recbole_mm.transfer_report.tables import pace_table, starts_table
from recbole_mm.transfer_report.words import sentence

DESCRIPTION = Description({"users": 9}, ["text"], [], 0, 10)


def result(*scores):
    history = [{"epoch": e, "valid_score": s, "seconds": 2.0 * e} for e, s in enumerate(scores)]
    unknown = dict.fromkeys(field.name for field in dataclasses.fields(Result))
    best = {"best_valid_score": max(scores, default=None), "valid_metric": "ndcg@10"}
    return Result(**unknown | {"history": history, **best})


def row(
    start, value, difference=None, steps=(30, 30), seeds=True, corrected_p=0.02, p=0.01, best=(4, 5)
):
    times = [Reached(share, list(steps), [s and s / 10 for s in steps]) for share in (0.95, 1.0)]
    comparison = Comparison(difference, p, corrected_p, seeds) if difference else None
    span = Interval(value, value - 0.01, value + 0.01)
    return Row(start, [value, value], span, difference, comparison, [0.2, 0.3], times, list(best))


def block(
    difference, steps=(10, None), seeds=True, condition=ALL, corrected_p=0.02, p=0.01, best=(4, 5)
):
    own = (difference, steps, seeds, corrected_p, p, best)
    rows = [
        row("scratch", 0.125, steps=(30, 70), best=best),
        row("frozen", 0.1, Interval(-0.025, -0.03, -0.02)),
        row("unfrozen", 0.125 + difference.value, *own),
        Row(
            "popularity",
            [0.02],
            Interval(0.02, None, None),
            Interval(-0.1, -0.2, -0.05),
            None,
            [],
            [],
            [],
        ),
    ]
    curves = {start: [[(10, 0.1), (20, 0.2)]] for start in ("scratch", "frozen", "unfrozen")}
    return Block(
        "A, toy", condition, DESCRIPTION, rows, curves, {"zero-shot": 0.15}, [], "ndcg@10", 40, 40
    )


def test_what_is_reached_is_measured_by_the_best_score_of_scratch_with_the_same_seed():
    scratch = {1: result(0.5, 1.0), 2: result(0.2, 0.1)}
    start = {1: result(0.1, 0.96, 0.97), 2: result(0.3)}

    nearly = reached(start, scratch, 0.95, steps_per_epoch=10)
    whole = reached(start, scratch, 1.0, steps_per_epoch=10)

    assert nearly == Reached(0.95, [20, 10], [2.0, 0.0])
    assert whole == Reached(1.0, [None, 10], [None, 0.0])
    assert (nearly.times, whole.times) == (2, 1)


def test_without_validation_nothing_is_known_to_be_reached():
    assert reached({1: result()}, {1: result()}, 1.0, 10) == Reached(1.0, [], [])


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        (
            Interval(0.0031, -0.001, 0.0072),
            (
                "by +0.0031 (+2.5%, 95% interval -0.0010 to +0.0072): not significantly different "
                "from scratch."
            ),
        ),
        (Interval(0.0031, 0.001, 0.0072), "to +0.0072): better than scratch."),
        (Interval(-0.01, -0.02, -0.005), "(-8.0%, 95% interval -0.0200 to -0.0050): worse than"),
        (Interval(0.0, None, None), "no interval): too few users"),
    ],
)
def test_a_sentence_says_what_pre_training_brought_and_when_it_hurts(difference, words):
    text = sentence(block(difference), "NDCG@10")

    assert text.startswith("On A, toy (all users), starting from the pre-trained model changes")
    assert words in text
    assert "with 1 of 2 seeds, after 10 optimizer steps (median of these; scratch with the" in text
    assert text.endswith("same seeds: 30).")


def test_a_difference_that_does_not_survive_the_correction_is_none():
    text = sentence(block(Interval(0.0031, 0.001, 0.0072), corrected_p=0.08), "NDCG@10")

    assert "to +0.0072): not significantly different from scratch after correction for" in text
    assert "the number of starts (p 0.08)." in text


def test_a_sentence_about_one_seed_says_so_and_never_is_said():
    text = sentence(block(Interval(0.1, 0.05, 0.2), (None, None), seeds=False), "NDCG@10")

    assert "This holds for these trained models: other seeds may differ." in text
    assert "It does not reach scratch's best validation score with any seed." in text


def test_a_difference_that_was_none_before_the_correction_is_not_blamed_on_it():
    text = sentence(block(Interval(0.0031, 0.001, 0.0072), corrected_p=0.18, p=0.09), "NDCG@10")

    assert "to +0.0072): not significantly different from scratch." in text


def test_what_was_kept_as_it_was_is_said_and_shown():
    blocks = [block(Interval(0.1, 0.05, 0.2), best=(-1, 5))]

    text = sentence(blocks[0], "NDCG@10")

    assert "With 1 of 2 seeds no epoch from scratch was better than random weights, which" in text
    assert "With 1 of 2 seeds no epoch was better than the unchanged pre-trained model" in text
    assert starts_table(blocks, "NDCG@10").rows[0][-1] == "start, 6"


def test_the_tables_have_every_start_and_how_many_seeds_reach_a_score():
    blocks = [
        block(Interval(0.1, 0.05, 0.2)),
        block(Interval(0.1, 0.05, 0.2), condition=Condition(0.25)),
    ]

    starts, pace = starts_table(blocks, "NDCG@10"), pace_table(blocks)

    assert [row[0] for row in starts.rows[3:5]] == ["popularity", "scratch, 25% of the users"]
    assert starts.rows[2][4:8] == [
        "+0.1000 [+0.0500,\N{NO-BREAK SPACE}+0.2000]",
        "+80.0%",
        "0.0100",
        "0.0200",
    ]
    assert starts.rows[3][5:] == ["-80.0%", "", "", "-", ""]
    assert starts.marks == {(2, 2): "best", (0, 2): "second", (6, 2): "best", (4, 2): "second"}
    assert pace.rows[2][2:5] == ["10", "1.0", "1 of 2"]
    assert len({*pace.head}) == len(pace.head)


def test_a_score_that_a_seed_never_reaches_is_null_in_the_numbers():
    table = numbers([block(Interval(0.1, 0.05, 0.2))], "NDCG@10", "candidates", [1, 7])

    steps = table.filter(pl.col("table").str.starts_with("steps to 100%"), start="unfrozen")
    assert steps.select("seed", "value").rows() == [(1, 10.0), (7, None)]
    difference = table.filter(table="difference", start="unfrozen").row(0, named=True)
    assert (difference["low"], difference["p_holm"], difference["targets"]) == (0.05, 0.02, 40)


def test_figures_show_every_start_and_what_is_not_trained():
    blocks = [block(Interval(0.1, 0.05, 0.2), condition=c) for c in (ALL, Condition(0.1))]

    curves, sizes = svg_text(curves_figure(blocks[0])), svg_text(sizes_figure(blocks, "NDCG@10"))

    for name in ("scratch", "frozen", "unfrozen", "zero-shot", "optimizer steps"):
        assert name in curves
    for name in ("scratch", "unfrozen", "popularity", "10%", "100%", "NDCG@10"):
        assert name in sizes
