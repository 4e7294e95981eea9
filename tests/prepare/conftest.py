"""Dates are fixed, output is small."""

import json

import pytest


@pytest.fixture(autouse=True)
def fixed_date(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")


@pytest.fixture
def shop(tmp_path):
    """A folder in the layout of the README: 3 users, 4 items, texts and three pictures."""
    from PIL import Image

    folder = tmp_path / "shop"
    (folder / "images").mkdir(parents=True)
    (folder / "interactions.csv").write_text(
        "user,item,rating,timestamp\n"
        "u2,a,5,300\nu1,b,4,200\nu1,a,5,100\nu1,c,1,200\nu3,a,2,50\nu2,d,3,400\nu3,b,3,60\n"
    )
    items = [
        {"item": "a", "title": 'Red "toy"\ttrain', "brand": "Acme", "image": "images/a.png"},
        {"item": "b", "title": "Blue toy train", "image": "images/b.png"},
        {"item": "c", "description": "A ball\nto kick", "image": "images/c.png"},
        {"item": "d"},
        {"item": "never bought", "title": "x"},
    ]
    (folder / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    for name, color in (("a", "red"), ("b", "blue"), ("c", "green")):
        Image.new("RGB", (20, 10), color).save(folder / "images" / f"{name}.png")
    return folder
