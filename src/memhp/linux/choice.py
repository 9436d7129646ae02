"""Records of choices, which refuse what they cannot be: names and values alike, whoever sets them.

A choice is a field of a frozen dataclass whose type lists what it may be: a ``Literal``, ``bool``, or a tuple of
literals. `Choices.__new__` and ``__post_init__`` hold construction, and with it ``dataclasses.replace``, to that. What
a choice decides, and which kernel decides how since when, stands with the field: :func:`choice`.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from types import UnionType
from typing import Any, Self, SupportsIndex, get_args, get_origin, get_type_hints

from memhp.errors import BadInput, one_of
from memhp.linux.release import Release, Since


@dataclass(frozen=True)
class Choices:
    """A record of choices. Raises :class:`BadInput` for a field that there is not, or a value that it cannot have."""

    def __new__(cls, *_: object, **values: object) -> Self:
        """Refuse names before the dataclass does so with a TypeError."""
        for name in values.keys() - hints(cls).keys():
            raise unknown_choice(name, hints(cls))
        return super().__new__(cls)

    def __post_init__(self) -> None:
        """Refuse values."""
        for name, hint in hints(type(self)).items():
            check_value(name, hint, getattr(self, name))

    def with_choices(self, **changes: object) -> Self:
        """The same record with other values; lists stand for tuples, :class:`Told` text for what it names."""
        known = hints(type(self))
        changed: Any = {name: _as_value(known.get(name), value) for name, value in changes.items()}
        return replace(self, **changed)


class Told(str):
    """A value as somebody wrote it on a command line: ``true``, ``2``, ``one-block``, ``vmalloc,modules``."""

    __slots__ = ()


def from_text(hint: Any, text: str) -> Any:
    """The value of a choice of type `hint` that a text names, or the text, if it names none."""
    if is_set(hint):
        return tuple(part for part in text.split(",") if part)
    return next((each for each in options(hint) if shown(each).strip('"') == text), text)


def choice(about: str, *history: Since) -> Any:
    """A field that is a choice: what it decides, in the kernel's terms, and its values in the order they came."""
    return field(metadata={"about": about, "history": history})


def about(record: type[Choices], name: str) -> str:
    """What a choice decides."""
    return str(_metadata(record, name).get("about", ""))


def history(record: type[Choices], name: str) -> tuple[Since, ...]:
    """The values of a choice since when, oldest first."""
    found: tuple[Since, ...] = _metadata(record, name).get("history", ())
    return found


def _metadata(record: type[Choices], name: str) -> Any:
    return next(each.metadata for each in fields(record) if each.name == name)


def value_in(release: Release, steps: tuple[Since, ...]) -> Any:
    """The value that a kernel has, as far as is known: that of the last change that it has."""
    return [step.value for step in steps if step.made_in(release)][-1]


def open_steps(release: Release, steps: tuple[Since, ...]) -> list[Since]:
    """The changes that a kernel may have, as far as is known, and that would make its value another."""
    value = value_in(release, steps) if steps else None
    return [step for step in steps if step.value != value and step.open_in(release)]


def values_in(release: Release, record: type[Choices]) -> dict[str, Any]:
    """Every choice of a record with a history, as that kernel made it."""
    found = {name: history(record, name) for name in hints(record)}
    return {name: value_in(release, steps) for name, steps in found.items() if steps}


_HINTS: dict[Any, dict[str, Any]] = {}


def hints(record: type[Any]) -> dict[str, Any]:
    """The choices of a record, or the fields of another dataclass, and their types."""
    if record not in _HINTS:
        known = get_type_hints(record)
        _HINTS[record] = {field.name: known[field.name] for field in fields(record)}
    return _HINTS[record]


def _as_value(hint: Any, value: object) -> object:
    if isinstance(value, Told):
        return from_text(hint, value)
    return tuple(value) if isinstance(value, list) else value


def is_set(hint: Any) -> bool:
    """Whether a choice of that type is a selection, any number of its options, and not one of them."""
    return get_origin(hint) is tuple


def options(hint: Any) -> tuple[Any, ...]:
    """What a choice of that type may be, or what it may hold; empty for free text."""
    if hint is bool:
        return (False, True)
    return get_args(get_args(hint)[0]) if is_set(hint) else get_args(hint)


def check_value(name: str, hint: Any, value: object) -> None:
    """Refuse a value that a choice of type `hint` cannot have: :class:`BadInput` names what it can."""
    known = options(hint)
    if not known:
        return
    if is_set(hint):
        if not isinstance(value, tuple):
            raise BadInput(f"cannot be {shown(value)}", where=name, fix=f"a list of {', '.join(known)}")
        for each in value:
            if each not in known:
                raise BadInput(f"cannot have {shown(each)}", where=name, fix=f"a list of {', '.join(known)}")
            if value.count(each) > 1:
                raise BadInput(f"has {shown(each)} more than once", where=name, fix=f"a list of {', '.join(known)}")
    elif hint is bool:
        if not isinstance(value, bool):
            raise BadInput(f"want true or false, got {shown(value)}", where=name)
    elif not any(type(value) is type(each) and value == each for each in known):
        raise BadInput(f"cannot be {shown(value)}", where=name, fix=one_of(shown(value).strip('"'), map(str, known)))


def check_types(record: Any) -> None:
    """Refuse fields of a dataclass whose values are of another type than it says: :class:`BadInput`, as for choices."""
    for name, kinds in _kinds(type(record)):
        kind, value = kinds[0], getattr(record, name)
        if type(value) in kinds:
            continue
        if kind is int:
            if isinstance(value, bool) or not isinstance(value, SupportsIndex):
                raise BadInput(f"want a whole number, got {shown(value)}", where=name)
        elif kind is not bool and isinstance(kind, type):
            if not isinstance(value, kind):
                raise BadInput(f"want {described(kind)}, got {shown(value)}", where=name)
        else:
            check_value(name, kind, value)


_KINDS: dict[Any, list[tuple[str, tuple[Any, ...]]]] = {}


def _kinds(record: type[Any]) -> list[tuple[str, tuple[Any, ...]]]:
    """The fields of a dataclass and their types: one, or one and None."""
    if record not in _KINDS:
        told = hints(record).items()
        _KINDS[record] = [(name, get_args(hint) if isinstance(hint, UnionType) else (hint,)) for name, hint in told]
    return _KINDS[record]


def described(kind: type) -> str:
    """What a value of a type is, in words."""
    return "text" if kind is str else f"a {kind.__name__}"


def unknown_choice(name: str, known: Iterable[str]) -> BadInput:
    """The error about a choice that there is not."""
    return BadInput("there is no such choice", where=name, fix=one_of(name, sorted(known)))


def shown(value: object) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(shown, value))}]"
    if isinstance(value, int) and abs(value) >= 1 << 80:
        return "a number of more than 80 bits"
    return "a table" if isinstance(value, dict) else str(value)
