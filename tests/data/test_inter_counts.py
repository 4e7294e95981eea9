"""Filtering by numbers of interactions, and ids: equal to RecBole's on random data."""

import numpy as np
import pandas as pd
import pytest
from recbole.data.dataset import SequentialDataset

from recbole_mm.config.load import load_config
from recbole_mm.data.dataset import MultiModalDataset

INTERVALS = [
    {"user_inter_num_interval": "[4,inf)", "item_inter_num_interval": "[4,inf)"},
    {"user_inter_num_interval": "(2,7]", "item_inter_num_interval": "[0,inf)"},
    {"user_inter_num_interval": "[2,3];[5,9)", "item_inter_num_interval": "(1,20)"},
    {"user_inter_num_interval": None, "item_inter_num_interval": "[5,12]"},
    {"user_inter_num_interval": "[3,inf)", "filter_inter_by_user_or_item": True},
    {"user_inter_num_interval": "[2,inf)", "val_interval": {"timestamp": "[20,inf)"}},
    {"val_interval": {"brand": ["x", "y"]}, "filter_inter_by_user_or_item": True},
]


@pytest.fixture
def folder(tmp_path):
    """Random users and items; some lack interactions, others lack properties."""
    random = np.random.default_rng(3)
    events = [
        (f"u{random.integers(25)}", f"i{random.integers(16)}", time)
        for time in random.permutation(130)
    ]
    users = [(f"u{n}", int(n) % 3) for n in random.permutation(30)[:24]]
    words = ["red", "kite", "set"]
    items = [
        (f"i{n}", "xyz"[n % 3], " ".join(words[: n % 3 + 1]), n / 2)
        for n in random.permutation(22)[:18]
    ]
    (tmp_path / "x").mkdir()
    for suffix, header, rows in (
        ("inter", "user_id:token\titem_id:token\ttimestamp:float", events),
        ("user", "user_id:token\tage:token", users),
        ("item", "item_id:token\tbrand:token\ttitle:token_seq\tprice:float", items),
    ):
        lines = [header, *("\t".join(map(str, row)) for row in rows)]
        (tmp_path / "x" / f"x.{suffix}").write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.mark.parametrize("files", ["inter", "inter and properties"])
@pytest.mark.parametrize("settings", INTERVALS)
def test_rows_ids_and_tokens_are_those_of_recbole(folder, settings, files):
    if files == "inter":
        for suffix in ("user", "item"):
            (folder / "x" / f"x.{suffix}").unlink()
        settings = {k: v for k, v in settings.items() if "brand" not in str(v)}
    given = {"load_col": None, "modalities": [], "data_path": str(folder), **settings}
    config = load_config("SASRec", "x", (), given)

    ours, theirs = MultiModalDataset(config), SequentialDataset(config)

    for feat in ("inter_feat", "user_feat", "item_feat"):
        if files != "inter" or feat == "inter_feat":
            pd.testing.assert_frame_equal(getattr(ours, feat), getattr(theirs, feat))
    assert {k: v.tolist() for k, v in ours.field2id_token.items()} == {
        k: v.tolist() for k, v in theirs.field2id_token.items()
    }
    assert ours.field2token_id == theirs.field2token_id
    assert ours.token2id("user_id", str(ours.field2id_token["user_id"][2])) == 2
    assert str(ours) == str(theirs)
