import re

from recbole_mm.reporting.figures import (
    grouped_bars,
    learning_curves,
    svg_text,
    write_figure,
)
from recbole_mm.reporting.statistics import Interval

SPAN = Interval(0.2, 0.1, 0.3)


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
