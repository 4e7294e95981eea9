r"""A few users with their history, the recommendations of each entry, and the target."""

import base64
import contextlib
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from recbole.data import create_dataset

from recbole_mm.data.atomic_files import read_atomic_file
from recbole_mm.data.cards import CardError, read_card
from recbole_mm.data.prefixes import LAST_ROW
from recbole_mm.integration.register import multi_modal_dataset_for
from recbole_mm.tools.file_names import UnsafeName, path_inside
from recbole_mm.tools.pictures import PictureError, read_picture

HISTORY, RECOMMENDED, PICTURE_SIDE = 5, 5, 88
TITLES = ("title", "movie_title", "name")


class Item(NamedTuple):
    """An item to show.

    Attributes:
        token: token in the data.
        title: title, or the token if there is none.
        picture: JPEG as a data URL, or ``None``.
        is_target: whether it is the target.
    """

    token: str
    title: str
    picture: str | None
    is_target: bool


class Example(NamedTuple):
    """One user.

    Attributes:
        user: token of the user.
        history: the last items before the target, oldest first.
        target: the item that came next.
        recommended: label -> the first items of its list.
        ranks: label -> rank of the target.
    """

    user: str
    history: list[Item]
    target: Item
    recommended: dict[str, list[Item]]
    ranks: dict[str, int]


class Catalog:
    """Titles and pictures of a prepared data set, as far as available."""

    def __init__(self, config):
        folder, name = Path(config["data_path"]), config["dataset"]
        self.titles: dict[str, str | None] = {}
        self.paths: dict[str, Path] = {}
        path = folder / f"{name}.item"
        if not path.is_file():
            return
        table = read_atomic_file(path, config["field_separator"], config["encoding"])
        tokens = table[config["ITEM_ID_FIELD"]]
        for column in TITLES:
            if column in table.columns:
                self.titles = dict(zip(tokens, table[column], strict=True))
                break
        if "image" in table.columns:
            root = folder / _picture_folder(folder / f"{name}.card.json")
            for token, image in zip(tokens, table["image"], strict=True):
                with contextlib.suppress(UnsafeName):  # the item is shown without a picture
                    self.paths[token] = path_inside(root, image or "")

    def item(self, token: str, target: str) -> Item:
        return Item(
            token, self.titles.get(token) or token, self.picture(token), is_target=token == target
        )

    def picture(self, token: str) -> str | None:
        path = self.paths.get(token)
        if path is None or not path.is_file():
            return None
        try:
            small = read_picture(path, side=PICTURE_SIDE)
        except PictureError:
            return None
        small.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=80)
        return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _picture_folder(card: Path) -> str:
    """The picture folder that the data set's card names, by default the data set's folder."""
    try:
        return read_card(card).get("pictures", ".")
    except CardError:
        return "."


def examples(ranks: pl.LazyFrame, config, n_users: int = 6, seed: int = 0) -> list[Example]:
    """Users drawn at random from those whose target is in the list of at least one entry.

    Args:
        ranks: ranks of all entries; those of the smallest seed are shown. Only the lists of the
            drawn users are read.
        config: configuration of any entry, for data and split.
        n_users: number of users.
        seed: seed of the draw.
    """
    seeds = ranks.group_by("label").agg(pl.col("seed").min())
    shown = ranks.join(seeds, on=["label", "seed"], how="semi", maintain_order="left")
    users = shown.group_by("label", "user", maintain_order=True)
    last = users.agg(pl.col("rank").last())  # the last of a user's targets
    best = last.group_by("user").agg(pl.col("rank").min()).sort("user").collect()
    found = best.filter(pl.col("rank") <= RECOMMENDED)["user"].to_list()
    if not found:
        found = best["user"].to_list()
    drawn = np.random.default_rng(seed).permutation(found)[:n_users].tolist()
    of_drawn = shown.filter(pl.col("user").is_in(drawn)).collect()
    of_drawn = of_drawn.unique(["label", "user"], keep="last", maintain_order=True)
    catalog, histories = Catalog(config), _histories(config)
    made = []
    for user in drawn:
        rows = of_drawn.filter(pl.col("user") == user)
        target = rows["item"][0]
        lists = dict(rows.select("label", "recommended").iter_rows())
        made.append(
            Example(
                user,
                [catalog.item(token, target) for token in histories[user, target]],
                catalog.item(target, target),
                {
                    label: [catalog.item(token, target) for token in tokens[:RECOMMENDED]]
                    for label, tokens in lists.items()
                },
                dict(rows.select("label", "rank").iter_rows()),
            )
        )
    return made


def _histories(config) -> dict[tuple[str, str], list[str]]:
    """The last items before every test target, by user and target."""
    with multi_modal_dataset_for(config["model"]):
        dataset = create_dataset(config)
    test = dataset.build()[2]
    users = np.asarray(test.field2id_token[test.uid_field]).astype(str)
    tokens = np.asarray(test.field2id_token[test.iid_field]).astype(str)
    events = tokens[test.history[test.iid_field].numpy()]
    owners = test.history[test.uid_field].numpy()
    user_ids, last = test.inter_feat[test.uid_field].numpy(), test.inter_feat[LAST_ROW].numpy()
    first = np.maximum(np.searchsorted(owners, user_ids), last - HISTORY)
    targets = tokens[test.inter_feat[test.iid_field].numpy()]
    return {
        (user, target): events[a:b].tolist()
        for user, target, a, b in zip(users[user_ids], targets, first, last, strict=True)
    }
