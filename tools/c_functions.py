"""The functions that a file of kernel C defines, and a hash of each that comments and white space do not change.

The kernel's layout is what is relied on: a definition starts and ends at the first column, its closing brace too
(Documentation/process/coding-style.rst). Nothing is preprocessed: a function with two bodies under ``#ifdef`` has the
hash of both, in their order, and macros with arguments count as functions.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import hashlib
import re
from collections.abc import Iterator

_COMMENT_OR_LITERAL = re.compile(
    r"""//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'""",
    re.DOTALL,
)
_TOKEN = re.compile(r"""[A-Za-z_]\w*|\d[\w.]*|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|\S""")
_NAME_BEFORE_PARENTHESIS = re.compile(r"([A-Za-z_]\w*)\s*\(")
_MACRO = re.compile(r"^#[ \t]*define[ \t]+([A-Za-z_]\w*)\(", re.MULTILINE)
_NOT_A_NAME = frozenset({"__attribute__", "__printf", "__aligned", "__section", "__releases", "__acquires"})
"""What may stand before a parenthesis in a definition's head and is not the function."""

HASH_DIGITS = 12
"""Hexadecimal digits of a hash that are kept: 48 bits tell some thousand functions apart."""


def without_comments(text: str) -> str:
    """C source with each comment turned into a space, or into the line breaks that it spans."""

    def blank(found: re.Match[str]) -> str:
        piece = found[0]
        if piece[0] != "/":
            return piece
        return "\n" * piece.count("\n") or " "

    return _COMMENT_OR_LITERAL.sub(blank, text)


def definitions(source: str) -> Iterator[tuple[str, str]]:
    """(name, text) of every function and every macro with arguments that `source` defines, comments left out."""
    text = without_comments(source)
    yield from _macros(text)
    head: list[str] = []
    body: list[str] = []
    for line in _plain_lines(text):
        if body:
            body.append(line)
            if line.startswith("}"):
                if name := _name(head):
                    yield name, "\n".join([*head, *body])
                head, body = [], []
        elif line.startswith("{"):
            body = [line]
        elif line.rstrip().endswith(("}", "};")) and "{" in line:
            if name := _name([*head, line.partition("{")[0]]):
                yield name, "\n".join([*head, line])
            head = []
        elif line.rstrip().endswith("{"):
            head.append(line.rstrip()[:-1])
            body = ["{"]
        elif line.rstrip().endswith(";") or line.startswith("}"):
            head = []
        elif not line.strip():
            head = head if head and head[-1].rstrip().endswith(")") else []
        else:
            head.append(line)


def _plain_lines(text: str) -> Iterator[str]:
    """The lines that are no preprocessor directives, nor continued ones."""
    continued = False
    for line in text.split("\n"):
        directive = continued or line.lstrip().startswith("#")
        continued = directive and line.endswith("\\")
        if not directive:
            yield line


def _macros(text: str) -> Iterator[tuple[str, str]]:
    for found in _MACRO.finditer(text):
        end = found.end()
        while True:
            stop = text.find("\n", end)
            stop = len(text) if stop < 0 else stop
            if not text[:stop].endswith("\\") or stop == len(text):
                break
            end = stop + 1
        yield found[1], text[found.start() : stop]


def _name(head: list[str]) -> str | None:
    """The function that the head of a definition names; None for what is a structure or a table."""
    text = " ".join(head)
    if "=" in text.partition("(")[0]:
        return None
    names = [name for name in _NAME_BEFORE_PARENTHESIS.findall(text) if name not in _NOT_A_NAME]
    return names[0] if names else None


def hashes(source: str) -> dict[str, str]:
    """A hash by function name; of one that is defined more than once, of all its definitions in their order."""
    tokens: dict[str, list[str]] = {}
    for name, text in definitions(source):
        tokens.setdefault(name, []).extend(_TOKEN.findall(text.replace("\\\n", " ")))
    return {name: hashlib.sha256("\0".join(found).encode()).hexdigest()[:HASH_DIGITS] for name, found in tokens.items()}
