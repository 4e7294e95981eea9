import re

from recbole_mm.compare.figures import grouped_bars, learning_curves, slice_bars
from recbole_mm.compare.slices import Slice
from recbole_mm.compare.statistics import Interval

SPAN = Interval(0.2, 0.1, 0.3)


def test_figures_are_told_apart_without_color_and_load_nothing():
    curves = {label: [[(1, 0.1), (2, 0.2)], [(5, 0.1), (10, 0.3)]] for label in "ABC"}
    parts = [
        Slice("popularity", "cold", 0, 0, {}, {}),
        Slice("popularity", "head", 3, 1200, dict.fromkeys("ABC", SPAN), {}),
    ]
    figures = [
        learning_curves(curves, "NDCG@10"),
        slice_bars(parts, list("ABC"), "NDCG@10"),
        grouped_bars({"A": {"all": SPAN, "text only": SPAN}}, ["all", "text only"], "NDCG@10"),
    ]
    for svg in figures:
        assert svg.startswith("<svg")
        assert "NDCG@10" in svg
        assert set(re.findall(r"https?://([\w.]+)", svg)) <= {"www.w3.org"}
    assert "stroke-dasharray" in figures[0]
    assert "n = 1,200" in figures[1]
    assert "<pattern" in figures[1]
