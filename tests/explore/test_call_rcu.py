"""What call_rcu() is given is done after a grace period, at any time, by nobody who waits for it."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass, field

import pytest

from memhp.errors import BadInput, KernelBug
from memhp.explore.cases import case
from memhp.explore.cases.near_dimm import boot_near
from memhp.explore.doors.run import Actor, KernelProgram
from memhp.explore.engine.search import Limits, search
from memhp.explore.engine.shortest import decide
from memhp.explore.engine.verdict import Verdict
from memhp.hw.lifetime import SlabObject, kfree, use_object
from memhp.hw.machine import Machine
from memhp.hw.shared import marked
from memhp.linux.kernel.rcu import call_rcu, rcu_read_lock
from memhp.linux.lib.percpu_refcount import (
    SWITCH_LOCK,
    PercpuRef,
    percpu_ref_exit,
    percpu_ref_kill,
    percpu_ref_put_many,
    percpu_ref_tryget_live,
)
from memhp.linux.state import Kernel
from steppers import Recorder

ORDER = "order"
RELEASE = "drivers/somebody.c:release"


@dataclass
class Thing:
    """Something that is counted by CPU."""

    slab: SlabObject = field(default_factory=lambda: SlabObject("thing"))
    goes: bool = False
    """Whether it is freed with its last reference."""
    completed: bool = field(default=False, metadata=marked(lambda thing: thing.ref.together))
    ref: PercpuRef | None = None

    def release(self) -> None:
        self.completed = True
        if self.goes:
            self.slab.freed_by = RELEASE


@dataclass
class Driver:
    """The variables of a driver."""

    things: list[Thing] = field(default_factory=list)
    order: list[str] = field(default_factory=list, metadata=marked(ORDER))


def machine(*, things: int = 1, goes: bool = False) -> Kernel:
    variant = case("pfn-valid-vs-remove").variant("grace-period")
    k = boot_near(variant.config(variant.configurations[0]))
    for at in range(things):
        thing = Thing(SlabObject(f"thing {at}"), goes)
        thing.ref = PercpuRef(f"thing {at}.ref", thing.release)
        k.statics(Driver).things.append(thing)
    return k


def ref_of(k: Kernel, at: int) -> PercpuRef:
    ref = k.statics(Driver).things[at].ref
    assert ref is not None
    return ref


def kills(k: Kernel, at: int = 0) -> None:
    percpu_ref_kill(k.hw, ref_of(k, at))


def kills_and_waits(k: Kernel, at: int = 0) -> None:
    """As memunmap_pages() does."""
    kills(k, at)
    thing = k.statics(Driver).things[at]
    k.hw.wait(lambda: thing.completed, "completion", ref_of(k, at).together)


def kills_and_uses(k: Kernel) -> None:
    kills(k)
    use_object(k.hw, k.statics(Driver).things[0].slab, "drivers/somebody.c:remove")


def uses(k: Kernel) -> bool:
    taken = percpu_ref_tryget_live(k.hw, ref_of(k, 0))
    if taken:
        use_object(k.hw, k.statics(Driver).things[0].slab, "drivers/somebody.c:io")
        percpu_ref_put_many(k.hw, ref_of(k, 0), 1)
    return taken


def never_gives_back(k: Kernel) -> None:
    percpu_ref_tryget_live(k.hw, ref_of(k, 0))


def verdict(k: Kernel, *actors: Actor) -> Verdict:
    return decide(KernelProgram(k, actors, tuple("ab"[: len(actors)])).run())


def test_who_waits_for_the_last_reference_needs_nobody_else() -> None:
    assert verdict(machine(), kills_and_waits).word == "safe"
    assert verdict(machine(goes=True), kills_and_waits, uses).word == "safe"


def test_a_reference_that_is_never_dropped_is_waited_for_in_vain() -> None:
    failure = verdict(machine(), kills_and_waits, never_gives_back).failure
    assert failure is not None
    assert failure.reason == "deadlock: a at wait for completion"


def test_the_release_function_comes_at_any_time_after_the_grace_period() -> None:
    """percpu_ref_kill() says so: there are no grace periods between kill and release."""
    failure = verdict(machine(goes=True), kills_and_uses).failure
    assert failure is not None
    assert failure.reason == f"use-after-free: thing 0 is used, but {RELEASE} freed it (drivers/somebody.c:remove)"
    assert verdict(machine(), kills_and_uses).word == "safe"


def test_it_does_not_come_before_readers_have_gone_that_were_there_at_the_kill() -> None:
    def kills_within(k: Kernel) -> None:
        with rcu_read_lock(k.hw):
            kills_and_uses(k)

    assert verdict(machine(goes=True), kills_within).word == "safe"
    assert verdict(machine(goes=True), kills_within, uses).word == "safe"


def notes(k: Kernel, name: str) -> None:
    k.hw.atomic(ORDER)
    k.statics(Driver).order.append(name)


def asks_twice(k: Kernel) -> None:
    call_rcu(k.hw, lambda: notes(k, "first"))
    call_rcu(k.hw, lambda: notes(k, "second"))


def test_what_is_given_first_is_done_first() -> None:
    def check(k: Kernel) -> str | None:
        return None if k.statics(Driver).order == ["first", "second"] else "wrong order"

    assert decide(KernelProgram(machine(), (asks_twice, kills), ("a", "b"), check=check).run()).word == "safe"


def test_without_a_search_it_is_done_at_once_or_by_the_last_reader() -> None:
    k = machine(things=2)
    kills(k)
    assert k.statics(Driver).things[0].completed
    with rcu_read_lock(k.hw):
        with rcu_read_lock(k.hw):
            kills(k, 1)
        assert not k.statics(Driver).things[1].completed
    assert k.statics(Driver).things[1].completed


@dataclass
class Object:
    """What its release function frees, which then tells who waits for that."""

    hw: Machine | None = None
    slab: SlabObject = field(default_factory=lambda: SlabObject("object"))
    counted: PercpuRef | None = None
    freed: bool = field(default=False, metadata=marked("freed"))

    def release(self) -> None:
        assert self.hw is not None
        kfree(self.hw, self.slab, RELEASE)
        self.freed = True


@pytest.mark.parametrize("actors", [1, 2])
def test_what_a_release_function_frees_before_it_completes_is_waited_for_by_the_name_of_the_completion(
    actors: int,
) -> None:
    """Freeing is a step by itself: the count's own name says nothing of when the completion comes."""
    k = machine()
    mine = k.statics(Object)
    mine.hw, mine.counted = k.hw, PercpuRef("object.ref", mine.release, mine.slab)

    def waits(k: Kernel, name: str) -> None:
        mine = k.statics(Object)
        assert mine.counted is not None
        percpu_ref_kill(k.hw, mine.counted)
        k.hw.wait(lambda: mine.freed, "completion", name)

    def reads(k: Kernel) -> None:
        k.hw.reads("object")

    def program(name: str) -> KernelProgram:
        return KernelProgram(k, (lambda k: waits(k, name), reads)[:actors], ("a", "b")[:actors])

    assert decide(program("freed").run()).word == "safe"
    with pytest.raises(BadInput, match=r"a wait on object\.ref\.count does 'read freed'"):
        search(program("object.ref.count").run())


def test_what_call_rcu_is_given_is_not_done_under_a_lock_that_spins() -> None:
    k = machine()
    with k.hw.locked("hugetlb_lock"):
        kills(k)
        assert not k.statics(Driver).things[0].completed
    assert k.statics(Driver).things[0].completed


def gives_up(k: Kernel, at: int = 0) -> None:
    """As memunmap_pages() does."""
    kills_and_waits(k, at)
    percpu_ref_exit(k.hw, ref_of(k, at))


def test_counts_are_killed_and_given_up_under_one_lock() -> None:
    """percpu_ref_switch_lock: percpu_ref_kill_and_confirm(), percpu_ref_exit(). A second kill is told of whoever comes
    first.
    """
    k = machine(things=2)
    k.hw.stepper = recorder = Recorder()
    kills(k, 0)
    k.hw.stepper = None
    order = [(access.kind, access.target) for access in recorder.accesses]
    assert order[0] == ("lock", SWITCH_LOCK) and order[-1] == ("unlock", SWITCH_LOCK)
    assert ("atomic", "thing 0.ref.percpu_count_ptr") in order
    assert verdict(machine(things=2), gives_up, lambda k: gives_up(k, 1)).word == "safe"
    failure = verdict(machine(), kills, kills).failure
    assert failure is not None and "thing 0.ref is killed a second time" in failure.reason


def test_a_count_that_was_given_up_has_no_data() -> None:
    k = machine()
    gives_up(k)
    with pytest.raises(KernelBug, match="used after percpu_ref_exit"):
        percpu_ref_put_many(k.hw, ref_of(k, 0), 1)


def kills_one_after_the_other(k: Kernel) -> None:
    kills_and_waits(k)
    kills(k, 1)


PROGRAMS: dict[str, tuple[Actor, ...]] = {
    "one waits": (kills_and_waits, uses),
    "nobody waits": (kills, uses),
    "two kills": (kills, lambda k: kills(k, 1)),
    "two wait": (kills_and_waits, lambda k: kills_and_waits(k, 1)),
    "two give up": (gives_up, lambda k: gives_up(k, 1)),
    "used after": (kills_and_uses,),
    "one after the other": (kills_one_after_the_other, uses),
    "one after the other, alone": (kills_one_after_the_other,),
}
FEW = {"used after", "one after the other, alone"}
"""Those of which every schedule can be tried."""


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_schedule_one_by_one_leads_to_what_the_reduction_finds(name: str) -> None:
    program = KernelProgram(machine(things=2, goes=True), PROGRAMS[name], ("a", "b")[: len(PROGRAMS[name])])
    limits = Limits(executions=None, keep_behaviours=True, keep_classes=True, stop_at_failure=False)
    reduced = search(program.run(), limits)
    full = search(program.run(), limits, reduce=False, budget=8000)
    assert reduced.finished
    assert reduced.coverage.executions == len(reduced.coverage.classes)
    assert full.coverage.classes <= reduced.coverage.classes
    assert full.coverage.behaviours <= reduced.coverage.behaviours
    assert full.finished == (name in FEW)
    if full.finished:
        assert (full.word, full.coverage.classes) == (reduced.word, reduced.coverage.classes)
