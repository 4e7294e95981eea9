"""One page for a report, as HTML and as Markdown.

A page is one file: figures and pictures are embedded, nothing is loaded from elsewhere.
"""

import re

from jinja2 import ChoiceLoader, Environment, PackageLoader
from markupsafe import Markup, escape


def render(package: str, name: str, content: dict) -> str:
    """Fill a template of a package with the content; figures are already markup.

    Args:
        package: package with a folder ``templates``; its templates extend those of this package.
        name: name of the file that the template makes; only HTML is escaped.
        content: variables of the template.
    """
    loader = ChoiceLoader([PackageLoader(package), PackageLoader("recbole_mm.reporting")])
    environment = Environment(loader=loader, autoescape=name.endswith(".html"))
    environment.filters["breakable"] = breakable
    return environment.get_template(f"{name}.j2").render(content)


def breakable(text: str) -> Markup:
    """Text that may wrap before a setting of an entry and before the length of a list, so that wide
    tables fit on a page."""
    return Markup(re.sub(r"(?=\+[A-Za-z_]|@\d)", "<wbr>", str(escape(text))))
