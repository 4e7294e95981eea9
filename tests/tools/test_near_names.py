import pytest

from recbole_mm.tools.names import nearest


@pytest.mark.parametrize(
    "name, known",
    [("epoch", "epochs"), ("Shp", "Shop"), ("txt", "text"), ("USER", "user"), ("use", "user")],
)
def test_a_name_with_a_slip_is_found(name, known):
    assert nearest(name, ["Sterne", known]) == [known]


@pytest.mark.parametrize("name", ["user", "item", "when"])
def test_a_name_that_only_shares_some_letters_is_not_offered(name):
    assert nearest(name, ["Sterne", "Zeit", "Kunde", "Artikel"]) == []
