"""Recommendations are the evaluator's ranks, whatever form the histories have."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from small_models import SMALL

from recbole_mm.config.models import MODELS
from recbole_mm.data.feature_files import feature_path, write_item_features
from recbole_mm.data.features import read_item_features
from recbole_mm.recommend.histories import read_histories
from recbole_mm.recommend.recommender import Recommender
from recbole_mm.recommend.tables import TableForm
from recbole_mm.reporting.ranks import evaluate_ranks
from recbole_mm.tools.errors import RunFailed, UserError

N_ITEMS = 12


@pytest.fixture
def recommender(trained):
    return Recommender.from_pretrained(trained("UniSRec").result.checkpoint)


def test_every_model_recommends():
    assert {name.partition("-")[0] for name in SMALL} == set(MODELS)


def toy_events(toy) -> pl.DataFrame:
    path = f"{toy['data_path']}/toy/toy.inter"
    return pl.read_csv(path, separator="\t", new_columns=["user", "item", "timestamp"])


def before_the_target(toy) -> pl.DataFrame:
    """Whole histories but for the last event of each user, which is the test's target."""
    events = toy_events(toy)
    return events.filter(pl.int_range(pl.len()).over("user") < pl.len().over("user") - 1)


@pytest.mark.parametrize("use_item_id", [True, False], ids=["with-id", "without-id"])
@pytest.mark.parametrize("name", SMALL)
def test_ranks_are_those_of_the_evaluator(name, use_item_id, trained, toy):
    assert_ranks_of_the_evaluator(trained(name, use_item_id=use_item_id), toy)


LARGE = {
    "in blocks": {"items_per_block": 5},
    "sparse": {"softmax": "sampled", "n_negatives": 4, "sparse_id_updates": True},
}


@pytest.mark.parametrize("settings", LARGE.values(), ids=LARGE)
@pytest.mark.parametrize("name", ["MISSRec", "UniSRec-repeats"])
def test_so_they_are_with_settings_for_large_catalogs(name, settings, trained, toy):
    assert_ranks_of_the_evaluator(trained(name, **settings), toy)


def assert_ranks_of_the_evaluator(run, toy):
    expected = evaluate_ranks(run).ranks.select("user", "item", "rank")

    recommender = Recommender.from_pretrained(run.result.checkpoint)
    table = recommender.recommend(before_the_target(toy), k=N_ITEMS)

    ranks = expected.join(table, on=["user", "item"], suffix="_recommended")
    assert len(ranks) == len(expected) == 40
    assert ranks["rank_recommended"].to_list() == ranks["rank"].to_list()
    gains = 1 / np.log2(ranks["rank_recommended"].to_numpy() + 1)
    ndcg = gains[ranks["rank_recommended"].to_numpy() <= 10].sum() / len(ranks)
    assert ndcg == pytest.approx(run.result.test_result["ndcg@10"], abs=1e-4)


def test_times_of_the_request_are_those_of_the_evaluator(trained, toy):
    run = trained("MMM4Rec-time", query_time="request")
    expected = evaluate_ranks(run).ranks.select("user", "item", "rank")
    recommender = Recommender.from_pretrained(run.result.checkpoint)
    times = dict(toy_events(toy).group_by("user").agg(pl.col("timestamp").last()).iter_rows())
    histories = before_the_target(toy)

    for user, item, rank in expected.head(5).iter_rows():
        table = recommender.recommend(histories, k=N_ITEMS, users=[user], request_time=times[user])
        assert table.filter(pl.col("item") == item)["rank"].item() == rank


def test_without_histories_every_user_of_the_data_gets_a_list_after_all_events(recommender, toy):
    table = recommender.recommend(k=2)

    assert table.columns == ["user", "item", "score", "rank", "source"]
    assert table["user"].unique(maintain_order=True).to_list() == [f"u{i}" for i in range(40)]
    assert table["rank"].to_list() == [1, 2] * 40
    assert table.equals(recommender.recommend(toy_events(toy), k=2))


def test_a_list_is_in_order_of_its_scores(recommender):
    scores = recommender.recommend(k=N_ITEMS)["score"].to_numpy().reshape(-1, N_ITEMS)

    assert np.isfinite(scores).all()
    assert (np.diff(scores, axis=1) <= 0).all()


def as_long_in_order_of_time(events):
    return events.sort("timestamp", maintain_order=True)


def as_lists(events):
    return events.group_by("user", maintain_order=True).agg("item", "timestamp")


def as_pandas(events):
    return pd.DataFrame(events.to_dict(as_series=False))


def as_pandas_lists(events):
    return pd.DataFrame(as_lists(events).to_dict(as_series=False))


def as_dates(events):
    return events.with_columns(pl.from_epoch(pl.col("timestamp").cast(pl.Int64)))


FORMS = [
    as_long_in_order_of_time,
    as_lists,
    as_pandas,
    as_pandas_lists,
    as_dates,
    pl.DataFrame.lazy,
]


@pytest.mark.parametrize("form", FORMS)
def test_histories_may_be_frames_of_any_form(form, recommender, toy):
    expected = recommender.recommend(k=3)

    table = recommender.recommend(form(toy_events(toy)), k=3)

    if form in (as_pandas, as_pandas_lists):
        assert isinstance(table, pd.DataFrame)
        table = pl.DataFrame(table.to_dict("list"))
    assert table["user"].to_list() == expected["user"].to_list()
    assert table["item"].to_list() == expected["item"].to_list()


def write_jsonl_lists(events, path):
    as_lists(events).rename({"item": "items"}).write_ndjson(path)


def write_csv_words(events, path):
    words = as_lists(events).with_columns(
        pl.col("item").list.join(" ").alias("items"),
        pl.col("timestamp").cast(pl.List(pl.String)).list.join(" "),
    )
    words.drop("item").write_csv(path)


def write_csv_json(events, path):
    cells = ["[" + ",".join(f'"{item}"' for item in row) + "]" for row in as_lists(events)["item"]]
    pl.DataFrame({"user": as_lists(events)["user"], "items": cells}).write_csv(path)


FILES = {
    "long.csv": pl.DataFrame.write_csv,
    "long.tsv": lambda events, path: events.write_csv(path, separator="\t"),
    "long.parquet": pl.DataFrame.write_parquet,
    "long.jsonl": pl.DataFrame.write_ndjson,
    "lists.parquet": lambda events, path: as_lists(events).write_parquet(path),
    "lists.jsonl": write_jsonl_lists,
    "words.csv": write_csv_words,
    "json.csv": write_csv_json,
}


@pytest.mark.parametrize("name", FILES)
def test_histories_may_be_files_of_any_form(name, recommender, toy, tmp_path):
    path = tmp_path / name
    FILES[name](toy_events(toy), path)

    assert recommender.recommend(path, k=3).equals(recommender.recommend(k=3))


def test_columns_may_have_any_names(recommender, toy):
    renamed = toy_events(toy).rename({"user": "customer", "item": "sku", "timestamp": "bought"})

    table = recommender.recommend(
        renamed,
        k=3,
        form=TableForm(user="customer", item="sku", time="bought"),
        result_columns={"user": "customer", "item": "sku", "score": "points"},
    )

    assert table.columns == ["customer", "sku", "points", "rank", "source"]
    assert table["sku"].to_list() == recommender.recommend(k=3)["item"].to_list()


def test_columns_may_have_the_names_that_they_had_in_training(trained, toy):
    events = toy_events(toy)
    names = {"USER_ID_FIELD": "visit", "ITEM_ID_FIELD": "sku", "TIME_FIELD": "bought"}
    path = Path(toy["data_path"]) / "toy" / "toy.inter"
    _, *rows = path.read_text().splitlines()
    path.write_text("\n".join(["visit:token\tsku:token\tbought:float", *rows]) + "\n")
    recommender = Recommender.from_pretrained(trained("MMM4Rec-time", **names).result.checkpoint)
    own = events.rename({"user": "visit", "item": "sku", "timestamp": "bought"})

    table = recommender.recommend(own, k=3)

    assert table.equals(recommender.recommend(events, k=3))
    assert table.equals(recommender.recommend(k=3))


def test_events_are_read_in_order_of_time_and_else_of_the_table(recommender):
    times = pl.DataFrame(
        {"user": ["a"] * 3, "item": ["i3", "i1", "i2"], "timestamp": [30.0, 10.0, 20.0]}
    )
    in_order = pl.DataFrame({"user": ["a"] * 3, "item": ["i1", "i2", "i3"]})

    scores = recommender.recommend(in_order)["score"]

    assert recommender.recommend(times)["score"].equals(scores)
    assert not recommender.recommend(times.drop("timestamp"))["score"].equals(scores)


def test_users_come_in_the_order_asked_for_and_need_not_be_known(recommender, toy):
    users = ["u7", "nobody", "u1"]

    for histories in (None, toy_events(toy)):
        table = recommender.recommend(histories, k=2, users=users)

        assert table["user"].to_list() == ["u7", "u7", "nobody", "nobody", "u1", "u1"]
        assert table["source"].to_list() == ["model"] * 2 + ["popular"] * 2 + ["model"] * 2


def test_users_without_a_known_event_get_what_is_popular_in_all_events(trained, toy):
    path = Path(toy["data_path"], "toy", "toy.inter")
    latest = "".join(f"new{n}\ti1\t1500000000\nnew{n}\ti9\t1600000000\n" for n in range(9))
    path.write_text(path.read_text() + latest)  # i9 is what the test part has
    run = trained("UniSRec")
    counts = [(toy_events(toy)["item"] == token).sum() for token in ("i9", "i1")]
    recommender = Recommender.from_pretrained(run.result.checkpoint)
    histories = {"user": ["new", "other", "known"], "items": [[], ["unheard of"], ["i1"]]}

    table = recommender.recommend(histories, k=2, users=["new", "other"])

    assert sorted(table["item"].to_list()) == ["i1", "i1", "i9", "i9"]
    assert table["score"].to_list() == sorted(counts, reverse=True) * 2
    assert table["source"].to_list() == ["popular"] * 4


def test_unknown_items_are_skipped_and_counted_or_an_error(recommender, caplog):
    some = pl.DataFrame({"user": ["a"] * 3, "item": ["i1", "unheard of", "i2"]})
    known = some.filter(pl.col("item") != "unheard of")

    assert recommender.recommend(some).equals(recommender.recommend(known))
    assert (
        "the catalog does not have the items of 1 of 3 events, e.g. 'unheard of': they are skipped"
        in caplog.text
    )
    with pytest.raises(
        UserError,
        match=r"1 of 3 events, e\.g\. 'unheard of'; add them with --new-items \(in Python add_items\), or "
        r"omit --strict \(in Python strict=True\)",
    ):
        recommender.recommend(some, strict=True)


def test_seen_items_are_left_out_whole_histories_long(recommender):
    history = [f"i{i}" for i in range(9)]  # the model reads the last 5
    histories = pl.DataFrame({"user": ["a"], "items": [history]})

    table = recommender.recommend(histories, k=5, filter_seen=True)

    assert sorted(table["item"].to_list()) == ["i10", "i11", "i9"]
    assert table["rank"].to_list() == [1, 2, 3]


def test_allowed_and_excluded_items_decide_who_is_a_candidate(recommender):
    every = recommender.recommend(k=N_ITEMS)
    allowed, excluded = ["i5", "i1", "i7", "i2"], ["i7"]
    left = {"i1", "i2", "i5"}

    table = recommender.recommend(k=3, items=allowed, exclude=excluded)

    expected = every.filter(pl.col("item").is_in(left))
    assert table["item"].to_list() == expected["item"].to_list()
    np.testing.assert_allclose(table["score"], expected["score"], rtol=1e-5, atol=1e-5)


def test_each_user_may_have_candidates_of_her_own(recommender):
    histories = pl.DataFrame({"user": ["a", "b", "c"], "items": [["i1", "i2"], ["i4"], []]})
    candidates = pl.DataFrame(
        {"user": ["c", "b", "a"], "items": [["i9"], ["i1", "i2", "i3"], ["i5", "i6"]]}
    )

    table = recommender.recommend(histories, k=2, candidates=candidates)

    lists = dict(table.group_by("user").agg("item").iter_rows())
    assert sorted(lists["a"]) == ["i5", "i6"]
    assert len(lists["b"]) == 2 and set(lists["b"]) <= {"i1", "i2", "i3"}
    assert lists["c"] == ["i9"]
    with pytest.raises(UserError, match=r"1 user has no candidate .*, e.g. \['c'\]"):
        recommender.recommend(histories, k=1, candidates=candidates.head(0).vstack(candidates[1:]))


def test_lists_do_not_depend_on_batches_blocks_and_parts(recommender, monkeypatch):
    expected = recommender.recommend(k=3)
    monkeypatch.setattr("recbole_mm.recommend.ranking.BLOCKS", {"cpu": (3, 5)})
    monkeypatch.setattr("recbole_mm.recommend.request.USERS_PER_PART", (7, 7))

    table = recommender.recommend(k=3, batch_size=5)

    assert table.drop("score").equals(expected.drop("score"))
    np.testing.assert_allclose(table["score"], expected["score"], rtol=1e-5)


@pytest.mark.parametrize("crowded", [False, True])
@pytest.mark.parametrize("name", ["UniSRec", "UniSRec-repeats"])
def test_lists_by_approximations_are_those_by_all_scores(name, crowded, trained, monkeypatch):
    run = trained(name)
    recommender = Recommender.from_pretrained(run.result.checkpoint)
    asked = [{"k": 1, "filter_seen": name == "UniSRec", "exclude": ["i3"]}, {"k": 3}]
    if recommender.model.repeats is not None:
        torch.nn.init.normal_(recommender.model.repeats.weight)
    expected = [recommender.recommend(**options) for options in asked]
    monkeypatch.setattr("recbole_mm.model.abstract_recommender.is_fast", lambda _: True)
    monkeypatch.setattr("recbole_mm.recommend.ranking.SCREENED", 0)
    monkeypatch.setattr("recbole_mm.recommend.ranking.SCREENED_PER_K", 0)
    if crowded:
        monkeypatch.setattr("recbole_mm.model.layers.top_k.CHUNK", 1)
        monkeypatch.setattr("recbole_mm.model.layers.screening.ROUNDING", 1e3)
        monkeypatch.setattr("recbole_mm.model.layers.top_k.CROWD", 1)

    tables = [recommender.recommend(**options) for options in asked]

    for table, wanted in zip(tables, expected, strict=True):
        assert table.drop("score").equals(wanted.drop("score"))
        np.testing.assert_allclose(table["score"], wanted["score"], rtol=1e-5, atol=1e-6)


def test_a_model_with_time_says_what_it_does_without(trained, toy, caplog):
    recommender = Recommender.from_pretrained(trained("MMM4Rec-time").result.checkpoint)

    recommender.recommend(toy_events(toy).drop("timestamp"))

    assert "has no times, which MMM4Rec reads (use_time: True): every interval counts as 0" in (
        caplog.text
    )
    caplog.clear()
    recommender.recommend(toy_events(toy))
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(
    ("columns", "users", "is_reported"),
    [
        (
            ["item", "ordered_at", "shop"],
            ["a", "a"],
            "its other columns, 'ordered_at', 'shop', has",
        ),
        (["item", "ordered_at"], ["a", "b"], ""),  # one event each
        (["item", "timestamp"], ["a", "a"], ""),
        (["items", "ordered_at"], ["a", "b"], ""),  # a row is a whole history
    ],
)
def test_rows_that_are_read_as_the_order_of_events_are_reported(
    columns, users, is_reported, recommender, caplog
):
    values = {"item": ["i1", "i2"], "items": [["i1", "i2"], ["i3"]]}
    given = {name: values.get(name, ["2024-05-02", "2024-05-01"]) for name in columns}

    recommender.recommend(pl.DataFrame({"user": users, **given}))

    assert is_reported in caplog.text
    assert ("no times; the order of its rows is taken" in caplog.text) == bool(is_reported)
    assert ("name it with --time-column" in caplog.text) == bool(is_reported)


ONE = pl.DataFrame({"user": ["a"], "item": ["i1"]})


@pytest.mark.parametrize(
    ("histories", "options", "message"),
    [
        (ONE.drop("item"), {}, r"no column of items: name it with --item-column \(in Python TableForm\(item=...\)\). The table has \['user'\]"),
        (ONE.drop("user"), {}, r"no column of users"),
        (ONE, {"form": TableForm(item="sku")}, r"no column 'sku': name it with --item-column \(in Python TableForm\(item=...\)\). The table has \['user', 'item'\]"),
        (pl.DataFrame({"user": ["a", None], "item": ["i1", "i2"]}), {}, "row 2 has no user"),
        (
            pl.DataFrame({"user": ["a"] * 2, "item": ["i1"] * 2, "timestamp": ["3", "noon"]}),
            {},
            "row 2 has no time that can be read",
        ),
        (
            pl.DataFrame({"user": ["a", "b", "a"], "items": [["i1"]] * 3}),
            {},
            r"1 duplicate user, e.g. \['a'\]",
        ),
        (
            pl.DataFrame({"user": ["a"], "items": [["i1"]], "timestamps": [[1.0, 2.0]]}),
            {},
            "row 1 has 1 item and 2 times",
        ),
        (
            pl.DataFrame({"user": ["a"], "item": ["i1"], "timestamp": [1_700_000_000_000]}),
            {},
            r"row 1 has a time after 2100; .* name the unit .* \(--time-unit",
        ),
        (ONE, {"request_time": 1.7e12}, "request_time is 1700000000000, before 1970 or after 2100"),
        (ONE, {"items": ["i1"], "exclude": ["i1"]}, "no item is left to recommend"),
        (ONE, {"items": ["ix"]}, "items: none of them is in the catalog"),
        (ONE, {"k": 0}, "k is 0; it must be a whole number >= 1"),
        (ONE, {"batch_size": 2.5}, "batch_size is 2.5"),
        (ONE, {"items": ["i1", "ix"], "strict": True}, r"items: not in the catalog of 12 items: 1 of 2, e\.g\. \['ix'\]"),
        (ONE, {"exclude": ["ix"], "strict": True}, "exclude: not in the catalog of 12 items: 1 of 1, "),
        (ONE, {"items": "i1.txt"}, "items is a text"),
        (ONE, {"result_columns": {"users": "x"}}, r"\['users'\] are not among user, item"),
        (ONE, {"result_columns": {"user": "item"}}, "two columns would have the same name"),
        (
            pl.DataFrame({"user": ["a"] * 2, "item": ["1.0", "2.0"]}),
            {"stored_events": True},
            r"none of its 2 items; they look like \['1.0', '2.0'\], those of the catalog like \['i0', ",
        ),
        ("no.csv", {}, "no.csv"),
        ({}, {}, r"no column of users: name it with --user-column .* The table has \[\]"),
        ([("a", ["i1"])], {}, "'list' is not a table: give the path of a file"),
        (ONE.rename({"item": "sku"}).with_columns(title=1), {}, r"no column of items: name it with --item-column \(in Python TableForm\(item=...\)\)\. The table"),
        (ONE.rename({"item": "itemId"}), {}, "did you mean 'itemId'?"),
        (pl.DataFrame({"user;item": ["a;i1"]}), {}, "the table has one column, which looks like several: --separator=';'"),
        (ONE, {"filter_seem": True}, r"no option 'filter_seem' \(did you mean 'filter_seen'\?\)"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_a_clear_error(histories, options, message, recommender):
    with pytest.raises(UserError, match=message):
        recommender.recommend(histories, **options)


def test_unknown_items_of_lists_are_skipped_and_counted(recommender, caplog):
    known = recommender.recommend(ONE, k=2, items=["i1", "i2", "i3"], exclude=["i1"])

    table = recommender.recommend(ONE, k=2, items=["i1", "ix", "i2", "i3"], exclude=["i1", "iy"])

    assert table.drop("score").equals(known.drop("score"))
    assert "items: not in the catalog of 12 items: 1 of 4, e.g. ['ix']" in caplog.text
    assert "exclude: not in the catalog of 12 items: 1 of 2, e.g. ['iy']" in caplog.text
    assert "they are skipped" in caplog.text


def test_lists_are_short_where_few_items_are_left(recommender, caplog):
    histories = {"user": ["a", "new"], "items": [["i1"], []]}

    table = recommender.recommend(histories, k=5, items=["i1", "i2", "i3"], exclude=["i1"])

    assert table["user"].to_list() == ["a", "a", "new", "new"]
    assert set(table["item"]) == {"i2", "i3"}
    assert "k is 5, but there are only 2 items to recommend: all lists are shorter" in caplog.text


@pytest.mark.parametrize("columns", [["user", "item"], ["user", "item", "timestamp"]])
def test_histories_without_rows_give_a_table_without_rows(columns, recommender, tmp_path, caplog):
    path = tmp_path / "today.csv"
    path.write_text(",".join(columns) + "\n")

    table = recommender.recommend(path)

    assert table.columns == ["user", "item", "score", "rank", "source"] and len(table) == 0
    assert "today.csv: no rows, so nobody has an event" in caplog.text
    assert recommender.recommend(path, k=2, users=["a"])["source"].to_list() == ["popular"] * 2


def test_a_user_who_is_named_again_gets_one_list(recommender, caplog):
    table = recommender.recommend(ONE, k=2, users=["b", "a", "b"])

    assert table["user"].to_list() == ["b", "b", "a", "a"]
    assert "users: 1 duplicate, e.g. of 'b'; each user gets one list" in caplog.text


def test_events_that_are_stored_already_are_counted_once(trained, toy, caplog):
    recommender = Recommender.from_pretrained(trained("MMM4Rec-time").result.checkpoint)
    later = toy_events(toy)["timestamp"].max() + 86_400
    today = pl.DataFrame({"user": ["u1"], "item": ["i9"], "timestamp": [later]})
    overlapping = pl.concat([toy_events(toy).filter(user="u1").cast(dict(today.schema)), today])
    asked = {"k": 5, "stored_events": True, "request_time": later}
    expected = recommender.recommend(today, **asked)

    table = recommender.recommend(overlapping, **asked)

    assert table.equals(expected)
    assert "7 events are in the data set of the training, too" in caplog.text


def test_stored_events_come_before_those_of_the_histories(trained, toy):
    recommender = Recommender.from_pretrained(trained("MMM4Rec-time").result.checkpoint)
    stored = toy_events(toy)
    user = stored["user"][0]
    later = stored["timestamp"].max() + 86_400
    today = pl.DataFrame({"user": ["new", user], "item": ["i3", "i9"], "timestamp": [later, later]})
    whole = pl.concat([stored.filter(user=user), today.cast(dict(stored.schema))])
    expected = recommender.recommend(whole, k=5, users=["new", user], request_time=later)

    table = recommender.recommend(today, k=5, stored_events=True, request_time=later)

    assert table["user"].unique(maintain_order=True).to_list() == ["new", user]
    for name in ("new", user):
        mine, wanted = (t.filter(user=name) for t in (table, expected))
        assert mine.drop("score").equals(wanted.drop("score"))
        np.testing.assert_allclose(mine["score"], wanted["score"], rtol=1e-5)
    alone = recommender.recommend(today, k=5, request_time=later).filter(user=user)
    assert not alone.equals(table.filter(user=user))
    with pytest.raises(UserError, match="has no times, unlike the data set of the training"):
        recommender.recommend(today.drop("timestamp"), stored_events=True)


def test_users_keep_their_order_beside_stored_events(trained):
    """So that the parts of an interrupted command are those of the one that resumes it."""
    train = trained("UniSRec").splits.train.dataset
    names = np.random.default_rng(0).permutation(5000)
    today = pl.DataFrame({"user": [f"x{name}" for name in names], "item": "i3", "timestamp": 2e9})
    tokens = pl.Series(["[PAD]", *(f"i{item}" for item in range(N_ITEMS))])

    for _ in range(3):
        histories = read_histories(today, tokens, stored=train)
        assert histories.part(0, len(names)).users.equals(today["user"])


def test_scores_that_are_not_numbers_are_no_recommendation(recommender, toy, monkeypatch):
    encode = type(recommender.model).encode

    def encode_one_badly(*args, **kwargs):
        users = encode(*args, **kwargs)
        users[0] = torch.nan
        return users

    monkeypatch.setattr(type(recommender.model), "encode", encode_one_badly)

    with pytest.raises(
        RunFailed,
        match="the vectors of 1 user of UniSRec are not numbers: check the features for huge",
    ):
        recommender.recommend(before_the_target(toy), k=3)


def test_features_of_another_encoder_are_not_those_of_the_training(toy, trained):
    def write(encoder):
        tokens = [f"i{number}" for number in range(12)]
        for modality in ("text", "image"):
            path = feature_path(f"{toy['data_path']}/toy", "toy", modality)
            values = read_item_features(path, ["pad", *tokens]).values[1:].numpy()
            write_item_features(path, tokens, values, {"encoder": encoder})

    write("one")
    checkpoint = trained("UniSRec").result.checkpoint
    Recommender.from_pretrained(checkpoint)

    write("another")
    with pytest.raises(UserError, match="other features now than the model was trained.*'another'"):
        Recommender.from_pretrained(checkpoint)


def test_events_that_are_added_later_train_no_id(toy, trained):
    path = Path(toy["data_path"], "toy", "toy.inter")
    whole = path.read_text().splitlines()
    rare = "i11"
    users = {line.split("\t")[0] for line in whole if f"\t{rare}\t" in line}
    kept = [line for line in whole if line.split("\t")[0] not in users]
    last = "\n".join([*kept, *(f"{user}x\t{rare}\t1600000000" for user in ("a", "b"))])
    path.write_text(last + "\n")
    checkpoint = trained("UniSRec").result.checkpoint
    before = Recommender.from_pretrained(checkpoint)

    path.write_text(last + f"\nax\ti1\t1600000001\nax\ti2\t1600000002\nax\t{rare}\t1600000003\n")
    path.write_text(path.read_text() + "ax\ti3\t1600000004\nax\ti4\t1600000005\n")
    after = Recommender.from_pretrained(checkpoint)

    assert before.catalog.counts.tolist() == after.catalog.counts.tolist()
    histories = pl.DataFrame({"user": ["a"], "items": [["i1", "i2"]]})
    assert before.recommend(histories, k=12).equals(after.recommend(histories, k=12))


def test_candidates_need_no_times_and_unknown_ones_are_counted(recommender, caplog):
    histories = pl.DataFrame({"user": ["a", "a"], "item": ["i1", "i2"], "when": [1, 2]})
    candidates = pl.DataFrame({"user": ["a", "a"], "item": ["i3", "typo"]})
    asked = {"candidates": candidates, "form": TableForm(time="when"), "k": 1}

    assert recommender.recommend(histories, **asked)["item"].to_list() == ["i3"]
    assert "the catalog does not have the items of 1 of 2 candidates" in caplog.text
    with pytest.raises(UserError, match="the items of 1 of 2 candidates, e.g. "):
        recommender.recommend(histories, strict=True, **asked)


def test_ids_come_in_the_order_asked_for(recommender):
    catalog = recommender.catalog
    of_each = [int(catalog.ids([item], "items")) for item in ("i7", "i2", "i7")]

    assert catalog.ids_in_order(["i7", "i2", "i7"], "items").tolist() == of_each
    assert catalog.ids(["i7", "i2", "i7"], "items").tolist() == of_each[1::-1]
