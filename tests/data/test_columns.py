"""Names of columns are the user's."""

import numpy as np
import pytest

from recbole_mm.config.errors import ConfigError
from recbole_mm.config.load import load_config
from recbole_mm.data.dataset import MultiModalDataset
from recbole_mm.data.errors import DatasetError


def write(
    folder, header="user_id:token\titem_id:token\trating:float\ttimestamp:float", suffix="inter"
):
    """Users walk over the items in order of time; rows are shuffled."""
    rows = [f"u{u}\ti{(u + k) % 9}\t{k % 5}\t{1000 + k}" for u in range(5) for k in range(4)]
    lines = [header, *np.random.default_rng(3).permutation(rows)]
    path = folder / "dataset" / "named" / f"named.{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def load(folder, **settings):
    settings = {"data_path": str(folder / "dataset"), "modalities": [], **settings}
    return MultiModalDataset(load_config("SASRec", "named", (), settings))


def sequences(dataset):
    dataset.build()
    users, items = (dataset.field2id_token[f] for f in (dataset.uid_field, dataset.iid_field))
    events = dataset.history
    found = {}
    for user, item in zip(events[dataset.uid_field], events[dataset.iid_field], strict=True):
        found.setdefault(str(users[user]), []).append(str(items[item]))
    return found


WALKS = {f"u{u}": [f"i{(u + k) % 9}" for k in range(4)] for u in range(5)}


def test_columns_are_read_under_the_names_that_the_user_gives(tmp_path):
    write(tmp_path, "session_id:token\tsku:token\trating:float\ttime:float")

    dataset = load(tmp_path, USER_ID_FIELD="session_id", ITEM_ID_FIELD="sku", TIME_FIELD="time")

    assert list(dataset.inter_feat.columns) == ["session_id", "sku", "time"]
    assert dataset.has_time
    assert sequences(dataset) == WALKS


def test_a_partial_load_col_keeps_the_names_of_the_user(tmp_path):
    write(tmp_path, "session_id:token\titem_id:token\trating:float\ttime:float")
    names = {"USER_ID_FIELD": "session_id", "TIME_FIELD": "time"}

    config = load_config(
        "SASRec", "named", (), {**names, "load_col": {"item": ["item_id", "kind"]}}
    )

    assert config["load_col"] == {
        "inter": ["session_id", "item_id", "time"],
        "item": ["item_id", "kind"],
    }


def test_a_yaml_beside_the_data_may_name_the_columns(tmp_path):
    write(tmp_path, "session_id:token\titem_id:token\trating:float\ttime:float")
    own = tmp_path / "dataset" / "named" / "named.yaml"
    own.write_text("USER_ID_FIELD: session_id\nTIME_FIELD: time\n")

    assert sequences(load(tmp_path)) == WALKS


@pytest.mark.parametrize(
    ("settings", "columns"),
    [
        ({"load_col": {"inter": "*"}}, ["user_id", "item_id", "rating", "timestamp"]),
        ({"load_col": None}, ["user_id", "item_id", "rating", "timestamp"]),
        ({"unload_col": {"inter": ["rating"]}}, ["user_id", "item_id", "timestamp"]),
        ({"load_col": {"inter": ["user_id", "item_id"]}}, ["user_id", "item_id"]),
    ],
)
def test_the_columns_that_the_user_chooses_are_read(tmp_path, settings, columns):
    write(tmp_path)

    dataset = load(tmp_path, **settings)

    assert dataset.has_time == ("timestamp" in columns)
    assert [name for name in dataset.inter_feat.columns if name in columns] == columns


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"load_col": {"inter": ["user_id", "item_id", "timestmp"]}},
            (
                "named.inter: it has no column 'timestmp', which load_col names; its columns are user_id, "
                "item_id, rating, timestamp; did you mean 'timestamp'"
            ),
        ),
        (
            {"load_col": {"inter": ["user", "item"]}},
            "it has no column 'user', which load_col names",
        ),
        ({"unload_col": {"inter": ["ratng"]}}, "it has no column 'ratng', which unload_col names"),
        ({"unused_col": {"inter": ["ratng"]}}, "it has no column 'ratng', which unused_col names"),
        *(
            ({key: {"inter": ["item_id"]}}, f"{key} names item_id: users and items are needed")
            for key in ("unload_col", "unused_col")
        ),
        (
            {"alias_of_item_id": ["item"]},
            "alias_of_item_id names 'item', but the columns that are lo",
        ),
        *(
            ({key: {"rating": value}}, f"{key} names 'rating', but the columns that are loaded")
            for key, value in (
                ("val_interval", "[3,inf)"),
                ("threshold", 3),
                ("discretization", {}),
            )
        ),
        *(
            (
                {key: ["rating"]},
                f"{key} names 'rating', but the columns that are loaded are user_id",
            )
            for key in ("alias_of_user_id", "normalize_field", "numerical_features")
        ),
        (
            {"USER_ID_FIELD": "session"},
            "must have the columns session:token and item_id:token; .* of user_id:token, item_id:to",
        ),
    ],
)
def test_a_column_that_does_not_exist_is_refused_with_those_that_do(tmp_path, settings, message):
    write(tmp_path)

    with pytest.raises(DatasetError, match=message):
        load(tmp_path, **settings)


def test_an_unknown_column_of_items_is_refused(tmp_path):
    write(tmp_path)
    item_file = tmp_path / "dataset" / "named" / "named.item"
    item_file.write_text("item_id:token\tkind:token\ni1\tx\n")

    with pytest.raises(DatasetError, match=r"named.item: it has no column 'class'.*item_id, kind"):
        load(tmp_path, load_col={"item": ["item_id", "class"]})


def test_times_that_the_default_names_may_be_absent(tmp_path, caplog):
    caplog.set_level("INFO")
    write(tmp_path, "user_id:token\titem_id:token\trating:float\ttime:float")

    assert not load(tmp_path).has_time
    assert "has no column 'timestamp'" in caplog.text and "--TIME_FIELD=COLUMN" in caplog.text


def test_times_that_the_user_names_must_exist(tmp_path):
    write(tmp_path, "user_id:token\titem_id:token\trating:float\ttime:float")

    with pytest.raises(DatasetError, match="no column 'tim', which TIME_FIELD names.* mean 'time'"):
        load(tmp_path, TIME_FIELD="tim")


def test_columns_of_another_form_are_refused():
    with pytest.raises(
        ConfigError, match=r"it must be a mapping .* lists of names or '\*' as values"
    ):
        load_config("SASRec", "named", (), {"load_col": {"inter": "user_id"}})


@pytest.mark.parametrize(("leaves_out", "n_left"), [(False, 20), (True, 14)])
def test_interactions_of_items_without_a_row_stay_unless_they_are_to_go(
    tmp_path, caplog, leaves_out, n_left
):
    write(tmp_path)
    lines = [
        "item_id:token\tkind:token",
        *(f"i{item}\tx" for item in range(9) if item not in (1, 3)),
    ]
    item_file = tmp_path / "dataset" / "named" / "named.item"
    item_file.write_text("\n".join(lines) + "\n")
    settings = {"load_col": {"item": ["item_id", "kind"]}}
    settings |= {"filter_inter_by_user_or_item": True} if leaves_out else {}

    dataset = load(tmp_path, **settings)

    assert len(dataset.inter_feat) == n_left
    assert "6 of 20 interactions " in caplog.text and "2 values of item_id without a" in caplog.text
    if not leaves_out:
        assert sequences(dataset) == WALKS
        kinds = dataset.get_item_feature()["kind"]
        assert [int(kinds[dataset.token2id("item_id", f"i{item}")] > 0) for item in range(5)] == [
            1, 0, 1, 0, 1,
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "filters"),
    [
        ({"user_inter_num_interval": "[5,inf)"}, r"user_inter_num_interval=\[5,inf\)"),
        (
            {"load_col": None, "val_interval": {"rating": "[9,inf)"}, "rm_dup_inter": "first"},
            r"rm_dup_inter=first, val_interval={'rating': '\[9,inf\)'}",
        ),
    ],
)
def test_filters_that_leave_nothing_are_named(tmp_path, settings, filters):
    write(tmp_path)

    with pytest.raises(
        DatasetError, match=rf"dataset/named: no row of inter_feat is left.*\({filters}\)"
    ):
        load(tmp_path, **settings)
