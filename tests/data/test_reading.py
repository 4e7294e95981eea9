"""RecBole's data set on our reader: every row of a file is a row of the data set."""

import pandas as pd
import pytest
from recbole.data import create_dataset
from recbole.data.dataset import SequentialDataset
from recbole.utils import FeatureType

from recbole_mm.config.load import load_config
from recbole_mm.data.dataset import MultiModalDataset
from recbole_mm.integration.register import multi_modal_dataset_for

ITEM_COLUMNS = {"load_col": None, "modalities": []}


def config(tmp_path, **settings):
    return load_config("SASRec", "x", (), {"data_path": str(tmp_path), **settings})


def write(tmp_path, suffix, header, rows):
    (tmp_path / "x").mkdir(exist_ok=True)
    lines = [header, *("\t".join(map(str, row)) for row in rows)]
    (tmp_path / "x" / f"x.{suffix}").write_text("\n".join(lines) + "\n")


def write_events(tmp_path, rows):
    write(tmp_path, "inter", "user_id:token\titem_id:token\ttimestamp:float", rows)


@pytest.mark.parametrize("token", ["NA", "null", "None", "nan", '"', '"a', "#"])
def test_no_token_loses_an_interaction(tmp_path, token):
    rows = [(user, item, t) for user in ("u", token) for t, item in enumerate(["a", token, "c"])]
    write_events(tmp_path, rows)

    dataset = MultiModalDataset(config(tmp_path, modalities=[]))

    assert dataset.inter_num == 6
    assert list(dataset.field2id_token["user_id"]) == ["[PAD]", "u", token]
    assert list(dataset.field2id_token["item_id"]) == ["[PAD]", "a", token, "c"]


def test_rows_without_user_or_item_are_dropped_and_no_others(tmp_path):
    write_events(tmp_path, [("u", "a", 1), ("", "b", 2), ("u", "", 3), ("u", "c", 4)])
    write(
        tmp_path,
        "item",
        "item_id:token\tbrand:token",
        [("a", "x"), ("a", "y"), ("", "z"), ("c", "w")],
    )

    dataset = MultiModalDataset(config(tmp_path, **ITEM_COLUMNS))

    tokens = dataset.field2id_token["item_id"]
    assert [tokens[i] for i in dataset.inter_feat["item_id"]] == ["a", "c"]
    items, brands = dataset.item_feat.astype(int), dataset.field2id_token["brand"]
    kept = [(tokens[row.item_id], brands[row.brand]) for row in items.itertuples()]
    assert ("c", "w") in kept
    assert "z" not in dict(kept).values()


def test_columns_are_what_recbole_makes_of_them(tmp_path):
    write_events(tmp_path, [("u", "a", 1), ("u", "b", 2), ("v", "c", 3)])
    header = "item_id:token\ttitle:token_seq\tprice:float\tsizes:float_seq\tbrand:token"
    write(
        tmp_path,
        "item",
        header,
        [("a", "red kite", 1.5, "1 2", "x"), ("b", "", "", "", ""), ("c", "kite", 2, "3", "x")],
    )
    settings = config(tmp_path, **ITEM_COLUMNS, seq_len={"title": 1})

    ours, theirs = MultiModalDataset(settings), SequentialDataset(settings)

    assert ours.field2type == theirs.field2type
    assert ours.field2source == theirs.field2source
    assert ours.field2seqlen == theirs.field2seqlen
    assert ours.field2type["sizes"] == FeatureType.FLOAT_SEQ
    for field in ("title", "brand", "item_id", "user_id"):
        assert list(ours.field2id_token[field]) == list(theirs.field2id_token[field])
    pd.testing.assert_frame_equal(ours.item_feat, theirs.item_feat)
    pd.testing.assert_frame_equal(ours.inter_feat, theirs.inter_feat)


def test_a_model_of_recbole_reads_item_columns_by_the_same_rules(tmp_path):
    write_events(tmp_path, [(user, item, t) for user in "uv" for t, item in enumerate("abcd")])
    rows = [("a", "NA"), ("b", '"x'), ("c", "NA"), ("d", '"x')]
    write(tmp_path, "item", "item_id:token\tbrand:token", rows)
    settings = config(tmp_path, **ITEM_COLUMNS)

    with multi_modal_dataset_for("SASRec"):
        dataset = create_dataset(settings)

    assert list(dataset.field2id_token["brand"]) == ["[PAD]", "NA", '"x']
