from recbole_mm.compare.report import slice_bars
from recbole_mm.compare.slices import Slice
from recbole_mm.reporting.figures import svg_text
from recbole_mm.reporting.statistics import Interval


def test_the_bars_of_a_slice_show_how_many_targets_it_has():
    span = Interval(0.2, 0.1, 0.3)
    parts = [
        Slice("popularity", "cold", 0, 0, {}, {}),
        Slice("popularity", "head", 3, 1200, dict.fromkeys("ABC", span), {}),
    ]

    svg = svg_text(slice_bars(parts, list("ABC"), "NDCG@10"))

    assert "n = 0" in svg
    assert "n = 1,200" in svg
    assert "<pattern" in svg
