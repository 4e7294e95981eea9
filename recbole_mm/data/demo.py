r"""The demo data set, generated so that everything can be tried without a download.

It is a shop with 400 items. Each item has a *kind* (mug, lamp, kite, ...: the noun of its title,
the shape in its picture) and a *style* (rustic, neon, ...: the adjectives of its title, the colors
and the texture of its picture). A customer buys kinds in a habitual order, mostly within one style,
and the style drifts more after longer pauses. So the next purchase depends on what the last ones
*were*, on the time between them, and a little on popularity; the rest is random.
"""

import csv
from pathlib import Path

import numpy as np

from recbole_mm.data.demo_pictures import draw_picture
from recbole_mm.data.extractor import fit_statistics, fit_texts, image_statistics
from recbole_mm.data.feature_files import feature_path, write_item_features

NAME = "demo"
SEED = 2024
USERS = 1000
PER_COMBINATION = 5
FIRST_DAY, LAST_DAY = 1577836800, 1704067200  # 2020-01-01 .. 2024-01-01
DAY = 86400

# style: adjectives
STYLES = {
    "rustic": ["rustic", "farmhouse", "oak"],
    "neon": ["neon", "glowing", "electric"],
    "nordic": ["nordic", "minimal", "white"],
    "tropical": ["tropical", "palm", "sunny"],
    "vintage": ["vintage", "retro", "antique"],
    "marine": ["marine", "nautical", "harbor"],
    "candy": ["candy", "pastel", "sweet"],
    "gothic": ["gothic", "dark", "raven"],
}
# kind: nouns
KINDS = {
    "mug": ["mug", "cup", "coffee beaker"],
    "lamp": ["lamp", "desk light", "lantern"],
    "kite": ["kite", "wind flyer", "diamond kite"],
    "clock": ["clock", "wall clock", "timepiece"],
    "house": ["bird house", "dolls house", "model house"],
    "star": ["star", "tree star", "paper star"],
    "ring": ["ring", "hoop", "round band"],
    "ladder": ["ladder", "step ladder", "shelf ladder"],
    "cross": ["plus puzzle", "cross puzzle", "peg puzzle"],
    "moon": ["moon", "crescent", "night moon"],
}
MAKERS = ["Aldo", "Birk", "Cato", "Dune", "Erle", "Fjord", "Gale", "Holt"]


def make_demo(dataset_dir) -> Path:
    """Write ``demo.inter``, ``demo.item``, both feature files and the pictures into a folder.

    The bytes are the same each time (with the same versions of Pillow and scikit-learn). A few
    items have no picture, and a few no title: their rows are missing in the respective feature
    file.
    """
    folder = Path(dataset_dir)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    random = np.random.RandomState(SEED)  # its streams do not change between numpy versions
    items = _make_items(random)
    pictures = {}
    for item in items:
        picture = draw_picture(item["kind"], item["style"], random)
        if item["image"]:
            picture.save(folder / item["image"])
            pictures[item["item_id"]] = picture
    _write_rows(
        folder / f"{NAME}.item",
        ["item_id:token", "title:token_seq", "image:token"],
        ([item["item_id"], item["title"], item["image"]] for item in items),
    )
    _write_rows(
        folder / f"{NAME}.inter",
        ["user_id:token", "item_id:token", "timestamp:float"],
        _make_interactions(items, random),
    )
    titles = {item["item_id"]: item["title"] for item in items if item["title"]}
    statistics = np.stack([image_statistics(picture) for picture in pictures.values()])
    for modality, source, ids, (vectors, space) in (
        ("text", ["title"], list(titles), fit_texts(list(titles.values()))),
        ("image", "picture", list(pictures), fit_statistics(statistics)),
    ):
        info = {
            "encoder": "embedded",
            "dimension": vectors.shape[1],
            "normalization": "l2",
            "coverage": len(ids) / len(items),
            "input": source,
        }
        path = feature_path(folder, NAME, modality)
        write_item_features(path, ids, vectors, info, space.to_arrays())
    return folder


def _make_items(random) -> list[dict]:
    items = []
    for kind, nouns in KINDS.items():
        for style, adjectives in STYLES.items():
            for _ in range(PER_COMBINATION):
                first, second, _ = random.permutation(adjectives)
                noun = nouns[random.randint(len(nouns))]
                maker = MAKERS[random.randint(len(MAKERS))]
                title = f"{first.capitalize()} {second} {noun} by {maker}"
                items.append({"kind": kind, "style": style, "title": title})
    items = [items[place] for place in random.permutation(len(items))]
    for number, item in enumerate(items):
        item["item_id"] = f"d{number:03d}"
        item["image"] = "" if number % 40 == 7 else f"images/d{number:03d}.png"
        if number % 50 == 11:
            item["title"] = ""
    return items


def _make_interactions(items: list[dict], random):
    """Yield rows (user, item, unix seconds), by user and time; a user buys an item at most once."""
    kinds, styles = list(KINDS), list(STYLES)
    shelf: dict[tuple[int, int], list[int]] = {}
    for number, item in enumerate(items):
        shelf.setdefault((kinds.index(item["kind"]), styles.index(item["style"])), []).append(
            number
        )
    habit = random.permutation(len(kinds))  # after kind k comes habit's next, for most customers
    successor = {habit[i]: habit[(i + 1) % len(habit)] for i in range(len(habit))}
    appeal = random.pareto(2.0, len(items)) + 0.3

    for user in range(USERS):
        length = 8 + min(random.geometric(0.12), 32)
        now = random.randint(FIRST_DAY, LAST_DAY - 1000 * DAY)
        kind, style = random.randint(len(kinds)), random.randint(len(styles))
        bought = set()
        for _ in range(length):
            pause = int(random.exponential(2 * DAY if random.rand() < 0.7 else 60 * DAY)) + 60
            now += pause
            if random.rand() < 1 - np.exp(-pause / (45 * DAY)):
                style = (style + 1) % len(styles)  # taste drifts one style on
            kind = successor[kind] if random.rand() < 0.75 else random.randint(len(kinds))
            whim = random.rand() < 0.15
            shown = range(len(items)) if whim else shelf[kind, style]
            choice = [number for number in shown if number not in bought]
            if not choice:
                continue
            weight = appeal[choice] / appeal[choice].sum()
            picked = choice[int(np.searchsorted(weight.cumsum(), random.rand() * weight.sum()))]
            bought.add(picked)
            yield f"u{user:04d}", items[picked]["item_id"], now


def _write_rows(path: Path, header: list[str], rows) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
