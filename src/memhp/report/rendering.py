"""How pages are made: templates of the package, in which everything is escaped, with style and script put in.

A page is one file that needs no other: assets are written into it, and nothing is loaded from anywhere.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from functools import cache
from importlib.resources import files
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from memhp.printable import printable
from memhp.units import format_count

Cell = str | Markup


class Head(NamedTuple):
    """The head of a column of a table."""

    name: str
    right: bool = False


class PageTable(NamedTuple):
    """A table of a page: the first cell of a row names it."""

    caption: str
    heads: tuple[Head, ...]
    rows: list[tuple[Cell, ...]]


def render(template: str, **values: object) -> str:
    """A page from one of the package's templates; control characters are shown, not written."""
    return printable(_environment().get_template(template).render(values), keep="\n")


def asset(name: str) -> Markup:
    """A style sheet or script of the package, to stand in a page as it is."""
    return Markup((files(__package__) / "assets" / name).read_text(encoding="utf-8"))


def code(text: str) -> Markup:
    """Text in the typeface of code."""
    return Markup("<code>{}</code>").format(text)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("memhp.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.globals.update(asset=asset)
    environment.filters.update(counted=format_count)
    return environment
