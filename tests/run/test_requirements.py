"""RecBole's sequential models through our command: they run, or the message says what they lack."""

from pathlib import Path

import pytest

from recbole_mm.config.errors import ConfigError
from recbole_mm.config.load import load_config
from recbole_mm.config.models import recbole_models
from recbole_mm.run.run import fit_and_evaluate
from recbole_mm.run.stages import plan_stages
from recbole_mm.tools.errors import UserError

TINY = {"epochs": 1, "hidden_size": 8, "embedding_size": 8, "show_progress": False, "topk": [5]}
TINY |= {"valid_metric": "NDCG@5", "train_batch_size": 64, "MAX_ITEM_LIST_LENGTH": 5}
NEEDS = {
    "Caser": {"MAX_ITEM_LIST_LENGTH": 8},
    "GRU4RecCPR": {"reranker_CAN_NUM": 5},
    "SASRecCPR": {"reranker_CAN_NUM": 5},
    "S3Rec": {"pretrain_epochs": 1},
}
KNOWLEDGE = ("GRU4RecKG", "KSR")  # read files of a knowledge graph, .ent and .link


@pytest.fixture
def with_kinds(toy):
    """The toy set with a property of the items that RecBole's models with item columns read."""
    kinds = "".join(f"i{item}\t{'xy'[item % 2]}\n" for item in range(12))
    (Path(toy["data_path"]) / "toy" / "toy.item").write_text(f"item_id:token\tclass:token\n{kinds}")
    return {**toy, **TINY, "load_col": {"item": ["item_id", "class"]}}


def run(model, settings, **more):
    given = {**settings, **NEEDS.get(model, {}), **more}
    return fit_and_evaluate(load_config(model, config_dict=given), verbose=False)


@pytest.mark.slow
@pytest.mark.parametrize("model", sorted({*recbole_models("sequential")} - {*KNOWLEDGE}))
def test_a_sequential_model_of_recbole_trains_and_is_tested(model, with_kinds):
    result = run(model, with_kinds)

    assert 0 <= result.test_result["ndcg@5"] <= 1
    assert Path(result.checkpoint).is_file()


@pytest.mark.parametrize("model", KNOWLEDGE)
def test_a_model_of_knowledge_names_the_file_that_it_lacks(model, with_kinds):
    with pytest.raises(UserError, match=r"feature file \[.*toy.ent\] not found"):
        run(model, with_kinds)


def test_fearec_takes_the_histories_of_other_examples_with_its_target(with_kinds):
    assert 0 <= run("FEARec", with_kinds).test_result["ndcg@5"] <= 1


def test_s3rec_is_pretrained_then_finetuned(with_kinds):
    first = run("S3Rec", with_kinds, train_stage="pretrain")
    second = run("S3Rec", with_kinds, train_stage="finetune", pre_model_path=first.checkpoint)

    assert first.checkpoint != second.checkpoint and Path(first.checkpoint).is_file()
    assert second.pre_model_path == first.checkpoint
    assert 0 <= second.test_result["ndcg@5"] <= 1


@pytest.mark.parametrize(("path", "message"), [(None, "is empty"), ("no.pth", "'no.pth' does not")])
def test_s3rec_says_what_its_second_stage_starts_from(with_kinds, path, message):
    with pytest.raises(ConfigError, match=f"pre_model_path {message}.* --train_stage=pretrain"):
        run("S3Rec", with_kinds, train_stage="finetune", pre_model_path=path)


def test_stages_of_s3rec_are_two_commands(with_kinds):
    stages = {"stages": [{"train_stage": "pretrain"}, {"train_stage": "finetune"}]}

    with pytest.raises(ConfigError, match="run the stages of S3Rec one by one"):
        plan_stages("S3Rec", "toy", (), {**with_kinds, **stages})


def test_columns_that_a_model_reads_must_be_loaded(toy):
    for model, key in (("S3Rec", "item_attribute"), ("FDSA", "selected_features")):
        with pytest.raises(UserError, match=rf"{model} reads the column 'class' .*\({key}\)"):
            run(model, {**toy, **TINY})


def test_no_more_candidates_than_items_are_looked_at(toy):
    settings = {**toy, **TINY}

    assert run("GRU4RecCPR", settings, reranker_CAN_NUM=12).test_result
    with pytest.raises(
        UserError, match="reranker_CAN_NUM: 13,5: GRU4RecCPR .* than the 12 of data"
    ):
        run("GRU4RecCPR", settings, reranker_CAN_NUM="13,5")


def test_labels_are_compared_by_our_trainer_and_recboles_or_named_as_missing(toy):
    columns = ["user_id", "item_id", "timestamp"]
    settings = {**toy, **TINY, "eval_args": {"mode": "labeled"}, "load_col": {"inter": columns}}
    settings |= {"metrics": ["AUC"], "valid_metric": "AUC"}
    with pytest.raises(UserError, match="needs labels, but data set 'toy' has no column 'label'"):
        run("SASRec", settings)
    path = Path(toy["data_path"]) / "toy" / "toy.inter"
    header, *rows = path.read_text().splitlines()
    rows = [f"{row}\t{number // 3 % 2}" for number, row in enumerate(rows)]
    path.write_text("\n".join([f"{header}\tlabel:float", *rows]) + "\n")

    for model in ("SASRec", "SASRecPlus"):
        result = run(model, {**settings, "load_col": {"inter": [*columns, "label"]}})
        assert 0 < result.test_result["auc"] < 1


@pytest.mark.parametrize("mode", ["uni3", {"valid": "uni3", "test": "pop3"}])
def test_sampled_items_count_as_negative_labels(toy, mode):
    settings = {**toy, **TINY, "eval_args": {"mode": mode}, "metrics": ["AUC", "LogLoss"]}

    for model in ("SASRec", "SASRecPlus"):
        result = run(model, {**settings, "valid_metric": "AUC"})
        assert 0 < result.test_result["auc"] < 1
