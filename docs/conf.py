"""API reference: ``python -m sphinx -W -n -q -b html docs build/docs``; see CONTRIBUTING.md."""

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
    PIL hyperopt jinja2 markupsafe matplotlib np numpy pandas pd pl polars ray recbole requests sklearn
    torch yaml
"""
nitpick_ignore_regex = [(r"py:.*", rf"({'|'.join(NOT_LOOKED_UP.split())})\..*")]
