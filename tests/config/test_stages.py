"""Lists of stages, and lists of domains that expand to them."""

import pytest

from recbole_mm.config.data_settings import data_settings
from recbole_mm.config.errors import ConfigError
from recbole_mm.config.stages import stage_overlays

STAGES = [
    {"train_stage": "pretrain", "softmax": "in_batch"},
    {"train_stage": "finetune", "use_item_id": False},
]


def test_every_domain_is_left_out_of_one_pre_training_and_is_its_target():
    pretrain, finetune = STAGES

    overlays = stage_overlays({"stages": STAGES, "leave_one_out_domains": ["A", "B", "C"]})

    assert overlays == [
        {**pretrain, "dataset": "all_but_A", "domains": ["B", "C"]},
        {**finetune, "dataset": "A"},
        {**pretrain, "dataset": "all_but_B", "domains": ["A", "C"]},
        {**finetune, "dataset": "B"},
        {**pretrain, "dataset": "all_but_C", "domains": ["A", "B"]},
        {**finetune, "dataset": "C"},
    ]


def test_the_targets_of_a_file_are_those_whose_users_a_source_leaves_out():
    pretrain = {"train_stage": "pretrain", "dataset": "A", "exclude_users_of": "targets"}
    finetune = {"train_stage": "finetune", "dataset": "B"}
    again = {"train_stage": "finetune"}

    overlays = stage_overlays({"dataset": "C", "stages": [pretrain, finetune, again, finetune]})

    assert overlays == [{**pretrain, "exclude_users_of": ["B", "C"]}, finetune, again, finetune]


def test_a_target_that_is_a_mixture_is_its_domains():
    pretrain = {"train_stage": "pretrain", "dataset": "A", "exclude_users_of": "targets"}
    mixture = {"train_stage": "finetune", "dataset": "CD", "domains": ["C", "D"]}
    another = {"train_stage": "finetune", "dataset": "D"}

    overlays = stage_overlays({"stages": [pretrain, mixture, another]})

    assert overlays[0]["exclude_users_of"] == ["C", "D"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            {"dataset": "AC", "domains": ["A", "C"]},
            "the target C is a domain of AC, .*: remove C from the domains, or name other data sets",
        ),
        (
            {"dataset": "C"},
            "the target C is the data set of the pre-training, .*: pre-train on another",
        ),
    ],
)
def test_a_target_that_is_a_source_too_cannot_be_left_out(source, message):
    pretrain = {"train_stage": "pretrain", "exclude_users_of": "targets", **source}

    with pytest.raises(ConfigError, match=message):
        stage_overlays({"stages": [pretrain, {"train_stage": "finetune", "dataset": "C"}]})


def test_the_left_out_domain_is_the_target_whose_users_are_left_out():
    pretrain, finetune = {**STAGES[0], "exclude_users_of": "targets"}, STAGES[1]

    overlays = stage_overlays(
        {"stages": [pretrain, finetune], "leave_one_out_domains": list("ABC")}
    )

    assert [o.get("exclude_users_of") for o in overlays] == [["A"], None, ["B"], None, ["C"], None]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"exclude_users_of": "targets", "stages": STAGES}, "belongs in a pretrain stage"),
        (
            {"stages": [STAGES[0], {**STAGES[1], "exclude_users_of": "targets"}]},
            "in a pretrain stage: name data sets",
        ),
        ({"stages": [{**STAGES[0], "exclude_users_of": "targets"}]}, "name data sets instead"),
    ],
)
def test_targets_without_a_target_are_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        stage_overlays(given)


def test_of_two_domains_each_is_pre_trained_on_as_it_is():
    overlays = stage_overlays({"stages": STAGES, "leave_one_out_domains": ["A", "B"]})

    assert [(o["dataset"], "domains" in o) for o in overlays] == [
        ("B", False), ("A", False), ("A", False), ("B", False),
    ]  # fmt: skip


def test_without_a_list_of_domains_the_stages_are_those_that_are_listed():
    assert stage_overlays({"stages": STAGES}) == STAGES
    assert stage_overlays({"stages": STAGES, "leave_one_out_domains": None}) == STAGES


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"leave_one_out_domains": ["A"]}, "must be a list of two or more different data sets"),
        ({"leave_one_out_domains": ["A", "A", "B"]}, "two or more different"),
        ({"leave_one_out_domains": "A, B"}, "two or more different"),
        ({"leave_one_out_domains": [["A"], "B"]}, "two or more different"),
        ({"stages": STAGES[:1]}, "needs stages of both kinds"),
        ({"stages": [*STAGES, {"epochs": 1}]}, "needs stages of both kinds"),
        ({"dataset": "A"}, "dataset: 'A': leave_one_out_domains sets this key"),
        ({"stages": [{**STAGES[0], "domains": ["A"]}, STAGES[1]]}, "domains: .'A'.: leave_one_out"),
        ({"stages": 3}, "`stages:` must be a list of overlays, not 3"),
    ],
)
def test_a_list_of_domains_that_cannot_be_expanded_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        stage_overlays({"stages": STAGES, "leave_one_out_domains": ["A", "B"], **changes})


def test_the_data_of_all_rounds_are_known_before_anything_runs(tmp_path):
    path = tmp_path / "stages.yaml"
    path.write_text(f"model: MMM4Rec\nstages: {STAGES}\n")

    settings = data_settings(
        config_files=[str(path)], overrides={"leave_one_out_domains": ["A", "B", "C"]}
    )

    assert [(s["dataset"], s["domains"]) for s in settings][:3] == [
        ("all_but_A", ["B", "C"]), ("A", None), ("all_but_B", ["A", "C"]),
    ]  # fmt: skip
