import pytest
import yaml

from recbole_mm.prepare.mirrors import VARIABLE, Mirrors, MirrorsError, file_name

PAPERS = ("Food", "Home", "CDs", "Kindle", "Movies", "Pantry", "Scientific", "Instruments", "Arts",
          "Office")  # fmt: skip


@pytest.mark.parametrize("name", PAPERS)
def test_the_domains_of_the_papers_are_those_of_2018(name):
    source = Mirrors().source(name)

    assert source.layout == 2018
    assert all(source.category in url for url in source.reviews + source.meta)


def test_toys_is_the_set_of_2014_unless_another_layout_is_asked_for():
    mirrors = Mirrors()

    assert file_name(mirrors.source("Toys").reviews[0]) == "ratings_Toys_and_Games.csv"
    assert file_name(mirrors.source("Toys", 2018).reviews[0]) == "Toys_and_Games.csv"
    assert file_name(mirrors.source("Toys", 2023).meta[0]) == "meta_Toys_and_Games.jsonl.gz"


@pytest.mark.parametrize("layout", [2014, 2018, 2023])
def test_every_category_goes_by_its_own_name(layout):
    mirrors = Mirrors()

    for category in mirrors.layouts[layout]["categories"]:
        assert mirrors.source(category, layout).category == category


def test_what_is_not_a_category_is_refused_with_similar_names():
    mirrors = Mirrors()

    assert mirrors.source("Video_Gamez") is None
    with pytest.raises(MirrorsError, match="Did you mean Video_Games"):
        mirrors.require_source("Video_Gamez")
    with pytest.raises(MirrorsError, match="'Prime_Pantry' is not.* of 2023.*--layout=2018"):
        mirrors.require_source("Pantry", 2023)


def write(path, **values):
    path.write_text(yaml.safe_dump(values))
    return path


def test_the_lists_of_a_users_file_replace_ours_and_the_rest_stays(tmp_path, monkeypatch):
    lists = {"reviews": ["http://10.0.0.1:81/{category}.csv"], "categories": ["Mine"]}
    path = write(
        tmp_path / "mine.yaml",
        layouts={2023: lists},
        names={"M": {"category": "Mine", "layout": 2023}},
        trusted_hosts=["nas"],
    )

    for mirrors in (Mirrors(path), monkeypatch.setenv(VARIABLE, str(path)) or Mirrors()):
        source = mirrors.source("M")
        assert source.reviews == ("http://10.0.0.1:81/Mine.csv",)
        assert source.meta[0].startswith("https://mcauleylab.ucsd.edu/")
        assert mirrors.source("Pantry").category == "Prime_Pantry"
        assert {"10.0.0.1:81", "nas", "mcauleylab.ucsd.edu:443"} <= mirrors.trusted_hosts


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"layout": {}}, "unknown key"),
        ({"layouts": []}, "expected `name: value` lines"),
        ({"layouts": {2019: {}}}, "unknown year; the layouts that can be read are 2014, 2018"),
        ({"layouts": {2018: {"review": []}}}, "expected lists called reviews, meta, categories"),
        ({"layouts": {2018: {"reviews": "http://h/x"}}}, "expected a list of texts"),
        ({"layouts": {2018: {"reviews": ["file:///x"]}}}, "is not the http or https address"),
        ({"names": {"x": "Books"}}, "expected {category: NAME, layout: 2014 or 2018 or 2023}"),
        ({"trusted_hosts": "h"}, "expected a list"),
        ({"trusted_hosts": [{"h": 1}]}, "expected a list of texts"),
        ({"names": {"Mine": {"category": "Toys", "layout": [2018]}}}, "names: Mine: .*expected"),
    ],
)
def test_a_malformed_file_is_named_with_the_key_and_what_is_expected(tmp_path, values, message):
    with pytest.raises(MirrorsError, match=message):
        Mirrors(write(tmp_path / "mine.yaml", **values))
