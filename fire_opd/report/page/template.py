"""The form that all pages have: one style, nothing from the network, and what others wrote is escaped."""

from functools import cache
from importlib.resources import files
from typing import Any


def render(template: str, **values: Any) -> str:
    """A template of this folder as HTML; `title` is the page's."""
    from jinja2 import Environment, FunctionLoader

    pages = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, loader=FunctionLoader(resource))
    return pages.get_template(template).render(style=resource("page.css"), **values)


@cache
def resource(name: str) -> str:
    """Text of a file of this folder."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
