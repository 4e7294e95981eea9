"""A picture of some items and their neighbors."""

import numpy as np
from PIL import Image, ImageDraw

from recbole_mm.prepare.fonts import Lettering
from recbole_mm.prepare.prepared import PreparedDataset, unit_rows
from recbole_mm.tools.files import whole_or_not
from recbole_mm.tools.pictures import PictureError, read_picture

TILE, CAPTION = 132, 44
SHEET_ROWS, NEIGHBOURS = 10, 3
FONT_SIZE = 10
NO_PICTURE = "no picture"


def picture_sheet(dataset: PreparedDataset, path) -> None:
    """Write a PNG: one row per sampled item, then its nearest by text and by picture."""
    pictures = dataset.pictures()
    titles = [title or "(no title)" for title in dataset.texts(("title",))]
    columns = _columns(dataset, pictures)
    n_rows = len(columns[0][1])

    headings = [heading for heading, _ in columns]
    drawn = [titles[item] for _, rows in columns for items in rows for item in items]
    lettering = Lettering([*headings, *drawn, NO_PICTURE], FONT_SIZE)
    width = sum(len(rows[0]) if rows else 0 for _, rows in columns) * TILE
    sheet = Image.new("RGB", (max(width, TILE), 18 + n_rows * (TILE + CAPTION)), "white")
    draw = ImageDraw.Draw(sheet)
    left = 0
    for heading, rows in columns:
        draw.text((left + 4, 3), heading, fill="black", font=lettering.font)
        for line, items in enumerate(rows):
            top = 18 + line * (TILE + CAPTION)
            for place, item in enumerate(items):
                corner = (left + place * TILE, top)
                _draw_item(sheet, draw, corner, pictures[item], titles[item], lettering)
        left += max((len(items) for items in rows), default=1) * TILE
        draw.line([left, 0, left, sheet.height], fill="#999999")
    with whole_or_not(path) as temporary:
        sheet.save(temporary, "PNG")


def _columns(dataset: PreparedDataset, pictures: list) -> list[tuple[str, list[list[int]]]]:
    """Headings, and under each the items of every row of the sheet."""
    candidates = [row for row, picture in enumerate(pictures) if picture] or range(len(pictures))
    picks = np.linspace(0, len(candidates) - 1, min(SHEET_ROWS, len(candidates))).astype(int)
    sample = [candidates[pick] for pick in dict.fromkeys(picks.tolist())]
    columns = [("an item", [[row] for row in sample])]
    for modality in dataset.modalities():
        if modality in ("text", "image"):
            vectors = unit_rows(dataset.features(modality)[0])
            columns.append((f"nearest by {modality}", [_nearest(vectors, row) for row in sample]))
    return columns


def _draw_item(sheet, draw, corner, picture, title, lettering: Lettering) -> None:
    x, y = corner
    try:
        thumbnail = read_picture(picture, side=TILE)
        thumbnail.thumbnail((TILE - 8, TILE - 8))
        free = (TILE - thumbnail.width, TILE - thumbnail.height)
        sheet.paste(thumbnail, (x + free[0] // 2, y + free[1] // 2))
    except PictureError:
        draw.rectangle([x + 4, y + 4, x + TILE - 4, y + TILE - 4], fill="#eeeeee")
        draw.text((x + 36, y + TILE // 2), NO_PICTURE, fill="#888888", font=lettering.font)
    lines = lettering.lines(title, TILE - 8, 3)
    draw.multiline_text((x + 4, y + TILE), lines, fill="black", font=lettering.font, spacing=2)


def _nearest(vectors: np.ndarray, row: int) -> list[int]:
    similarity = vectors @ vectors[row]
    similarity[row] = -np.inf
    return np.argsort(-similarity, kind="stable")[:NEIGHBOURS].tolist()
