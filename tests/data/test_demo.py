import filecmp

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from recbole_mm.data.demo import make_demo
from recbole_mm.data.features import read_item_features


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return make_demo(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def interactions(demo):
    table = pd.read_csv(demo / "demo.inter", sep="\t")
    return table.rename(columns=lambda name: name.split(":")[0])


@pytest.fixture(scope="module")
def items(demo):
    table = pd.read_csv(demo / "demo.item", sep="\t", keep_default_na=False)
    return table.rename(columns=lambda name: name.split(":")[0])


def test_it_is_of_the_promised_size(interactions, items):
    assert interactions["user_id"].nunique() == 1000
    assert len(items) == 400
    assert interactions.groupby("user_id").size().min() >= 5
    assert not interactions.duplicated(["user_id", "item_id"]).any()


def test_times_are_unix_seconds_and_rise_within_a_user(interactions):
    assert interactions["timestamp"].between(1.5e9, 2e9).all()
    assert (interactions.groupby("user_id")["timestamp"].diff().dropna() > 0).all()


def test_most_items_have_both_modalities_and_some_lack_one(demo, items):
    tokens = ["[PAD]", *items["item_id"]]
    for modality, column in (("text", "title"), ("image", "image")):
        features = read_item_features(demo / f"demo.{modality}.npz", tokens)
        assert (features.present[1:].numpy() == (items[column] != "")).all()
        assert 0.9 < features.present[1:].float().mean() < 1


def test_every_picture_opens(demo, items):
    for path in items["image"][items["image"] != ""]:
        with Image.open(demo / path) as picture:
            assert picture.size == (96, 96)


def test_what_was_bought_last_tells_more_than_popularity(demo, interactions, items):
    tokens = ["[PAD]", *items["item_id"]]
    number = {token: row for row, token in enumerate(tokens)}
    history = interactions.groupby("user_id")["item_id"].agg(list)
    last = np.array([number[bought[-2]] for bought in history])
    target = np.array([number[bought[-1]] for bought in history])
    followers = np.zeros((len(tokens), len(tokens)))
    popularity = np.zeros(len(tokens))
    for bought in history:
        rows = [number[token] for token in bought[:-1]]
        np.add.at(followers, (rows[:-1], rows[1:]), 1)
        np.add.at(popularity, rows, 1)
    # an item's followers, shared with the items that look like it
    vectors = read_item_features(demo / "demo.image.npz", tokens).values.numpy()
    text = read_item_features(demo / "demo.text.npz", tokens).values.numpy()
    alike = np.exp(8 * (vectors @ vectors.T + text @ text.T) / 2)
    content = alike[last] @ followers @ alike

    assert recall_at_10(content, target) > 2 * recall_at_10(np.tile(popularity, (1000, 1)), target)


def recall_at_10(scores, target):
    rank = (scores > np.take_along_axis(scores, target[:, None], 1)).sum(1)
    return (rank < 10).mean()


@pytest.mark.slow
def test_it_is_the_same_each_time(demo, tmp_path):
    again = make_demo(tmp_path)
    names = sorted(str(path.relative_to(demo)) for path in demo.rglob("*") if path.is_file())

    assert filecmp.cmpfiles(demo, again, names, shallow=False)[0] == names
