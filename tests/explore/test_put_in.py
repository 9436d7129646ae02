"""What an actor of a user's puts into kernel state is copied there: to change what he kept of it is an error."""
# SPDX-License-Identifier: GPL-2.0-or-later

from pathlib import Path

import pytest

from memhp.errors import BadInput
from memhp.explore.explored import explore

RACE = """\
from dataclasses import dataclass, field, replace
from memhp.explore.cases.two_table_allocs import CASE as ANOTHER
from memhp.hw.locks import Lock
from memhp.spans import SpanMap, SpanSet

@dataclass
class Driver:
    table: object = None
    tables: dict[int, object] = field(default_factory=dict)
    {field}

def maker(k):
    d = {make}
    with k.hw.locked("lock"):
        {put}
    with k.hw.locked("lock"):
        {then}

def reader(k):
    with k.hw.locked("lock"):
        return k.statics(Driver).table is None

def build(variant, configuration):
    made = ANOTHER.build(variant, configuration)
    made.kernel.statics(Driver)
    return replace(made, actors=(maker, reader), names=("maker", "reader"), check=lambda k: None)

CASE = replace(ANOTHER, build=build)
"""
VARIANT = "looked-at-again"
INTO_TABLE = "k.statics(Driver).table = d"


def race(folder: Path, make: str, put: str, then: str, field: str = "") -> str:
    file = folder / "own.py"
    file.write_text(RACE.format(make=make, put=put, then=then, field=field), encoding="utf-8")
    return str(file)


@pytest.mark.parametrize(
    ("make", "then"),
    [
        ("{}", "d[5] = 1"), ("{5: 1}", "del d[5]"), ("[]", "d.append(5)"), ("[1, 2]", "d.reverse()"),
        ("set()", "d.add(5)"), ("SpanMap()", "d.set(5, 6, 1)"), ("SpanSet()", "d.add(5, 6)"),
        ("({},)", "d[0][5] = 1"), ("{1: [2]}", "d[1].append(3)"),
    ],
)  # fmt: skip
def test_what_was_put_in_and_is_changed_where_it_came_from_is_an_error(tmp_path: Path, make: str, then: str) -> None:
    with pytest.raises(BadInput) as error:
        explore(race(tmp_path, make, INTO_TABLE, then), VARIANT)
    assert str(error.value).startswith(f"{tmp_path}/own.py:12: what own.py:15 put into Driver.table")
    assert "is copied there, and was changed where it came from (change what stands in Driver.table" in str(error.value)


def test_so_is_one_that_is_given_a_name_and_a_place_at_once(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"put into Driver\.tables"):
        explore(race(tmp_path, "None", "d = k.statics(Driver).tables[7] = []", "d.append(1)"), VARIANT)


@pytest.mark.parametrize(
    "then",
    ["k.statics(Driver).table[5] = 1", "len(d)", "d = {}; d[5] = 1", "k.statics(Driver).table = {**d, 5: 1}"],
)
def test_what_stands_there_may_be_changed_and_what_was_kept_be_read(tmp_path: Path, then: str) -> None:
    assert explore(race(tmp_path, "{}", INTO_TABLE, then), VARIANT).verdict == "safe"


def test_a_part_of_the_machine_in_a_record_of_ones_own_is_refused(tmp_path: Path) -> None:
    """Nobody would hear of what is done with it: only the machine itself has doors."""
    own = race(tmp_path, "{}", INTO_TABLE, "len(d)", 'own: Lock = field(default_factory=lambda: Lock("own"))')
    with pytest.raises(BadInput, match=r"Driver\.own\.\w+ is a \w+: how accesses to it are announced is not known"):
        explore(own, VARIANT)


IN_TWO_PLACES = """\
from dataclasses import dataclass, field, replace
from memhp.explore.cases.two_table_allocs import CASE as ANOTHER

@dataclass
class Driver:
    one: list[int] = field(default_factory=list)
    other: list[int] = field(default_factory=list)

def publish(k):
    d = k.statics(Driver)
    {publish}

def writes(k):
    {first}
    with k.hw.locked("one"):
        k.statics(Driver).one.append(7)

def reads(k):
    with k.hw.locked("other"):
        return len(k.statics(Driver).other)

def build(variant, configuration):
    made = ANOTHER.build(variant, configuration)
    made.kernel.statics(Driver)
    {built}
    return replace(made, actors=(writes, reads), names=("writes", "reads"), check=lambda k: None)

CASE = replace(ANOTHER, build=build)
"""
TOGETHER = "d.one = d.other = [1]"


@pytest.mark.parametrize(
    ("publish", "first", "built"),
    [(TOGETHER, "pass", "publish(made.kernel)"), (TOGETHER, "publish(k)", "pass"),
     ("b = [1]; d.one = b; d.other = b", "publish(k)", "pass"), ("d.other = d.one", "pass", "publish(made.kernel)")],
)  # fmt: skip
def test_a_list_that_stands_in_two_places_is_one(tmp_path: Path, publish: str, first: str, built: str) -> None:
    """Whoever changes it by one of its names, under that one's lock, races with who reads it by the other."""
    file = tmp_path / "own.py"
    file.write_text(IN_TWO_PLACES.format(publish=publish, first=first, built=built), encoding="utf-8")
    found = explore(str(file), VARIANT)
    assert found.verdict == "broken"
    assert found.trace is not None
    assert "data race: write of Driver.o" in (found.trace.reason or "")


@pytest.mark.parametrize("then", ["d.tables.pop(3); buf.append(1)", "d.tables[3] = []; buf.append(1)"])
def test_what_stands_there_no_more_may_be_used_again(tmp_path: Path, then: str) -> None:
    make, put = "k.statics(Driver); buf = []", "d.tables[3] = buf"
    assert explore(race(tmp_path, make, put, then), VARIANT).verdict == "safe"
