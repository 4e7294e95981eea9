import pytest

from recbole_mm.tools.counts import by_reason, counted


@pytest.mark.parametrize(
    "count, words", [(0, "0 items have"), (1, "1 item has"), (1200, "1,200 items have")]
)
def test_words_agree_with_their_count(count, words):
    assert counted(count, "item has", "items have") == words


def test_reasons_are_read_with_their_counts():
    assert by_reason({"no user": 1200, "no item": 1}) == "no user: 1,200, no item: 1"
