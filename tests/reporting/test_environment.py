from recbole_mm.reporting.environment import by_environment


def test_labels_are_listed_once_for_each_environment_in_order_and_unknown_ones_are_skipped():
    old, new = {"torch": "2.11"}, {"torch": "2.13"}

    made = [(new, "A"), (old, "B"), (new, "A"), (None, "lists"), (dict(new), "B")]

    assert by_environment(made) == [(new, ["A", "B"]), (old, ["B"])]
