"""API reference: ``python -m sphinx -W -n -q -b html docs build/docs``; see CONTRIBUTING.md."""

from importlib import import_module
from importlib.metadata import version as installed_version

project = "recbole_mm"
version = release = installed_version("recbole_mm")
language = "en"

extensions = [
    "sphinx.ext.apidoc",  # a page for every module, so that none is forgotten
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
]
apidoc_modules = [
    {
        "path": "../recbole_mm",
        "destination": "api",
        # second names of what other modules define
        "exclude_patterns": [
            f"../recbole_mm/{name}.py"
            for name in ("integration/spawned", "quick_start", "register")
        ],
        "separate_modules": True,
        "module_first": True,
        "max_depth": 2,
    }
]
html_theme = "alabaster"
exclude_patterns = ["images"]

napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = [("Reference", "notes_style")]
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False  # those of torch and RecBole are theirs

# Every role has to name something that exists (-n). Other libraries are not looked up, because that
# would need a network.
NOT_LOOKED_UP = """
    argparse collections logging pathlib pickle time types
    PIL huggingface_hub hyperopt jinja2 markupsafe matplotlib np numpy pandas pd pl polars ray recbole requests sklearn
    torch yaml
"""
nitpick_ignore_regex = [(r"py:.*", rf"({'|'.join(NOT_LOOKED_UP.split())})\..*")]


def keep_colons(_app, what, _name, _object, _options, lines):
    """napoleon takes ``word: text`` in the first line of a constant's docstring for a type."""
    if what in ("attribute", "data", "property"):
        lines[:0] = ["..", ""]  # an empty comment


def accept_constant(_app, _environment, node, text):
    """A constant without a docstring has no entry of its own; that it exists is enough."""
    if node["reftype"] != "data":
        return None
    module, _, name = node["reftarget"].rpartition(".")
    return text if hasattr(import_module(module or node["py:module"]), name) else None


def setup(app):
    app.connect("autodoc-process-docstring", keep_colons, priority=400)
    app.connect("missing-reference", accept_constant)
