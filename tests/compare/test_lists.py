"""Lists of other tools as an entry."""

import json
from types import SimpleNamespace

import polars as pl
import pytest
from tiny import TINY

from recbole_mm.cli import main
from recbole_mm.compare.entries import ForeignLists, parse_lists
from recbole_mm.compare.lists import (
    Targets,
    _reach_with_seen_items_left_out,
    rank_lists,
    read_lists,
)
from recbole_mm.config.errors import ConfigError
from recbole_mm.config.load import load_config
from recbole_mm.reporting.ranks import evaluate_ranks
from recbole_mm.run.run import Run
from recbole_mm.tools.errors import UserError

TARGETS = Targets(
    rows=pl.DataFrame(
        {"user": ["u", "v", "w"], "item": ["a", "b", "c"], "history_length": [2, 2, 1]}
    ),
    history=pl.DataFrame({"user": ["u", "u", "v", "v"], "item": ["x", "a", "y", "z"]}),
    items=50,
)
LISTS = pl.DataFrame({"user": ["v", "u", "u", "v", "w"], "item": ["y", "x", "a", "b", "x"]})


def ranks_of(**options):
    return dict(rank_lists(LISTS, TARGETS, **options).select("user", "rank").iter_rows())


def test_a_target_has_its_place_in_the_list_and_the_last_rank_where_it_is_missing():
    assert ranks_of(mask_seen=False) == {"u": 2, "v": 2, "w": 50}


def test_masked_items_leave_the_list_but_never_the_target():
    assert ranks_of(mask_seen=True) == {"u": 1, "v": 1, "w": 50}  # a repeats, and is the target


def test_lists_that_seen_items_make_too_short_have_no_masked_numbers(tmp_path, capsys):
    lists = ForeignLists("Mine", tmp_path / "top.csv")
    ten = pl.DataFrame({"user": ["u"] * 10, "item": ["x", *"abcdefghi"]})
    targets = TARGETS._replace(rows=TARGETS.rows.filter(user="u"))

    def reach(table, k, mask_seen=False):
        asked = SimpleNamespace(metric=f"NDCG@{k}", topk=[k], mask_seen=mask_seen)
        return _reach_with_seen_items_left_out(lists, table, targets, asked)

    assert reach(ten, 9) and not reach(ten, 10)
    assert "Mine has no masked numbers" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="1 lists have fewer than the 10 items"):
        reach(ten, 10, mask_seen=True)
    assert reach(pl.DataFrame({"user": ["u"] * 49, "item": list(map(str, range(49)))}), 60)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rank.csv", "user_id,item_id,rank\nu,b,2\nu,a,1\nv,a,1\n"),
        ("score.tsv", "user\titem\tscore\nu\tb\t0.1\nv\ta\t9\nu\ta\t0.5\n"),
        (
            "lists.jsonl",
            '{"user":"u","item":"b","rank":2}\n{"user":"v","item":"a","rank":1}\n'
            + '{"user":"u","item":"a","rank":1}\n',
        ),
        ("top.run", "u Q0 b 2 0.1 mine\nu Q0 a 1 0.5 mine\nv Q0 a 1 3 mine\n"),
    ],
)
def test_lists_of_every_format_are_read_best_first(tmp_path, name, text):
    (tmp_path / name).write_text(text)

    by_user = read_lists(tmp_path / name).group_by("user").agg("item")

    assert dict(by_user.iter_rows()) == {"u": ["a", "b"], "v": ["a"]}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "user,item\nu,a\n", "neither a column 'rank' nor a column 'score'"),
        ("a.csv", "user,rank\nu,1\n", "no column 'item'"),
        (
            "a.csv",
            "user,item,rank\nu,a,first\n",
            "rows whose rank is not a number: 1, e.g. 'first'",
        ),
        (
            "a.csv",
            "user,item,rank\nu,,1\nu,a,2\n,b,1\n",
            "2, the first with user 'u' and item None",
        ),
        ("a.csv", "user,item,score\nu,a,1\nu,a,2\n", "user u has the item a twice"),
        ("a.csv", "user,item,rank\nu,a,1\nu,b,1\n", "user u has the rank 1.0 twice"),
        ("a.run", "u Q0 a 1 2\n", "line 1: a line of a TREC run is"),
        ("none.run", None, "none.run: the file does not exist"),
        ("none.csv", None, "none.csv"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_the_reason(tmp_path, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)

    with pytest.raises(UserError, match=message) as error:
        read_lists(tmp_path / name)
    assert name in str(error.value)


@pytest.mark.parametrize("options", [["top.csv"], ["=top.csv"], ["A="], ["A=a.csv", "A=b.csv"]])
def test_lists_are_named(options):
    with pytest.raises(ConfigError, match="--lists"):
        parse_lists(options)


@pytest.mark.slow
@pytest.mark.usefixtures("forked_children")
def test_lists_of_a_model_have_its_numbers(toy, tmp_path, capsys):
    """The head of every list, as another tool would give it."""
    shared = {**toy, **TINY, "n_heads": 1, "topk": "[5,10]", "metric": "NDCG@5"}
    run = Run(load_config("SASRec", config_dict={**toy, **TINY, "n_heads": 1, "topk": [5, 10]}))
    ranks = evaluate_ranks(run).ranks
    lists = ranks.select("user", item="recommended").explode("item")
    lists = lists.with_columns(rank=pl.int_range(pl.len()).over("user") + 1)
    lists.write_csv(tmp_path / "top.csv")
    options = [f"--{k}={v}" for k, v in shared.items()]
    options += [
        "--models=SASRec",
        "--seeds=1",
        "--out=out",
        f"--lists=Other={tmp_path / 'top.csv'}",
    ]

    assert main(["compare", *options]) == 0

    (folder,) = (tmp_path / "out/runs").glob("Other-lists-*")
    judged = pl.read_parquet(folder / "ranks.parquet").filter(seen="candidates")
    both = judged.join(ranks, ["user", "item"], suffix="_true")
    near = both.filter(pl.col("rank_true") <= 10)
    assert len(both) == 40
    assert len(near)
    assert near["rank"].equals(near["rank_true"].rename("rank"))
    assert both["history_length"].equals(both["history_length_true"].rename("history_length"))
    assert "Other" in (tmp_path / "out/report.md").read_text()
    assert json.loads((folder / "result.json").read_text())["n_items"] == 12

    lists.filter(pl.col("user") != "u1").write_csv(tmp_path / "top.csv")
    assert main(["compare", *options]) == 2
    assert "no list for 1 of the 40 test users" in capsys.readouterr().err
