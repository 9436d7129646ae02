"""What is wrong with a scenario, told to its author: the key, what it may be, and what it is.

A decoder's error names a place and the types it knows; here the schema at that place is looked up, and the value that
stands there, so that the message can say what to write instead.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import msgspec
from msgspec import inspect

from memhp.errors import BadInput, one_of
from memhp.scenario.schema import Scenario

_LISTS = (inspect.ListType, inspect.VarTupleType)
_MESSAGE = re.compile(r"(?P<what>.*?)(?: - at `\$\.?(?P<path>.*)`)?", re.DOTALL)
_PART = re.compile(r"\[(\d+)\]|([^.\[\]]+)")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`", re.DOTALL)

FAR = (1 << 31) - 1
"""From here on an upper bound tells nobody anything."""

MOST_QUOTED = 60
"""Characters of a value that are shown."""

EXAMPLES = {
    "machine": 'preset = "riscv-vm", source = "…" or arch = "riscv64" under [machine]',
    "size": 'size = "128M"',
    "at": 'at = "0x100000000"',
    "process": 'process = "init"',
}
"""What to write for the keys that must be there."""

TABLES = {
    "machine": EXAMPLES["machine"],
    "steps": '[[steps]] and do = "plug" below it',
    "choices": 'choices = { pgd_policy = "none" }',
}
"""What to write for the tables whose keys are many, or not the schema's."""


def explained(error: msgspec.ValidationError, data: object, where: str, *, of: Any = Scenario) -> BadInput:
    """A decoder's error about `data`, what TOML has for a type (a scenario), in words; `where` names the file."""
    match = _MESSAGE.fullmatch(str(error))
    assert match is not None
    what, path = match["what"], match["path"] or ""
    kind, value = _follow(path, data, _schema(of))
    key = f"{where}: {path}" if path else where
    if unknown := _UNKNOWN.fullmatch(what):
        key = f"{key}.{unknown[1]}" if path else f"{where}: {unknown[1]}"
        return BadInput("there is no such key", where=key, fix=_unknown_key(unknown[1], kind, value))
    if missing := _MISSING.fullmatch(what):
        fix = f"write {EXAMPLES[missing[1]]}" if missing[1] in EXAMPLES else f"one of {', '.join(_tags(kind))}"
        return BadInput(f"the key {missing[1]} is missing", where=key, fix=fix)
    names_step = path.rpartition(".")[2] == "do"
    options = _tags(kind) if names_step else _options(kind)
    if options and isinstance(value, str):
        return BadInput(f"cannot be {quoted(value)}", where=key, fix=one_of(value, options))
    if names_step:
        return BadInput(f"want the name of a step in quotes, got {quoted(value)}", where=key, fix=one_of("", options))
    fix = "" if isinstance(value, dict) else _table_meant(path, kind)
    return BadInput(f"want {' or '.join(_wanted(kind))}, got {quoted(value)}", where=key, fix=fix)


def _table_meant(path: str, kind: inspect.Type) -> str:
    """What to write where a table is wanted, and nothing else than one."""
    name = path.rpartition(".")[2].partition("[")[0]
    if name in TABLES:
        return f"write {TABLES[name]}"
    tables = len(_structs(kind)) == len(list(_members(kind)))
    return f"its keys are {', '.join(_keys(kind))}" if tables else ""


def _unknown_key(name: str, kind: inspect.Type, value: object) -> str:
    """What to do about a key that is not known where it stands; of a step, one that its kind has."""
    if name in _keys(_schema(Scenario)) and name not in _keys(kind):
        return f"{name} belongs to the scenario itself: write it above [machine]"
    own = _keys(kind, value)
    others = [str(each.tag) for each in _structs(kind) if name in (field.encode_name for field in each.fields)]
    if others and name not in own:
        return f"of steps, {' and '.join(others)} {'has' if len(others) == 1 else 'have'} it"
    return one_of(name, own)


def quoted(value: object) -> str:
    """A value as TOML writes it, or what kind of value it is."""
    if isinstance(value, str | bool | int | float):
        text = json.dumps(value, ensure_ascii=False) if not isinstance(value, int) or value < 1 << 80 else f"{value:#x}"
        return text if len(text) <= MOST_QUOTED else f"{text[:MOST_QUOTED]}…"
    if isinstance(value, dict):
        return "a table"
    return "a list" if isinstance(value, list) else "a date or a time"


@cache
def _schema(of: Any) -> inspect.Type:
    return inspect.type_info(of)


def _follow(path: str, data: object, kind: inspect.Type) -> tuple[inspect.Type, object]:
    """The schema's type, from `kind` on, and the value at a path; for ``do``, the type of the step that it would
    name.
    """
    value = data
    for number, name in _PART.findall(path):
        if number:
            kind = next((each.item_type for each in _members(kind) if isinstance(each, _LISTS)), kind)
            value = value[int(number)] if isinstance(value, list) and int(number) < len(value) else value
            continue
        fields = {field.encode_name: field.type for each in _structs(kind, value) for field in each.fields}
        kind = fields.get(name, kind)
        value = value.get(name) if isinstance(value, dict) else value
    return kind, value


def _members(kind: inspect.Type) -> Iterator[inspect.Type]:
    """The types that a value may have, null left out: TOML has none."""
    for each in kind.types if isinstance(kind, inspect.UnionType) else (kind,):
        if not isinstance(each, inspect.NoneType):
            yield each


def _structs(kind: inspect.Type, value: object = None) -> list[inspect.StructType]:
    """The kinds of table that a value may be; of steps the one that its ``do`` names."""
    found = [each for each in _members(kind) if isinstance(each, inspect.StructType)]
    tag = value.get("do") if isinstance(value, dict) else None
    return [each for each in found if each.tag == tag] or found


def _keys(kind: inspect.Type, value: object = None) -> list[str]:
    return list(dict.fromkeys(field.encode_name for each in _structs(kind, value) for field in each.fields))


def _tags(kind: inspect.Type) -> list[str]:
    """What ``do`` may be."""
    return [str(each.tag) for each in _structs(kind) if each.tag is not None]


def _options(kind: inspect.Type) -> list[str]:
    return [str(value) for each in _members(kind) if isinstance(each, inspect.LiteralType) for value in each.values]


def _wanted(kind: inspect.Type) -> Iterator[str]:
    """What may stand here, in words."""
    members = list(_members(kind))
    size = {inspect.StrType, inspect.IntType} <= {type(each) for each in members}
    if size:
        yield 'a size or an address such as "128M" or 0x8000000'
    for each in members:
        if isinstance(each, inspect.FloatType):
            yield f"a number{_bounds(each)}"
        elif isinstance(each, inspect.IntType) and not size and inspect.FloatType not in map(type, members):
            yield f"a whole number{_bounds(each)}"
        elif isinstance(each, inspect.StrType) and not size:
            yield "text in quotes"
        elif isinstance(each, inspect.BoolType):
            yield "true or false"
        elif isinstance(each, inspect.LiteralType):
            yield f"one of {', '.join(quoted(value) for value in each.values)}"
        elif isinstance(each, _LISTS):
            yield f"a list of {_items(each.item_type)}"
    if _structs(kind) or any(isinstance(each, inspect.DictType) for each in members):
        yield "a table"


def _items(kind: inspect.Type) -> str:
    if _structs(kind):
        return "tables"
    return "whole numbers" if isinstance(kind, inspect.IntType) else " or ".join(_wanted(kind))


def _bounds(kind: inspect.IntType | inspect.FloatType) -> str:
    if kind.ge is not None and kind.le is not None and kind.le < FAR:
        return f" from {kind.ge} to {kind.le}"
    return f" of {kind.ge} or more" if kind.ge is not None else ""
