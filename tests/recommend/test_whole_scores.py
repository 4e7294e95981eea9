"""RecBole's sequential models and baselines that train nothing recommend too."""

from pathlib import Path

import polars as pl
import pytest
from test_recommender import N_ITEMS, before_the_target

from recbole_mm.cli import main
from recbole_mm.config.load import load_config
from recbole_mm.recommend.recommender import Recommender
from recbole_mm.reporting.ranks import evaluate_ranks
from recbole_mm.run.run import Run
from recbole_mm.tools.errors import UserError

TINY = {"hidden_size": 8, "inner_size": 8, "n_layers": 1, "embedding_size": 8, "epochs": 1}
MODELS = {
    "SASRec": TINY,
    "GRU4Rec": {"hidden_size": 8, "embedding_size": 8, "num_layers": 1, "epochs": 1},
    "TransitionGraph": {},
    "HistoryKNN": {},
    "Popularity": {},
}


@pytest.fixture
def checkpoint_of(toy, tmp_path):
    """A function that trains a model: its run and its checkpoint."""

    def train(name, **settings):
        given = {**toy, "checkpoint_dir": str(tmp_path / "saved"), **settings}
        run = Run(load_config(name, config_dict=given))
        run.train()
        return run, run.test().checkpoint

    return train


@pytest.mark.parametrize("name", MODELS)
def test_the_target_is_where_the_evaluator_has_it(name, checkpoint_of, toy):
    run, checkpoint = checkpoint_of(name, **MODELS[name])
    expected = evaluate_ranks(run).ranks.select("user", "item", "rank")

    recommender = Recommender.from_pretrained(checkpoint)
    table = recommender.recommend(before_the_target(toy), k=N_ITEMS)

    score = pl.col("score")
    table = table.with_columns(
        above=score.rank("min", descending=True).over("user"),
        with_ties=score.rank("max", descending=True).over("user"),
    )
    found = expected.join(table, on=["user", "item"], suffix="_recommended")
    assert len(found) == len(expected) == 40
    assert found.filter(~pl.col("rank").is_between("above", "with_ties")).is_empty()
    assert set(found["source"]) == {"model"}


def test_a_table_of_histories_and_the_users_of_the_data_set(checkpoint_of, tmp_path):
    _, checkpoint = checkpoint_of("SASRec", **TINY)
    (tmp_path / "today.csv").write_text("user,items\nnew,i1 i2\nnobody,\n")
    model, out = f"--model={checkpoint}", f"--output={tmp_path / 'top.csv'}"

    assert main(["recommend", model, "--histories=today.csv", "--k=3", "--filter-seen", out]) == 0
    table = pl.read_csv("top.csv")
    assert table["source"].to_list() == ["model"] * 3 + ["popular"] * 3
    assert not {"i1", "i2"} & set(table["item"][:3])
    assert main(["recommend", model, "--k=3", out, "--overwrite"]) == 0
    assert len(pl.read_csv("top.csv")) == 3 * 40


def test_scores_of_many_items_are_those_of_few_users_at_once(checkpoint_of, toy, monkeypatch):
    _, checkpoint = checkpoint_of("SASRec", **TINY)
    recommender = Recommender.from_pretrained(checkpoint)
    whole = recommender.recommend(before_the_target(toy), k=3)
    seen = []
    score = recommender.model.full_sort_predict
    monkeypatch.setattr("recbole_mm.recommend.whole_scores.SCORES_AT_ONCE", 5 * (N_ITEMS + 1))
    monkeypatch.setattr(
        recommender.model,
        "full_sort_predict",
        lambda batch: seen.append(len(batch)) or score(batch),
    )

    again = recommender.recommend(before_the_target(toy), k=3, batch_size=1000)

    assert seen == [5] * 8
    assert again.drop("score").equals(whole.drop("score"))


def test_what_needs_one_of_our_models_is_refused_by_name(checkpoint_of, tmp_path, capsys):
    _, checkpoint = checkpoint_of("Popularity")
    recommender = Recommender.from_pretrained(checkpoint)

    with pytest.raises(UserError, match="Popularity works only with recommend, not with similar"):
        recommender.similar_items("i1")
    with pytest.raises(UserError, match="not with new items, which needs one of .*MMM4Rec"):
        recommender.add_items(vectors={"text": "x.npz"})
    assert main(["export", checkpoint, str(tmp_path / "bundle")]) == 2
    assert "not with export" in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()


def test_a_model_that_reads_the_user_is_refused(checkpoint_of, toy):
    _, checkpoint = checkpoint_of("FPMC", embedding_size=8, epochs=1)
    recommender = Recommender.from_pretrained(checkpoint)

    with pytest.raises(UserError, match="FPMC reads 'user_id' of a user, which a history does not"):
        recommender.recommend(before_the_target(toy), k=3)


def test_beside_changed_data_no_new_items_are_advised(checkpoint_of, toy):
    _, checkpoint = checkpoint_of("SASRec", **TINY)
    with Path(toy["data_path"], "toy", "toy.inter").open("a") as file:
        file.write("u0\tnew\t1500000000\n")

    with pytest.raises(UserError, match="Restore it, or train again$") as raised:
        Recommender.from_pretrained(checkpoint)
    assert "item_embedding.weight (13, 8), expected (14, 8)" in str(raised.value)
