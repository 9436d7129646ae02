"""Names for what a kernel under exploration leads to: the way there, the same in every copy and every execution.

They are told when two accesses race, and two accesses that have one name are taken to be of one thing.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter
from collections.abc import Iterable, Iterator
from enum import Enum
from functools import partial
from typing import Any

from memhp.explore.doors.sorts import is_plain


def names_in(name: str, keys: Iterable[object]) -> Iterator[str]:
    """What goes by the keys of a dictionary, or by itself in a list, each by a name of its own."""
    return _distinct(f"{name}[{name_of(key)}]" for key in keys)


def parts_named(name: str, value: partial[Any]) -> Iterator[tuple[str, Any]]:
    """What a function is bound to that can change, each by a name of its own."""
    found = _parts(value)
    return zip(_distinct(f"{name}.{type(part).__name__}" for part in found), found, strict=True)


def _parts(value: partial[Any]) -> list[Any]:
    return [part for part in (*value.args, *value.keywords.values()) if not is_plain(part)]


def _distinct(names: Iterable[str]) -> Iterator[str]:
    """The same names, and from the second on with a number."""
    count: Counter[str] = Counter()
    for name in names:
        count[name] += 1
        yield f"{name} {count[name]}" if count[name] > 1 else name


def name_of(key: object) -> str:
    """A key, or an object in a list, in a name: where it starts, or how it is called; nobody is told of that look."""
    if isinstance(key, Enum):
        return key.name
    if isinstance(key, int | str) or (isinstance(key, tuple) and all(isinstance(part, int | str) for part in key)):
        return str(key)
    if isinstance(key, partial):
        return " ".join(name_of(part) for part in _parts(key)) or type(key).__name__
    state = getattr(key, "__dict__", None)
    start, name = (getattr(key, one, None) if state is None else state.get(one) for one in ("start", "name"))
    if isinstance(start, int):
        return f"{start:#x}"
    return name if isinstance(name, str) else type(key).__name__
