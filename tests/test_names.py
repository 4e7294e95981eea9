"""A variable is named by what it holds."""

import ast
from pathlib import Path

import pytest

NAME_NOTHING = {"its", "of", "one", "said", "such", "there", "told"}
FOLDERS = ("recbole_mm", "tests", "benchmarks", "dataset_scripts", "examples")


def names(code: str):
    """What is assigned, taken as an argument or defined."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Store):
            yield node.id if isinstance(node, ast.Name) else node.attr
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name


def test_no_name_is_a_word_that_names_nothing(repository):
    paths = [path for folder in FOLDERS for path in Path(repository, folder).rglob("*.py")]

    found = {str(path): NAME_NOTHING & {*names(path.read_text())} for path in paths}

    assert {path: words for path, words in found.items() if words} == {}


@pytest.mark.parametrize(
    "code", ["said = 1", "self.said = 1", "for said in x: pass", "lambda said: 1", "def said(): 1"]
)
def test_a_name_is_seen_wherever_it_is_given(code):
    assert "said" in names(code)
