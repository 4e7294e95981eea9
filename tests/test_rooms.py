"""Imports go down the page: a module imports from its own room or from a room below it."""

import ast
import re

import pytest

from recbole_mm.commands import COMMANDS

ROOMS = (
    "__init__",
    "__main__",
    "cli",
    "quick_start",
    "doctor.",
    "recommend.",
    "compare.",
    "transfer_report.",
    "tuning.",
    "reporting.",
    "encoder_tuning.",
    "run.",
    "prepare.",
    "training.",
    "transfer.",
    "register",
    "integration.",
    "config.",
    "model.sequential_recommender.",
    "model.abstract_recommender",
    "model.item_recommender",
    "model.layers.",
    "data.",
    "tools.",
    "commands",
)
"""Modules, and packages with a dot behind them, from the user's words to the tools."""

EXCEPTIONS = {
    ("integration.lookup", "training.trainer"): "RecBole asks the door for a trainer, by name",
    ("integration.lookup", "training.training_free"): "the same, of a baseline",
    ("commands", "*"): "a list of names; cli imports the module of the command that it was given",
}
"""Who may name a room above its own, which one (``*``: any), and why."""

OTHER_NAMES = {"models": "the entry point for models of other packages"}
"""Names that begin like those of our modules and are none."""


def room(module: str) -> int:
    fitting = [r for r in ROOMS if module == r or r.endswith(".") and module.startswith(r)]
    assert fitting, f"{module} has no room: add it to ROOMS"
    return ROOMS.index(max(fitting, key=len))


def modules(repository):
    package = repository / "recbole_mm"
    for path in sorted(package.rglob("*.py")):
        name = ".".join(path.relative_to(package).with_suffix("").parts)
        if path.read_text() and (name == "__init__" or not name.endswith("__init__")):
            yield name, path


def imported(tree: ast.AST, known: set[str]):
    """Modules of the package that are imported, at the top or within a function."""
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names] + [node.module]
        for name in names:
            name = name.removeprefix("recbole_mm.")
            if name in known:
                yield name


def named(tree: ast.AST, known: set[str]):
    """Modules and packages of ours that strings name: for importlib, a process, a template."""
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    packages = {name.rpartition(".")[0] for name in known}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            continue
        if id(node) in documentation:
            continue
        for name in re.findall(r"\brecbole_mm\.([a-z_][\w.]*)", node.value):
            parts = name.rstrip(".").split(".")
            prefixes = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
            if prefixes[0] in OTHER_NAMES:
                continue
            found = [prefix for prefix in prefixes if prefix in known | packages]
            assert found, f"{node.value!r} names no module"
            yield found[0] if found[0] in known else f"{found[0]}."


def upward(repository):
    """Every module with a module above it that it imports or names."""
    paths = dict(modules(repository))
    for module, path in paths.items():
        tree = ast.parse(path.read_text())
        for other in {*imported(tree, set(paths)), *named(tree, set(paths))}:
            if room(other) < room(module):
                yield module, other


def excepted(module: str, other: str):
    return next((e for e in EXCEPTIONS if e[0] == module and e[1] in (other, "*")), None)


def test_imports_and_names_go_down_the_page_only(repository):
    assert [pair for pair in upward(repository) if not excepted(*pair)] == []


def test_every_exception_is_one(repository):
    assert {excepted(*pair) for pair in upward(repository)} - {None} == EXCEPTIONS.keys()


def test_the_modules_of_all_commands_exist(repository):
    known = dict(modules(repository))
    for name, command in COMMANDS.items():
        assert command.module.removeprefix("recbole_mm.") in known, name


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("def f():\n    from recbole_mm.run import jobs", {"run.jobs"}),
        ("def f():\n    import recbole_mm.run.jobs", {"run.jobs"}),
        ('importlib.import_module("recbole_mm.run.jobs")', {"run.jobs"}),
        ('command = [python, "-m", "recbole_mm.run.jobs"]', {"run.jobs"}),
        ('f"recbole_mm.run.{name}"', {"run."}),
        ('name = "recbole_mm.run.jobs.visible_gpus"', {"run.jobs"}),
        ('"""About recbole_mm.run.jobs."""', set()),
        ("import os", set()),
    ],
)
def test_a_module_is_found_wherever_it_is_named(code, found):
    tree = ast.parse(code)

    assert {*imported(tree, {"run.jobs"}), *named(tree, {"run.jobs"})} == found


@pytest.mark.parametrize("forbidden", ["recbole", "recbole_mm.config", "recbole_mm.data"])
def test_layers_know_no_recbole_and_no_config(repository, forbidden):
    for module, path in modules(repository):
        if not module.startswith("model.layers."):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                names = [node.module] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name != forbidden and not name.startswith(f"{forbidden}."), module
