"""A comparison for other programs."""

from pathlib import Path

import polars as pl
import pytest

from recbole_mm.compare.exports import numbers, write_trec
from recbole_mm.compare.settings import Settings
from recbole_mm.compare.slices import Slice
from recbole_mm.compare.summary import Background, Row, Summary
from recbole_mm.reporting.statistics import Comparison, Interval


def settings(out="out", **changes):
    given = {
        "entries": [], "ensembles": [], "lists": [], "dataset": "toy", "seeds": [1], "baseline": "A",
        "protocol": "leave_one_out", "mask_seen": False, "metric": "NDCG@10", "topk": [10],
        "overrides": {}, "out": Path(out),
    }  # fmt: skip
    return Settings(**given | changes)


def row(label, value, against=None):
    means, spread = (
        {"NDCG@10": value, "itemcoverage@10": 0.5},
        {"NDCG@10": 0.01, "itemcoverage@10": 0.0},
    )
    other = {"NDCG@10": value + 0.1}
    interval = Interval(value, value - 0.02, value + 0.02)
    cost = {"epochs": 3.0, "seconds": 9.0, "n_parameters": 100.0}
    return Row(label, 2, means, spread, other, {"NDCG@10": 0.02}, interval, against, cost)


def summary(**changes):
    values = dict.fromkeys(Summary._fields)
    against = Comparison(Interval(0.1, 0.05, 0.15), 0.01, 0.02, True)
    span = Interval(0.3, None, None)
    part = Slice("popularity", "head", 5, 7, {"A": span}, {"B": Interval(0.2, 0.1, 0.3)})
    values |= {
        "settings": settings(),
        "background": Background(None, "", None, {}),
        "rows": [row("A", 0.2), row("B", 0.3, against)],
        "slices": [part],
        "knockouts": {"B": {"all": span}},
    }
    return Summary(**values | changes)


def test_every_number_is_in_one_long_table():
    table = numbers(summary())

    def record(**conditions):
        (found,) = table.filter(**conditions).to_dicts()
        return found

    masked = record(table="metrics", entry="B", metric="NDCG@10", seen_items="masked")
    assert masked["value"] == pytest.approx(0.4)
    assert (masked["deviation_over_seeds"], masked["low"]) == (0.02, None)
    tested = record(table="metrics", entry="B", metric="NDCG@10", seen_items="candidates")
    assert [tested[k] for k in ("value", "low", "high")] == pytest.approx([0.3, 0.28, 0.32])
    difference = record(table="difference")
    assert (difference["entry"], difference["value"], difference["p_holm"]) == ("B", 0.1, 0.02)
    part = record(table="slice")
    assert (part["part"], part["users"], part["targets"]) == ("popularity: head", 5, 7)
    assert record(table="slice difference")["low"] == 0.1
    assert record(table="knock-out")["part"] == "all"
    assert set(table["seen_items"]) == {"candidates", "masked"}


def test_lists_are_trec_runs_with_their_targets(tmp_path):
    ranks = pl.DataFrame(
        {
            "label": ["A|B"] * 2 + ["C"] * 2,
            "seed": [1] * 4,
            "user": ["u", "v"] * 2,
            "item": ["i1", "i2"] * 2,
            "recommended": [["i1", "i3"], ["i3", "i1"], ["i2", "i1"], ["i1", "i2"]],
        }
    )

    paths = write_trec(ranks, tmp_path)

    assert [path.name for path in paths] == ["qrels.txt", "A_B-seed1.run", "C-seed1.run"]
    assert paths[0].read_text() == "u 0 i1 1\nv 0 i2 1\n"
    assert paths[1].read_text().splitlines() == [
        "u Q0 i1 1 -1 A_B-seed1",
        "u Q0 i3 2 -2 A_B-seed1",
        "v Q0 i3 1 -1 A_B-seed1",
        "v Q0 i1 2 -2 A_B-seed1",
    ]


def test_blanks_in_names_do_not_end_a_column(tmp_path):
    row = {
        "label": "A",
        "seed": 1,
        "user": "Ann Lee",
        "item": "50% lamp",
        "recommended": ["big\tlamp"],
    }

    qrels, run = write_trec(pl.DataFrame([row]), tmp_path)

    assert qrels.read_text() == "Ann%20Lee 0 50%25%20lamp 1\n"
    assert run.read_text() == "Ann%20Lee Q0 big%09lamp 1 -1 A-seed1\n"


def test_a_user_with_several_targets_has_a_topic_for_each(tmp_path):
    ranks = pl.DataFrame(
        {
            "label": ["A"] * 2, "seed": [1] * 2, "user": ["u", "u"], "item": ["i1", "i2"],
            "recommended": [["i1"], ["i3"]],
        }
    )  # fmt: skip

    qrels, run = write_trec(ranks, tmp_path)

    assert qrels.read_text() == "u/1 0 i1 1\nu/2 0 i2 1\n"
    assert run.read_text() == "u/1 Q0 i1 1 -1 A-seed1\nu/2 Q0 i3 1 -1 A-seed1\n"
