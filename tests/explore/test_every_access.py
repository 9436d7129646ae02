"""In whatever way a record, dictionary, list or set of an explored kernel is read or written, it is announced."""
# SPDX-License-Identifier: GPL-2.0-or-later

import copy
import json
import operator
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pytest

from memhp.explore.case import Configuration, Variant
from memhp.explore.cases.actors import boot
from memhp.explore.doors.announced import announce
from memhp.explore.doors.containers import WatchedDict, WatchedList, WatchedSet
from memhp.explore.doors.kernel_image import KernelImage, likeness
from memhp.explore.doors.run import KernelProgram
from memhp.explore.engine.shortest import decide
from memhp.hw.stepper import Access
from memhp.linux.state import Kernel

MACHINE = Configuration("riscv64", 4096, 39)


@dataclass
class Counter:
    count: int = 0


@dataclass(frozen=True)
class Frozen:
    inner: list[int] = field(default_factory=lambda: [1])


@dataclass
class Own:
    number: int = 0
    numbers: list[int] = field(default_factory=lambda: [1, 2, 3])
    table: dict[str, int] = field(default_factory=lambda: {"a": 1, "b": 2})
    members: set[int] = field(default_factory=lambda: {1, 2, 3})
    held: tuple[Any, ...] = field(default_factory=lambda: ([1], {"a": 1}, Counter()))
    frozen: Frozen = field(default_factory=Frozen)
    nested: dict[str, tuple[int, list[int]]] = field(default_factory=lambda: {"a": (1, [2])})


class Listener:
    """A stepper that lets everything happen at once, and keeps the names of what is read and written."""

    listens = True
    put_in = None

    def __init__(self, watched: frozenset[str] | None = None) -> None:
        self.watched = watched
        self.heard: set[tuple[str, str]] = set()

    def data(self, name: str, start: int, end: int, *, write: bool) -> None:
        self.heard.add(("write" if write else "read", name))

    def step(self, access: Access) -> None:
        """A step."""

    def wrote(self, sort: str) -> None:
        """A sort of state was written."""

    def takes_in(self, name: str) -> str:
        return name


@pytest.fixture(scope="module")
def image() -> KernelImage:
    k = boot(Variant("as it is", "", "repaired", (MACHINE,)).config(MACHINE))
    k.statics(Own)
    announce(k, None)
    return KernelImage(k)


def heard(image: KernelImage, does: Callable[[Own], object]) -> set[tuple[str, str]]:
    k = image.copy()
    k.hw.stepper = listener = Listener()  # type: ignore[assignment]
    does(k.statics(Own))
    return {(kind, name.removeprefix("Own.")) for kind, name in listener.heard}


def shift(own: Own, name: str, operate: Callable[[Any, Any], Any], by: object) -> None:
    """``own.name += by`` and the like, of what stays the same object."""
    setattr(own, name, operate(getattr(own, name), by))


WRITES: dict[str, list[Callable[[Own], object]]] = {
    "number": [
        lambda own: setattr(own, "number", 1),
        lambda own: delattr(own, "number"),
        lambda own: own.__init__(3),  # type: ignore[misc]
    ],
    "numbers": [
        lambda own: own.numbers.append(1),
        lambda own: own.numbers.extend([1]),
        lambda own: own.numbers.insert(0, 1),
        lambda own: own.numbers.remove(1),
        lambda own: own.numbers.pop(),
        lambda own: own.numbers.clear(),
        lambda own: own.numbers.sort(),
        lambda own: own.numbers.reverse(),
        lambda own: own.numbers.__init__([5]),  # type: ignore[misc]
        lambda own: operator.setitem(own.numbers, 0, 9),
        lambda own: operator.setitem(own.numbers, slice(0, 2), [9]),
        lambda own: operator.delitem(own.numbers, 0),
        lambda own: shift(own, "numbers", operator.iadd, [1]),
        lambda own: shift(own, "numbers", operator.imul, 2),
    ],
    "table": [
        lambda own: own.table.update(a=3),
        lambda own: own.table.setdefault("z", 1),
        lambda own: own.table.pop("a"),
        lambda own: own.table.popitem(),
        lambda own: own.table.clear(),
        lambda own: own.table.__init__(a=6),  # type: ignore[misc]
        lambda own: operator.setitem(own.table, "a", 4),
        lambda own: operator.delitem(own.table, "a"),
        lambda own: shift(own, "table", operator.ior, {"a": 5}),
    ],
    "members": [
        lambda own: own.members.add(7),
        lambda own: own.members.discard(1),
        lambda own: own.members.remove(1),
        lambda own: own.members.pop(),
        lambda own: own.members.clear(),
        lambda own: own.members.update({7}),
        lambda own: own.members.difference_update({1}),
        lambda own: own.members.intersection_update({1}),
        lambda own: own.members.symmetric_difference_update({7}),
        lambda own: own.members.__init__({9}),  # type: ignore[misc]
        lambda own: shift(own, "members", operator.ior, {7}),
        lambda own: shift(own, "members", operator.iand, {1}),
        lambda own: shift(own, "members", operator.isub, {1}),
        lambda own: shift(own, "members", operator.ixor, {7}),
    ],
    "held[0]": [lambda own: own.held[0].append(2)],
    "held[1]": [lambda own: operator.setitem(own.held[1], "a", 2)],
    "held[2].count": [lambda own: setattr(own.held[2], "count", 2)],
    "frozen.inner": [lambda own: own.frozen.inner.append(2)],
    "nested[a][1]": [lambda own: own.nested["a"][1].append(3)],
}
READS: dict[str, list[Callable[[Own], object]]] = {
    "number": [
        lambda own: own.number,
        lambda own: hasattr(own, "number"),
        operator.attrgetter("number"),
        lambda own: object.__getattribute__(own, "number"),
        repr, asdict, replace, copy.copy, copy.deepcopy,
        lambda own: own == Own(),
        lambda own: Own() == own,
    ],
    "numbers": [
        lambda own: list(own.numbers),
        lambda own: [*own.numbers],
        lambda own: tuple(own.numbers),
        lambda own: set(own.numbers),
        lambda own: sorted(own.numbers),
        lambda own: sum(own.numbers),
        lambda own: operator.add([0], own.numbers),
        lambda own: operator.add(own.numbers, [0]),
        lambda own: own.numbers * 2,
        lambda own: 2 * own.numbers,
        lambda own: own.numbers < [1],
        lambda own: operator.le([1], own.numbers),
        lambda own: operator.eq([1], own.numbers),
        lambda own: operator.ne([1], own.numbers),
        lambda own: 1 in own.numbers,
        lambda own: bool(own.numbers),
        lambda own: own.numbers[1:],
        lambda own: own.numbers.count(1),
        lambda own: own.numbers.index(1),
        lambda own: list(reversed(own.numbers)),
        lambda own: copy.copy(own.numbers),
        lambda own: copy.deepcopy(own.numbers),
        lambda own: own.numbers.copy(),
        lambda own: f"{own.numbers}",
        lambda own: json.dumps(own.numbers),
        lambda own: [7].extend(own.numbers),
        lambda own: max(*own.numbers),
    ],
    "table": [
        lambda own: dict(own.table),
        lambda own: {**own.table},
        lambda own: list(own.table),
        lambda own: list(reversed(own.table)),
        lambda own: list(own.table.keys()),
        lambda own: list(own.table.values()),
        lambda own: list(own.table.items()),
        lambda own: own.table | {},
        lambda own: {} | own.table,
        lambda own: own.table == {},
        lambda own: operator.ne({}, own.table),
        lambda own: own.table["a"],
        lambda own: own.table.get("a"),
        lambda own: "a" in own.table,
        lambda own: bool(own.table),
        lambda own: copy.copy(own.table),
        lambda own: copy.deepcopy(own.table),
        lambda own: own.table.copy(),
        lambda own: f"{own.table}",
        lambda own: json.dumps(own.table),
        lambda own: {"c": 3}.update(own.table),
        lambda own: "{a}".format_map(own.table),
    ],
    "members": [
        lambda own: set(own.members),
        lambda own: frozenset(own.members),
        lambda own: list(own.members),
        lambda own: sorted(own.members),
        lambda own: {5}.union(own.members),
        lambda own: {5}.update(own.members),
        lambda own: {5}.difference(own.members),
        lambda own: {5}.intersection(own.members),
        lambda own: {5}.issubset(own.members),
        lambda own: {5}.isdisjoint(own.members),
        lambda own: {5} | own.members,
        lambda own: {5} & own.members,
        lambda own: {5} - own.members,
        lambda own: {5} ^ own.members,
        lambda own: own.members | {5},
        lambda own: own.members & own.members,
        lambda own: own.members - {5},
        lambda own: own.members ^ {5},
        lambda own: {5} <= own.members,
        lambda own: own.members < {5},
        lambda own: {5} == own.members,
        lambda own: {5: 5}.keys() & own.members,
        lambda own: {5: 5}.keys() <= own.members,
        lambda own: {5}.__isub__(set(own.members)),
        lambda own: own.members.union({5}),
        lambda own: own.members.issuperset({5}),
        lambda own: own.members.isdisjoint({5}),
        lambda own: own.members.symmetric_difference({5}),
        lambda own: own.members.copy(),
        lambda own: 1 in own.members,
        lambda own: bool(own.members),
        lambda own: copy.copy(own.members),
        lambda own: copy.deepcopy(own.members),
        lambda own: f"{own.members}",
    ],
    "held[0]": [lambda own: own.held[0][0]],
    "held[1]": [lambda own: own.held[1]["a"]],
    "held[2].count": [lambda own: own.held[2].count],
    "frozen.inner": [lambda own: own.frozen.inner[0]],
    "nested[a][1]": [lambda own: own.nested["a"][1][0]],
}


@pytest.mark.parametrize("name", WRITES)
def test_whatever_changes_state_is_heard_as_a_write(image: KernelImage, name: str) -> None:
    assert [at for at, does in enumerate(WRITES[name]) if ("write", name) not in heard(image, does)] == []


@pytest.mark.parametrize("name", READS)
def test_whatever_looks_at_state_is_heard_as_a_read_and_as_no_write(image: KernelImage, name: str) -> None:
    found = [heard(image, does) for does in READS[name]]
    assert [at for at, said in enumerate(found) if ("read", name) not in said] == []
    assert [at for at, said in enumerate(found) if any(kind == "write" for kind, _ in said)] == []


def test_containers_do_what_built_in_ones_do() -> None:
    """Each of the accesses above, on a record that is explored and on one that is not, and what it gives."""
    k = boot(Variant("as it is", "", "repaired", (MACHINE,)).config(MACHINE))
    k.statics(Own)
    announce(k, None)
    image = KernelImage(k)
    for does in (one for table in (WRITES, READS) for each in table.values() for one in each):
        watched, plain = image.copy().statics(Own), Own()
        said, wanted = does(watched), does(plain)
        if not isinstance(wanted, str | Own):
            assert said == wanted or (said is None) == (wanted is None)
        if does is not WRITES["number"][1]:
            assert watched == plain and plain == watched


LEFT_ALONE = {
    "__class__", "__class_getitem__", "__delattr__", "__dir__", "__doc__", "__format__", "__getattribute__",
    "__getstate__", "__hash__", "__init_subclass__", "__new__", "__reduce__", "__setattr__", "__sizeof__", "__str__",
    "__subclasshook__",
}  # fmt: skip
"""What reads nothing that is in a container, or does so by what else it has."""


@pytest.mark.parametrize(("base", "watched"), [(dict, WatchedDict), (list, WatchedList), (set, WatchedSet)])
def test_no_method_of_a_built_in_container_is_left_as_it_is(base: type, watched: type) -> None:
    unordered = {"__lt__", "__le__", "__gt__", "__ge__"} if base is dict else set()
    same = {name for name in dir(base) if getattr(watched, name, None) is getattr(base, name)}
    assert same - LEFT_ALONE - unordered == set()


def test_a_field_that_a_record_has_not_cannot_come_to_it(image: KernelImage) -> None:
    k = image.copy()
    for holder in (k, k.zones()[0], k.statics(Own)):
        with pytest.raises(TypeError, match=f"a {type(holder).__name__} has no such field"):
            holder.extra = 1  # type: ignore[union-attr]


def test_what_boot_has_set_for_good_cannot_change_while_it_is_explored(image: KernelImage) -> None:
    k = image.copy()
    k.hw.stepper = Listener()  # type: ignore[assignment]
    with pytest.raises(TypeError, match="memory_block_size is set at boot for good"):
        k.memory_block_size = 1


def test_copies_are_nobodys(image: KernelImage) -> None:
    own = image.copy().statics(Own)
    for made in (copy.copy(own), copy.deepcopy(own)):
        assert type(made) is Own and "_announces_to" not in vars(made)
    assert type(copy.deepcopy(own).members) is set
    assert [type(part) for part in asdict(own).values()][1:4] == [list, dict, set]
    assert copy.copy(own).numbers is own.numbers and copy.deepcopy(own).numbers is not own.numbers


def test_kernels_with_equal_sets_are_alike(image: KernelImage) -> None:
    one, other = image.copy(), image.copy()
    one.statics(Own).members.add(7)
    assert likeness(one) != likeness(other)
    other.statics(Own).members.add(7)
    assert likeness(one) == likeness(other)


@pytest.mark.parametrize("name", ["held[0]", "frozen.inner", "members", "table"])
def test_two_that_change_what_a_record_leads_to_without_a_lock_race(name: str) -> None:
    k = boot(Variant("as it is", "", "repaired", (MACHINE,)).config(MACHINE))
    k.statics(Own)

    def change(k: Kernel) -> None:
        WRITES[name][-1](k.statics(Own))

    def look(k: Kernel) -> None:
        READS[name][0](k.statics(Own))

    failure = decide(KernelProgram(k, (change, look), ("changer", "looker")).run()).failure
    assert failure is not None and failure.reason.startswith("data race: ") and f" of Own.{name} by " in failure.reason
