"""Every execution of memhp's own code begins with the same kernel, which stands as it stood before the first one."""
# SPDX-License-Identifier: GPL-2.0-or-later

import random
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from kernel_changes import CHANGES, CONFIGURATIONS, booted
from memhp.check import breaches_of, check_all, remember
from memhp.explore.case import Case, Configuration
from memhp.explore.cases import CASES, case
from memhp.explore.doors.announced import announce
from memhp.explore.doors.changeable import parts_of
from memhp.explore.doors.digest import digest
from memhp.explore.doors.kernel_image import KernelImage, likeness
from memhp.explore.doors.rewind import Rewind
from memhp.explore.doors.run import KernelRun
from memhp.explore.engine.search import search
from memhp.linux.state import Kernel


@dataclass(eq=False)
class Mine:
    """Variables of every sort that can change."""

    number: int = 1
    by_name: dict[str, int] = field(default_factory=lambda: {"a": 1, "b": 2})
    names: list[str] = field(default_factory=lambda: ["a"])
    members: set[int] = field(default_factory=lambda: {1, 2})
    inner: "Mine | None" = None


def counting() -> Callable[[int], int]:
    count = 0

    def adds(by: int) -> int:
        nonlocal count
        count += by
        return count

    return adds


def rewound(where: Configuration) -> tuple[Kernel, Rewind]:
    built = booted(where)
    built.statics(Mine).inner = Mine()
    remember(built)
    image = KernelImage(built)
    k = image.copy()
    announce(k, None)
    return k, Rewind(k, image.tables)


def swap(mine: Mine) -> None:
    """The same keys and values in another order."""
    mine.by_name["a"] = mine.by_name.pop("a")


EVERY_CHANGE: dict[str, Callable[[Kernel], object]] = {
    **CHANGES,
    "a line of the log": lambda k: k.hw.log("a line"),
    "a variable": lambda k: setattr(k.statics(Mine), "number", 2),
    "an item": lambda k: k.statics(Mine).by_name.update(a=3),
    "an item gone": lambda k: k.statics(Mine).by_name.pop("a"),
    "the order of items": lambda k: swap(k.statics(Mine)),
    "a list": lambda k: k.statics(Mine).names.append("b"),
    "a set": lambda k: k.statics(Mine).members.add(3),
    "another object, alike": lambda k: setattr(k.statics(Mine), "inner", Mine(2)),
    "no object": lambda k: setattr(k.statics(Mine), "inner", None),
    "what an object holds": lambda k: setattr(k.statics(Mine).inner, "number", 2),
}


@pytest.mark.parametrize("where", CONFIGURATIONS, ids=str)
@pytest.mark.parametrize("what", EVERY_CHANGE)
def test_what_was_done_is_undone(what: str, where: Configuration) -> None:
    k, rewind = rewound(where)
    before = digest(k), likeness(k), rewind.likeness()
    EVERY_CHANGE[what](k)
    after = rewind.likeness()
    assert likeness(k) != before[1]
    assert after != before[2]
    assert rewind.back() is k
    assert (digest(k), likeness(k), rewind.likeness()) == before
    EVERY_CHANGE[what](k)
    assert rewind.likeness() == after


@pytest.mark.parametrize("where", CONFIGURATIONS, ids=str)
def test_what_is_done_and_taken_back_is_as_if_it_had_not_been_done(where: Configuration) -> None:
    k, rewind = rewound(where)
    before = rewind.likeness()
    k.statics(Mine).number = 1000 * 1000
    k.statics(Mine).number = 1
    k.statics(Mine).by_name["a"] = 2
    k.statics(Mine).by_name["a"] = 1
    k.statics(Mine).names.append("b")
    k.statics(Mine).names.pop()
    assert rewind.likeness() == before


@pytest.mark.parametrize("where", CONFIGURATIONS, ids=str)
def test_the_laws_look_at_what_has_changed_since_the_kernel_was_set_back(where: Configuration) -> None:
    k, rewind = rewound(where)
    for _ in range(2):
        assert breaches_of(k) == check_all(k) == []
        first, *_ = max((zone.free for zone in k.zones()), key=len)
        k.page_zone.clear(first[0], first[0] + 1)
        found = check_all(k)
        assert found
        assert breaches_of(k) == found
        rewind.back()


def test_variables_of_functions_and_arrays_are_put_back() -> None:
    adds, array = counting(), np.arange(4)
    assert adds.__closure__ is not None
    for one, does, kept in (
        (adds.__closure__[0], lambda: adds(2), adds.__closure__[0]),
        (array, lambda: array.__setitem__(1, 7), array),
    ):
        (part,) = parts_of(one)
        assert part.now() is None
        does()
        assert part.now() is not None
        part.back()
        assert part.now() is None
        assert one is kept
    assert adds(1) == 1
    assert array.tolist() == [0, 1, 2, 3]


def test_what_cannot_be_set_back_is_refused() -> None:
    with pytest.raises(TypeError, match="how a list_iterator is set back is not known"):
        parts_of(iter([]))


def to_an_end(run: KernelRun, chance: random.Random) -> None:
    """One execution, along any schedule."""
    for _ in range(3000):
        can = [thread for thread, op in enumerate(run.pending) if op is not None and run.enabled(thread)]
        if run.broken is not None or not can:
            return
        thread = chance.choice(can)
        op = run.pending[thread]
        assert op is not None
        run.step(thread, chance.randrange(op.choices))


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.name)
def test_after_any_execution_of_a_race_the_kernel_stands_as_before_the_first(one: Case) -> None:
    chance = random.Random(one.name)
    variant = chance.choice(one.variants)
    run = one.program(variant.name, variant.configurations[0].name).run()

    def begun() -> Hashable:
        run.back(0)
        run._set_up([])
        hw: Any = run._kernel.hw
        stepper, hw.stepper = hw.stepper, None
        stands = likeness(run._kernel), digest(run._kernel)
        hw.stepper = stepper
        return stands

    before = begun()
    for _ in range(3):
        to_an_end(run, chance)
        assert begun() == before
    run.close()


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("dax-dma-vs-truncate", "break-layout"), ("two-table-allocs", "looked-at-again"),
        ("pgd-sync-existing-process", "preallocate"), ("vmalloc-fault", "vmalloc-fault"),
        ("hotadd-allocation-failure", "two-blocks"), ("zonelists-vs-allocation", "online-unseen"),
    ],
)  # fmt: skip
def test_executions_come_to_the_same_whether_they_begin_with_a_copy_or_with_what_was_set_back(
    name: str, variant: str
) -> None:
    """A user's begin with copies."""
    program = case(name).program(variant)
    found = []
    for of_user in (False, True):
        run = replace(program, of_user=of_user).run()
        run.tell_apart(frozenset())
        found.append(search(run, case(name).limits))
        run.close()
    assert found[0] == found[1]
