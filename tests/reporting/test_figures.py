import re
from itertools import pairwise

import pytest

from recbole_mm.reporting.figures import (
    grouped_bars,
    learning_curves,
    svg_text,
    write_figure,
)
from recbole_mm.reporting.statistics import Interval

SPAN = Interval(0.2, 0.1, 0.3)
HALF_A_LINE = 5  # pixels; letters below the line may move the bottom of a text


def test_figures_are_told_apart_without_color_and_load_nothing():
    curves = {label: [[(1, 0.1), (2, 0.2)], [(5, 0.1), (10, 0.3)]] for label in "ABC"}
    figures = [
        learning_curves(curves, "NDCG@10"),
        grouped_bars({"A": {"all": SPAN, "text only": SPAN}}, ["all", "text only"], "NDCG@10"),
    ]
    texts = [svg_text(figure) for figure in figures]
    for svg in texts:
        assert svg.startswith("<svg")
        assert "NDCG@10" in svg
        assert set(re.findall(r"https?://([\w.]+)", svg)) <= {"www.w3.org"}
    assert "stroke-dasharray" in texts[0]
    assert "<pattern" in texts[1]


def test_labels_are_shown_as_they_are():
    labels = [r"cost $\alpha_{x$", "_b"]
    curves = learning_curves({label: [[(1, 0.1), (2, 0.2)]] for label in labels}, "NDCG@10")
    bars = grouped_bars({label: {"all": SPAN} for label in labels}, ["all"], "NDCG@10")

    for figure in (curves, bars):
        svg_text(figure)  # draws them
    assert [text.get_text().strip() for text in curves.legends[0].get_texts()] == [
        r"cost \$\alpha_{x\$",
        "_b",
    ]


def test_a_figure_is_written_as_svg_and_pdf_and_again_as_the_same_bytes(tmp_path):
    def write(name):
        figure = grouped_bars({"A": {"all": SPAN}}, ["all"], "NDCG@10")
        return [path.read_bytes() for path in write_figure(figure, tmp_path / name)]

    svg, pdf = write("first")

    assert b"<svg" in svg
    assert pdf.startswith(b"%PDF")
    assert write("second") == [svg, pdf]
    assert {p.name for p in tmp_path.iterdir()} == {
        "first.svg", "first.pdf", "second.svg", "second.pdf",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("labels", "rows"),
    [
        (["SASRec", "MMM4Rec", "UniSRec", "MMM4Rec+use_item_id=False"], 1),
        (["scratch", "frozen", "unfrozen", "image neighbors"] * 2, 2),
        (["MMM4Rec+use_item_id=False+learning_rate=0.001 (a file of mine)"] * 3, 3),
    ],
)
def test_a_legend_is_as_wide_as_its_figure_at_most(labels, rows):
    names = [f"{label}{number}" for number, label in enumerate(labels)]
    figure = learning_curves({name: [[(1, 0.1)]] for name in names}, "NDCG@10")
    figure.draw_without_rendering()

    (legend,) = figure.legends
    assert legend.get_window_extent().width <= figure.bbox.width
    bottoms = sorted(text.get_window_extent().y0 for text in legend.get_texts())
    assert 1 + sum(b - a > HALF_A_LINE for a, b in pairwise(bottoms)) == rows
