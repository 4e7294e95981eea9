"""Imports go down the page: a module imports from its own room or from a room below it."""

import ast

import pytest

ROOMS = (
    "__init__",
    "__main__",
    "cli",
    "quick_start",
    "recommend.",
    "compare.",
    "transfer_report.",
    "tuning.",
    "run.",
    "prepare.",
    "training.",
    "transfer.",
    "register",
    "integration.",
    "config.",
    "model.sequential_recommender.",
    "model.abstract_recommender",
    "model.layers.",
    "data.",
    "tools.",
    "commands",
)
"""Modules, and packages with a dot behind them, from the user's words to the tools."""

LOOKED_UP_BY_NAME = {
    ("integration.lookup", "training.trainer"),
}
"""The door hands these to RecBole when it asks for them."""


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


def imported(path, package: str, known: set[str]):
    """Modules of the package that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names] + [node.module]
        for name in names:
            name = name.removeprefix(f"{package}.")
            if name in known:
                yield name


def test_imports_go_down_the_page_only(repository):
    paths = dict(modules(repository))
    upward = {
        (module, other)
        for module, path in paths.items()
        for other in imported(path, "recbole_mm", set(paths))
        if room(other) < room(module)
    }
    assert upward - LOOKED_UP_BY_NAME == set()


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
