"""Tables of reports."""

from recbole_mm.reporting.tables import (
    BEST,
    NBSP,
    SECOND,
    Table,
    best_two,
    environment_table,
    latex,
)


def test_the_best_and_the_second_best_are_marked_as_they_are_shown():
    marks = best_two({1: [0.12341, 0.12339, 0.2, 0.1], 2: [0.5, 0.5, 0.5, 0.5]})

    assert marks == {(2, 1): BEST, (0, 1): SECOND, (1, 1): SECOND}


def test_a_table_becomes_latex_whatever_is_in_its_cells():
    table = Table(["", "NDCG@10"], [["A_1|B & C", f"0.1 ±{NBSP}0.2"], ["D", "0.3"]], {(1, 1): BEST})

    text = latex(table)

    assert r"A\_1|B \& C & 0.1 ± 0.2 \\" in text
    assert r"D & \textbf{0.3} \\" in text
    assert text.count(r"\midrule") == 1
    assert text.startswith("\\begin{tabular}{lr}\n\\toprule\n")


def test_environments_of_the_same_entries_are_numbered():
    """Such as seeds of one entry, some of which ran elsewhere."""
    made_with = [({"torch": "2.9"}, ["A"]), ({"torch": "2.8"}, ["A"]), ({"torch": "2.8"}, ["B"])]

    table = environment_table(made_with)

    assert table.head == ["environment", "A (1)", "A (2)", "B"]
    assert r"environment & A (1) & A (2) & B \\" in latex(table)
