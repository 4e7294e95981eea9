r"""The demo data set: generated, so that everything can be tried without a download.

A shop of 400 things. Each thing has a *kind* (mug, lamp, kite, ...: the noun of its title, the
shape in its picture) and a *style* (rustic, neon, ...: the adjectives of its title, the colors and
the texture of its picture). A customer buys kinds in a habitual order, mostly within one style,
and the style drifts: the longer the pause, the more. So the next purchase follows from what the
last ones *were*, from the time between them, and a little from popularity; the rest is whim.
"""

import csv
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from recbole_mm.data.extractor import embed_images, embed_texts
from recbole_mm.data.features import feature_path, write_item_features

NAME = "demo"
SEED = 2024
USERS = 1000
PER_COMBINATION = 5
PICTURE_SIDE = 96
FIRST_DAY, LAST_DAY = 1577836800, 1704067200  # 2020-01-01 .. 2024-01-01
DAY = 86400

# style: adjectives, ground, two inks, texture
STYLES = {
    "rustic": (["rustic", "farmhouse", "oak"], "#e9dcc3", ["#7a4b22", "#b58048"], "grain"),
    "neon": (["neon", "glowing", "electric"], "#16102b", ["#ff2fa8", "#2ff3ff"], "plain"),
    "nordic": (["nordic", "minimal", "white"], "#f6f7f8", ["#5f7a8c", "#b9c7cf"], "plain"),
    "tropical": (["tropical", "palm", "sunny"], "#fff0b8", ["#0f9d58", "#ff8a2b"], "dots"),
    "vintage": (["vintage", "retro", "antique"], "#d9c7a0", ["#8a2f2f", "#3e5a4f"], "stripes"),
    "marine": (["marine", "nautical", "harbor"], "#d7ecf7", ["#12395c", "#c8313b"], "stripes"),
    "candy": (["candy", "pastel", "sweet"], "#ffe3ef", ["#f28ab2", "#9a7fd1"], "dots"),
    "gothic": (["gothic", "dark", "raven"], "#3a3740", ["#0d0b10", "#7d1531"], "grain"),
}
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

    The same bytes each time (with the same Pillow and scikit-learn). A few items have no picture,
    a few no title: their rows are absent from that feature file.
    """
    folder = Path(dataset_dir)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    random = np.random.RandomState(SEED)  # its streams never change between numpy versions
    items = _make_items(random)
    pictures = {}
    for item in items:
        picture = _draw(item, random)
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
    for modality, ids, vectors in (
        ("text", list(titles), embed_texts(list(titles.values()))),
        ("image", list(pictures), embed_images(list(pictures.values()))),
    ):
        info = {
            "encoder": "embedded",
            "dimension": vectors.shape[1],
            "normalization": "l2",
            "coverage": len(ids) / len(items),
        }
        write_item_features(feature_path(folder, NAME, modality), ids, vectors, info)
    return folder


def _make_items(random) -> list[dict]:
    items = []
    for kind, nouns in KINDS.items():
        for style, (adjectives, *_) in STYLES.items():
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
    """Rows (user, item, unix seconds), user by user in time order, no item twice for one user."""
    kinds, styles = list(KINDS), list(STYLES)
    shelf = {}
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


def _draw(item: dict, random) -> Image.Image:
    """The thing's shape in two inks of its style, at a random place, size and turn."""
    _, ground, inks, texture = STYLES[item["style"]]
    first, second = inks if random.rand() < 0.7 else inks[::-1]
    scale = 3  # drawn large and reduced, for smooth edges
    side = PICTURE_SIDE * scale
    picture = Image.new("RGB", (side, side), ground)
    draw = ImageDraw.Draw(picture)
    _draw_texture(draw, texture, side, second, random)

    shape = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    _draw_shape(ImageDraw.Draw(shape), item["kind"], side, first, second)
    size = int(side * random.uniform(0.62, 0.85))
    turn = random.uniform(-14, 14)
    shape = shape.resize((size, size)).rotate(turn, Image.Resampling.BICUBIC, expand=True)
    room = max(side - shape.width, 1)
    place = (random.randint(room), random.randint(room))
    picture.paste(shape, place, shape)
    return picture.resize((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.BOX)


def _draw_texture(draw, texture: str, side: int, ink: str, random) -> None:
    step = side // 8
    if texture == "stripes":
        for x in range(-random.randint(step), side, 2 * step):
            draw.rectangle([x, 0, x + step // 3, side], fill=ink)
    elif texture == "dots":
        for x in range(step // 2, side, step):
            for y in range(step // 2, side, step):
                draw.ellipse([x, y, x + step // 4, y + step // 4], fill=ink)
    elif texture == "grain":
        for _ in range(40):
            x, y = random.randint(side, size=2)
            draw.line([x, y, x + step, y + step // 4], fill=ink, width=2)


def _draw_shape(draw, kind: str, side: int, first: str, second: str) -> None:
    def at(*share):
        return [value * side for value in share]

    thick = side // 14
    if kind == "mug":
        draw.rounded_rectangle(at(0.15, 0.2, 0.68, 0.9), side // 12, fill=first)
        draw.arc(at(0.5, 0.35, 0.92, 0.75), -90, 90, fill=first, width=thick)
        draw.rectangle(at(0.15, 0.42, 0.68, 0.52), fill=second)
    elif kind == "lamp":
        draw.polygon(at(0.35, 0.1, 0.65, 0.1, 0.88, 0.5, 0.12, 0.5), fill=first)
        draw.rectangle(at(0.46, 0.5, 0.54, 0.85), fill=second)
        draw.ellipse(at(0.28, 0.8, 0.72, 0.95), fill=first)
    elif kind == "kite":
        draw.polygon(at(0.5, 0.02, 0.85, 0.38, 0.5, 0.8, 0.15, 0.38), fill=first)
        draw.line(at(0.5, 0.02, 0.5, 0.98), fill=second, width=thick // 2)
        draw.line(at(0.15, 0.38, 0.85, 0.38), fill=second, width=thick // 2)
    elif kind == "clock":
        draw.ellipse(at(0.08, 0.08, 0.92, 0.92), fill=first)
        draw.ellipse(at(0.18, 0.18, 0.82, 0.82), fill=second)
        draw.line(at(0.5, 0.5, 0.5, 0.24), fill=first, width=thick)
        draw.line(at(0.5, 0.5, 0.7, 0.6), fill=first, width=thick)
    elif kind == "house":
        draw.polygon(at(0.05, 0.45, 0.5, 0.05, 0.95, 0.45), fill=second)
        draw.rectangle(at(0.18, 0.45, 0.82, 0.95), fill=first)
        draw.rectangle(at(0.42, 0.65, 0.58, 0.95), fill=second)
    elif kind == "star":
        corner = np.arange(10) * np.pi / 5 - np.pi / 2
        radius = np.where(np.arange(10) % 2, 0.19, 0.48)
        x, y = 0.5 + radius * np.cos(corner), 0.5 + radius * np.sin(corner)
        draw.polygon(at(*np.stack([x, y], 1).ravel()), fill=first, outline=second, width=thick // 2)
    elif kind == "ring":
        draw.ellipse(at(0.08, 0.08, 0.92, 0.92), outline=first, width=2 * thick)
        draw.ellipse(at(0.42, 0.0, 0.58, 0.16), fill=second)
    elif kind == "ladder":
        for x in (0.25, 0.68):
            draw.rectangle(at(x, 0.02, x + 0.08, 0.98), fill=first)
        for y in (0.15, 0.35, 0.55, 0.75):
            draw.rectangle(at(0.25, y, 0.76, y + 0.07), fill=second)
    elif kind == "cross":
        draw.rectangle(at(0.36, 0.05, 0.64, 0.95), fill=first)
        draw.rectangle(at(0.05, 0.36, 0.95, 0.64), fill=first)
        draw.ellipse(at(0.4, 0.4, 0.6, 0.6), fill=second)
    elif kind == "moon":
        draw.ellipse(at(0.08, 0.08, 0.92, 0.92), fill=first)
        draw.ellipse(at(0.34, 0.0, 1.06, 0.78), fill=(0, 0, 0, 0))


def _write_rows(path: Path, header: list[str], rows) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
