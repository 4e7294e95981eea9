"""What the documents say is so: links lead somewhere, commands exist, snippets run."""

import argparse
import re
import shlex

import pytest

from recbole_mm.cli import main
from recbole_mm.config.keys import known_keys
from recbole_mm.config.property_files import find_config_file
from recbole_mm.config.values import parse_overrides

DOCUMENTS = ("README.md", "RESULTS.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md",
             "dataset_scripts/README.md")  # fmt: skip
COMMAND = re.compile(r"^(?:recbole-mm|(?:python|torchrun .*) run_recbole_mm\.py) (.+)$")
OF_THE_READER = ("mine.yaml", "more.yaml", "then.yaml", "z.yaml", "study.yaml")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[list[str]]:
    """The arguments of every command in a document."""
    text = "\n".join(blocks(text, "")).replace("\\\n", " ")
    lines = re.split(r"\n|; +(?=\S*recbole-mm)", text)
    found = [match.group(1) for line in lines if (match := COMMAND.match(line.strip()))]
    return [shlex.split(line, comments=True) for line in found]


def anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_link_leads_to_a_file_and_a_heading(repository, name):
    text = (repository / name).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("https://"):
            continue
        file, _, heading = target.partition("#")
        path = (repository / name).parent / file if file else repository / name
        assert path.exists(), f"{name}: {target}"
        if heading:
            headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in map(anchor, headings), f"{name}: {target}"


class Parsed(BaseException):
    """What a command made of its arguments, instead of running."""


@pytest.fixture
def parse(monkeypatch):
    """A function from the arguments of a command to what it does not know itself: keys of the
    configuration."""
    original = argparse.ArgumentParser.parse_known_args

    def parse_known_args(parser, arguments=None, namespace=None):
        raise Parsed(original(parser, arguments, namespace)[1])

    def parse_args(parser, arguments=None, namespace=None):
        rest = original(parser, arguments, namespace)[1]
        if rest:
            parser.error(f"unrecognized arguments: {rest}")
        raise Parsed([])

    monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", parse_known_args)
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)

    def rest_of(arguments: list[str]) -> list[str]:
        with pytest.raises(Parsed) as parsed:
            main(arguments)
        return parsed.value.args[0]

    return rest_of


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_command_of_a_document_is_one_that_its_parser_takes(repository, name, parse):
    for arguments in commands((repository / name).read_text(encoding="utf-8")):
        if arguments == ["--help"]:
            continue
        assert parse_overrides(parse(arguments)).keys() <= known_keys(), arguments
        for argument in arguments:
            option, _, file = argument.partition("=")
            if option == "--config_files" and file not in OF_THE_READER:
                assert find_config_file(file).is_file(), arguments


def test_a_command_in_a_property_file_is_one_that_its_parser_takes(repository, parse):
    for path in sorted((repository / "properties").rglob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        comments = re.findall(r"^#.*?\brecbole-mm (.+?)(?:;|\. |  |$)", text, re.MULTILINE)
        for arguments in map(shlex.split, comments):
            if arguments[0] == "accepts":  # a sentence
                continue
            assert parse_overrides(parse(arguments)).keys() <= known_keys(), (path, arguments)


def test_the_table_of_rooms_has_every_room(repository):
    text = (repository / "CONTRIBUTING.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `([\w/.]+)` \|", text, flags=re.MULTILINE))

    package = repository / "recbole_mm"
    rooms = {path.name for path in package.glob("[a-z]*.py")}
    rooms |= {f"{path.name}/" for path in package.glob("[a-z]*/") if any(path.glob("*.py"))}
    assert {name for name in listed if "/" not in name[:-1]} | {"model/"} == rooms
    assert all((package / name).exists() for name in listed)


@pytest.mark.slow
def test_the_snippets_of_the_readme_run(repository, tmp_path, monkeypatch, capsys):
    import recbole.quick_start

    text = (repository / "README.md").read_text(encoding="utf-8")
    recommend, train, test = blocks(text, "python")
    small = ["--epochs=1", "--hidden_size=8", "--inner_size=8", "--head_dim=8", "--d_state=4",
             "--n_groups=1", "--show_progress=False"]  # fmt: skip
    assert main(["--model=MMM4Rec", "--dataset=demo", *small]) == 0
    (checkpoint,) = (tmp_path / "saved").glob("MMM4Rec-*.pth")
    (tmp_path / "today.csv").write_text("user,item\nnew customer,d001\nnew customer,d002\n")

    def run(snippet: str) -> dict:
        variables: dict = {}
        exec(snippet.replace("saved/MMM4Rec-....pth", str(checkpoint)), variables)  # noqa: S102
        return variables

    table = run(recommend)["table"]
    assert table["user"].to_list() == ["new customer"] * 20
    assert not {"d001", "d002"} & set(table["item"])

    capsys.readouterr()
    run(test)
    assert "'ndcg@10'" in capsys.readouterr().out

    called: dict = {}
    monkeypatch.setattr(recbole.quick_start, "run_recbole", lambda **given: called.update(given))
    run(train)
    assert called == {"model": "MMM4Rec", "dataset": "demo"}
