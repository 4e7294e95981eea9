"""What is recorded of the data that a model is trained on."""

import json

import pytest

from recbole_mm.data.training_data import UNKNOWN, recorded, training_data, well_formed

SETTINGS = {"domains": None, "exclude_users_of": None, "train_stage": None}
PLAIN = {
    "name": "A", "stage": None, "domains": [], "without_users_of": [], "terms": {"A": "not for sale"},
}  # fmt: skip


def write_card(root, name, **facts):
    (root / name).mkdir()
    (root / name / f"{name}.card.json").write_text(json.dumps({"name": name, **facts}))


def config_of(root, name, **settings):
    return {**SETTINGS, "dataset": name, "data_path": str(root / name), **settings}


def test_a_record_has_the_terms_in_the_card_of_the_data_set(tmp_path):
    write_card(tmp_path, "A", terms="not for sale")

    assert training_data(config_of(tmp_path, "A")) == PLAIN
    assert well_formed([PLAIN]) == [PLAIN]


def test_of_a_mixture_it_has_the_terms_of_its_domains_and_whose_users_are_left_out(tmp_path):
    write_card(tmp_path, "A", terms="not for sale")
    write_card(tmp_path, "B")

    record = training_data(
        config_of(tmp_path, "AB", domains=["A", "B"], exclude_users_of="C", train_stage="pretrain")
    )

    assert record == {
        "name": "AB", "stage": "pretrain", "domains": ["A", "B"], "without_users_of": ["C"],
        "terms": {"A": "not for sale", "B": None},
    }  # fmt: skip


@pytest.mark.parametrize("card", ["[1]", '{"terms": 3}', "{"])
def test_a_damaged_card_does_not_hinder_a_training_but_is_named(tmp_path, caplog, card):
    (tmp_path / "A").mkdir()
    (tmp_path / "A" / "A.card.json").write_text(card)

    assert training_data(config_of(tmp_path, "A"))["terms"] == {"A": None}
    assert "the terms of A are not recorded" in caplog.text and "A.card.json" in caplog.text


@pytest.mark.parametrize(
    "damaged",
    [None, 7, [7], [{}], [{**PLAIN, "terms": {"A": 7}}], [{**PLAIN, "terms": {7: ""}}]],
)
def test_what_is_not_of_our_form_is_not_taken_for_a_record(damaged):
    assert well_formed(damaged) == []
    assert recorded(damaged) == [UNKNOWN]
    assert recorded([PLAIN]) == [PLAIN]
