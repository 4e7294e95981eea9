"""SECURITY.md: every promise names tests that exist; those that have no other place are here."""

import ast
import json
import re
from collections import defaultdict
from types import SimpleNamespace

import pytest

from recbole_mm.compare.examples import Example, Item
from recbole_mm.reporting.page import render

NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def promises(repository) -> list[str]:
    """The entries of the lists below the heading, a line each."""
    text = (repository / "SECURITY.md").read_text(encoding="utf-8")
    section = text.partition("\n## Promises\n")[2].partition("\n## ")[0]
    entries = re.findall(r"^- (.+(?:\n  .+)*)", section, flags=re.MULTILINE)
    return [" ".join(entry.split()) for entry in entries]


def test_every_promise_names_tests_that_exist(repository):
    entries = promises(repository)
    assert len(entries) > 20
    for entry in entries:
        named = NAMED.findall(entry)
        assert named, f"no test is named: {entry}"
        for file, name in named:
            tree = ast.parse((repository / file).read_text(encoding="utf-8"))
            functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
            assert name in functions, f"{file} has no {name}"


def test_the_readme_links_the_page(repository):
    assert "](SECURITY.md)" in (repository / "README.md").read_text(encoding="utf-8")


def test_the_code_beside_an_encoder_is_not_executed(tmp_path):
    pytest.importorskip("transformers", reason="encoders need recbole_mm[features]")
    from recbole_mm.prepare.open_encoder import open_encoder
    from recbole_mm.tools.errors import UserError

    folder, exploded = tmp_path / "encoder", tmp_path / "exploded"
    folder.mkdir()
    classes = {"AutoConfig": "code.Config", "AutoModel": "code.Model"}
    (folder / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": classes}))
    (folder / "code.py").write_text(f"import pathlib\npathlib.Path({str(exploded)!r}).touch()\n")

    with pytest.raises(UserError, match="cannot be loaded"):
        open_encoder(str(folder))

    assert not exploded.exists()


def test_a_title_is_text_in_a_page():
    title = '"><script>alert(1)</script>'
    item = Item(title, title, None, is_target=True)
    example = Example(title, [item], item, {title: [item]}, {title: 1})
    table = SimpleNamespace(head=[title], rows=[[title]], marks={})
    content = {
        "title": title,
        "command": title,
        "tables": defaultdict(lambda: table),
        "figures": {"curves": "", "slices": {}, "knockouts": ""},
        "notes": defaultdict(str),
        "examples": [example],
    }

    page = render("recbole_mm.compare", "report.html", content)

    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page
