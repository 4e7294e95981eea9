"""API reference: ``python -m sphinx -W -n -q -b html docs build/docs``; see CONTRIBUTING.md."""

from importlib import import_module
from importlib.metadata import version as installed_version
from importlib.util import find_spec

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
        "exclude_patterns": ["../recbole_mm/integration/spawned.py"],  # RecBole's functions
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
autodoc_default_options = {
    "members": True,
    "show-inheritance": True,
    "ignore-module-all": True,  # what a module passes on is described where it is defined
}
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False  # those of torch and RecBole are theirs

# Every role has to name something that exists (-n). Other libraries are not looked up, because that
# would need a network.
NOT_LOOKED_UP = """
    _frozen_importlib _pickle abc argparse collections concurrent contextlib importlib logging multiprocessing pathlib pickle socket struct time types zipfile
    PIL fastapi faiss gradio huggingface_hub hyperopt jinja2 markupsafe matplotlib np numpy onnxruntime optuna pandas pd pl polars ray recbole requests scipy
    sentence_transformers sklearn torch transformers uvicorn yaml
"""
nitpick_ignore_regex = [
    (r"py:.*", rf"({'|'.join(NOT_LOOKED_UP.split())})\..*"),
    (
        r"py:class",
        r"dict\[str",
    ),  # the signature of a dataclass with a default_factory is split there
]


def keep_colons(_app, what, _name, _object, _options, lines):
    """napoleon takes ``word: text`` in the first line of a constant's docstring for a type."""
    if what in ("attribute", "data", "property"):
        lines[:0] = ["..", ""]  # an empty comment


def accept_unlisted(_app, _environment, node, text):
    """A constant without a docstring, or a module without a page: that it exists is enough."""
    target = node["reftarget"]
    if node["reftype"] == "mod":
        return text if find_spec(target) else None
    if node["reftype"] != "data":
        return None
    module, _, name = target.rpartition(".")
    return text if hasattr(import_module(module or node["py:module"]), name) else None


def setup(app):
    app.connect("autodoc-process-docstring", keep_colons, priority=400)
    app.connect("missing-reference", accept_unlisted)
