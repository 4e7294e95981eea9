"""Small Amazon reviews and metadata as their publishers write them."""

import gzip
import io
import json
import tempfile
from pathlib import Path

import yaml
from PIL import Image

from recbole_mm.prepare import amazon_files

DAY = 86400
# user, item, rating, day: u0..u5 each review i0..i5; one repeat, one loner
REVIEWS = [(f"A{u:013d}", f"B{i:09d}", 5.0, 10_010 + u + i) for u in range(6) for i in range(6)]
REVIEWS += [
    ("A0000000000000", "B000000000", 1.0, 10_003),
    ("A0000000000099", "B000000000", 1.0, 10_003),
]


def write(path, lines):
    opened = gzip.open if path.name.endswith(".gz") else open
    with opened(path, "wt", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    return path


def reviews_of(layout, ending, folder):
    """The same reviews as the publishers of that year would have written them."""
    path = folder / f"reviews.{ending}"
    if "csv" in ending:
        order = {2014: "uirt", 2018: "iurt", 2023: "uirt"}[layout]
        unit = 1000 if layout == 2023 else 1
        lines = ["user_id,parent_asin,rating,timestamp"] if layout == 2023 else []
        for u, i, r, day in REVIEWS:
            cells = {"u": u, "i": i, "r": r, "t": day * DAY * unit}
            lines.append(",".join(str(cells[name]) for name in order))
        return write(path, lines)
    keys = amazon_files.REVIEW_KEYS[layout]
    unit = 1000 if layout == 2023 else 1
    return write(
        path,
        [
            json.dumps(
                {
                    "text": "good",
                    **dict(zip(keys, (u, i, r, day * DAY * unit), strict=True)),
                    "n": [1],
                }
            )
            for u, i, r, day in REVIEWS
        ],
    )


META = {
    2014: (
        "{'asin': 'B000000000', 'title': 'Bob\\'s &amp; toy', 'brand': 'Acme', "
        "'categories': [['Toys', 'Trains'], ['Toys']], 'description': 'A <b>red</b>\\ntrain', "
        "'imUrl': 'http://h/a.jpg'}"
    ),
    2018: json.dumps(
        {
            "asin": "B000000000",
            "title": "Bob's &amp; toy",
            "brand": "Acme",
            "category": ["Toys", "Trains"],
            "description": ["A <b>red</b>", "train"],
            "imageURLHighRes": ["http://h/a.jpg", "http://h/b.jpg"],
        }
    ),
    2023: json.dumps(
        {
            "parent_asin": "B000000000",
            "title": "Bob's & toy",
            "store": "Acme",
            "categories": ["Toys", "Trains"],
            "description": [],
            "features": ["A red", "train"],
            "images": [{"thumb": "http://h/t.jpg", "large": "http://h/a.jpg"}],
        }
    ),
}

ITEMS = [f"B{i:09d}" for i in range(6)]
WITHOUT_METADATA, WITHOUT_PICTURE = ITEMS[5], ITEMS[4]
PATHS = {
    2014: ("categoryFiles/ratings_{category}.csv", "categoryFiles/meta_{category}.json.gz"),
    2018: ("categoryFilesSmall/{category}.csv", "metaFiles2/meta_{category}.json.gz"),
    2023: ("rating_only/{category}.csv.gz", "meta_categories/meta_{category}.jsonl.gz"),
}


def publish(server, layout, category):
    """Put reviews, metadata and pictures of a category on a server: one item has no metadata, and
    one picture is missing."""
    reviews, meta = (path.replace("{category}", category) for path in PATHS[layout])
    with tempfile.TemporaryDirectory() as folder:
        endings = {2014: "csv", 2018: "csv", 2023: "csv.gz"}
        server.files[reviews] = reviews_of(layout, endings[layout], Path(folder)).read_bytes()
        lines = [meta_line(layout, item, server.url) for item in ITEMS[:5]]
        server.files[meta] = write(Path(folder, "meta.gz"), lines).read_bytes()
    for number, item in enumerate(ITEMS[:4]):
        stream = io.BytesIO()
        colors = ["red", "green", "blue", "yellow"]
        Image.new("RGB", (20, 10 + 5 * number), colors[number]).save(stream, "JPEG")
        server.files[f"pictures/{item}.jpg"] = stream.getvalue()


def meta_line(layout, item, url):
    """Metadata of an item as its publishers of that year would have written it."""
    picture, title = f"{url}/pictures/{item}.jpg", f"Snack number{item[-1]} with salt"
    if layout == 2014:
        return repr({"asin": item, "title": title, "categories": [["Food"]], "imUrl": picture})
    if layout == 2018:
        texts = {"title": title, "brand": "Acme", "category": ["Food"], "description": ["Good"]}
        return json.dumps({**texts, "imageURLHighRes": [picture], "asin": item})
    texts = {"title": title, "store": "Acme", "categories": ["Food"], "features": ["Good"]}
    return json.dumps({**texts, "images": [{"large": picture}], "parent_asin": item})


def mirrors_file(server, path):
    """A mirrors file that names the server for every year, where 2023 has a Prime_Pantry too."""
    layouts = {
        layout: {"reviews": [f"{server.url}/{reviews}"], "meta": [f"{server.url}/{meta}"]}
        for layout, (reviews, meta) in PATHS.items()
    }
    layouts[2023]["categories"] = ["Prime_Pantry", "Video_Games"]
    path.write_text(yaml.safe_dump({"layouts": layouts}))
    return path
