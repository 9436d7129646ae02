"""Attributes of what is no record: an error where kernel state leads to it, or where an actor sets one."""
# SPDX-License-Identifier: GPL-2.0-or-later

from pathlib import Path

import pytest

from memhp.errors import BadInput
from memhp.explore.explored import explore

RACE = """\
from dataclasses import dataclass, replace
from enum import Enum, IntFlag
from functools import cached_property
from memhp.errors import KernelError
from memhp.explore.cases.two_table_allocs import CASE as ANOTHER

class Number(int): pass
class Text(str): pass
class Pair(tuple): pass
class Few(frozenset): pass
class Failure(Exception): pass
@dataclass
class LastError(Exception):
    x: int = 0
class Kind(Enum):
    A = 1
class Flag(IntFlag):
    NONE = 0
    B = 2
    @cached_property
    def label(self): return "b"
def hook(): pass
class Class: pass
def hook_of(one):
    def own(): return one
    return own

@dataclass
class Driver:
    one: object = None

def setter(number):
    def set_x(k):
        k.statics(Driver).one.x = number
    return set_x

def looks(k):
    one = k.statics(Driver).one
    return type(one).__name__, *([int(one & ~Flag.B), one.label, str(Flag.__annotations__)] if one is Flag.B else [])

def build(variant, configuration):
    made = ANOTHER.build(variant, configuration)
    made.kernel.statics(Driver).one = {one}
    return replace(made, actors={actors}, names=("a", "b"), check=lambda k: None)

CASE = replace(ANOTHER, build=build)
"""
VARIANT = "looked-at-again"


def race(folder: Path, one: str, actors: str = "(setter(1), setter(2))") -> str:
    file = folder / "own.py"
    file.write_text(RACE.replace("{one}", one).replace("{actors}", actors), encoding="utf-8")
    return str(file)


@pytest.mark.parametrize("one", ["Number(3)", 'Text("a")', "Pair((1, 2))", "Few({1})", 'Failure("a")', "LastError()"])
def test_an_object_with_attributes_that_is_no_record_is_refused(tmp_path: Path, one: str) -> None:
    with pytest.raises(BadInput, match=r"Driver\.one is a"):
        explore(race(tmp_path, one), VARIANT)


@pytest.mark.parametrize(
    ("one", "name"),
    [("Kind.A", "Kind.A"), ("Flag.B", "Flag.B"), ("hook", "hook"), ("Class", "Class"), ("hook_of(1)", "own")],
)
@pytest.mark.parametrize("actors", ["(setter(1), setter(2))", "(looks, setter(2))"])
def test_who_sets_an_attribute_of_what_is_not_copied_is_told(tmp_path: Path, one: str, name: str, actors: str) -> None:
    with pytest.raises(BadInput, match=rf"[ab] changes (hook_of\.<locals>\.)?{name}\.x, of which nobody is told"):
        explore(race(tmp_path, one, actors), VARIANT)


@pytest.mark.parametrize(
    "one", ["3", '"a"', "(1, 2)", "Kind.A", "Flag.B", "hook_of(1)", "KernelError(22, 'no', place='mm/own.c:f')"]
)
def test_what_nobody_sets_attributes_of_is_as_it_is(tmp_path: Path, one: str) -> None:
    assert explore(race(tmp_path, one, "(looks, looks)"), VARIANT).verdict == "safe"
