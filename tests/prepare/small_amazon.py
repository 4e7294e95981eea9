"""Small Amazon reviews and metadata as their publishers write them."""

import gzip
import json

from recbole_mm.prepare import amazon_files

DAY = 86400
# user, item, rating, day: u0..u5 each review i0..i5; one repeat, one loner
REVIEWS = [(f"A{u:013d}", f"B{i:09d}", 5.0, 10 + u + i) for u in range(6) for i in range(6)]
REVIEWS += [("A0000000000000", "B000000000", 1.0, 3), ("A0000000000099", "B000000000", 1.0, 3)]


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
