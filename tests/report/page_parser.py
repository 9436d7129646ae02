"""An HTML page as elements, headings and tables, with a check that what is opened is closed."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "br", "wbr"}
OUTSIDE = {"src", "href", "srcset", "action", "data", "poster", "xlink:href"}
"""Attributes that could load something."""

Attributes = dict[str, str | None]


@dataclass
class Table:
    """A table of a page: its caption and the scopes of its heads, whether it has one or not."""

    caption: str = ""
    scopes: list[str | None] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    cells: list[str] = field(default_factory=list)


class Page(HTMLParser):
    """The elements of a page, the text of its scripts and styles, its headings and tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, Attributes]] = []
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.headings: list[tuple[int, str]] = []
        self.tables: list[Table] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append((int(tag[1]), ""))
        if tag == "table":
            self.tables.append(Table())
        if tag == "th":
            self.tables[-1].scopes.append(dict(attrs).get("scope"))
            self.tables[-1].heads.append("")
        if tag == "td":
            self.tables[-1].cells.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in {"script", "style"}:
            (self.scripts if self.open[-1] == "script" else self.styles).append(data)
            return
        self.text += data
        for tag in self.open:
            if re.fullmatch("h[1-6]", tag):
                level, before = self.headings[-1]
                self.headings[-1] = (level, before + data)
            if tag == "caption":
                self.tables[-1].caption += data
            if tag == "th":
                self.tables[-1].heads[-1] += data
            if tag == "td":
                self.tables[-1].cells[-1] += data

    def classed(self, name: str, tag: str = "") -> list[Attributes]:
        """The attributes of the elements of a class."""
        return [
            attributes
            for each, attributes in self.elements
            if name in (attributes.get("class") or "").split() and tag in ("", each)
        ]

    def check_alone(self) -> None:
        """Assert that the page needs nothing but itself, and is whole."""
        assert self.open == []
        for _, attributes in self.elements:
            assert not attributes.keys() & OUTSIDE
            assert not any(name.startswith("on") for name in attributes)
        assert not any("url(" in style.replace("url(#", "") or "@import" in style for style in self.styles)
        loads = re.compile(r"https?:|fetch\(|XMLHttpRequest|import\(|WebSocket")
        assert not any(loads.search(script) for script in self.scripts)

    def check_outline(self) -> None:
        """Assert that headings go down level by level from the one at the top, and that tables say what they are."""
        levels = [level for level, _ in self.headings]
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in zip([0, *levels], levels, strict=False))
        for table in self.tables:
            assert table.caption.strip()
            assert table.scopes
            assert set(table.scopes) <= {"row", "col"}
