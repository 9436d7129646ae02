"""What CPUs look at without a lock they look at in steps, wherever that is: either order is found."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path

import pytest

import memhp.linux
from memhp.errors import BadInput, KernelError
from memhp.explore.cases import case
from memhp.explore.cases.actors import pfns
from memhp.explore.cases.near_dimm import add_near, boot_near, near_dimm
from memhp.explore.doors.run import Actor, KernelProgram
from memhp.explore.engine.search import DATA_RACE, search
from memhp.explore.engine.shortest import decide
from memhp.hw.memory import Owner, Use
from memhp.hw.shared import marked
from memhp.linux.drivers.base.memory_groups import memory_group_register_dynamic
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.drivers.virtio.virtio_mem_fake_offline import OnlinePages
from memhp.linux.drivers.virtio.virtio_mem_state import MbState, VirtioMem
from memhp.linux.mm.dev_pagemap import DevPagemap, MemoryType, Memremap
from memhp.linux.mm.memremap import memremap_pages
from memhp.linux.mm.page_alloc import alloc_pages, free_pages
from memhp.linux.mm.rmqueue import arrive
from memhp.linux.mm.soft_offline import soft_offline_page
from memhp.linux.mm.sparse import offline_mem_sections, online_runs
from memhp.linux.mm.watermarks import setup_per_zone_wmarks
from memhp.linux.state import Kernel
from memhp.spans import Span, SpanMap, SpanSet

ALLOC = "mm/page_alloc.c:alloc_pages"
KERNEL, MOVABLE = Owner(Use.KERNEL, "somebody"), Owner(Use.MOVABLE, "somebody")


@dataclass
class Seen:
    """What an actor saw, and what it was given before."""

    that: bool = False
    page: Span | None = None


def machine(*, exhausted: bool = False) -> Kernel:
    """A machine with an offline memory block; `exhausted`: no page is free above the marks."""
    variant = case("pfn-valid-vs-remove").variant("grace-period")
    k = boot_near(variant.config(variant.configurations[0]))
    add_near(k)
    k.statics(Seen)
    while exhausted and alloc_pages(k, 0, 0, count=1 << 20, owner=KERNEL, where=ALLOC):
        pass
    return k


def block(k: Kernel) -> int:
    return near_dimm(k).start // k.memory_block_size


def goes_online(k: Kernel) -> None:
    state_store(k, block(k), "online_movable")


def takes_a_page_of_the_block(k: Kernel) -> None:
    page = alloc_pages(k, 0, 0, movable=True, owner=MOVABLE, where=ALLOC)[0]
    k.statics(Seen).that = page.start in pfns(k, near_dimm(k))


def lowers_the_marks(k: Kernel) -> None:
    setup_per_zone_wmarks(k, 64)


def gets_a_page(k: Kernel) -> None:
    k.statics(Seen).that = bool(alloc_pages(k, 0, 0, owner=KERNEL, where=ALLOC))


def with_a_page() -> Kernel:
    k = machine()
    k.statics(Seen).page = alloc_pages(k, 0, 0, owner=KERNEL, where=ALLOC)[0]
    return k


def frees_it(k: Kernel) -> None:
    page = k.statics(Seen).page
    assert page is not None
    free_pages(k, [page], ALLOC)


def may_take_it_offline(k: Kernel) -> None:
    page = k.statics(Seen).page
    assert page is not None
    try:
        soft_offline_page(k, page.start)
    except KernelError:
        return
    k.statics(Seen).that = True



def sees_them_online(k: Kernel) -> None:
    first = next(iter(k.mem_section))[0] * k.config.pages_per_section
    k.statics(Seen).that = bool(list(online_runs(k, first, first + k.config.pages_per_section)))


def the_first_goes_offline(k: Kernel) -> None:
    first = next(iter(k.mem_section))[0] * k.config.pages_per_section
    offline_mem_sections(k, first, first + k.config.pages_per_section)


PAIRS: dict[str, tuple[Callable[[], Kernel], Actor, Actor]] = {
    "managed pages": (machine, goes_online, takes_a_page_of_the_block),
    "watermarks": (lambda: machine(exhausted=True), lowers_the_marks, gets_a_page),
    "who uses a page": (with_a_page, frees_it, may_take_it_offline),
    "sections": (machine, the_first_goes_offline, sees_them_online),
}


@pytest.mark.parametrize("seen", [True, False])
@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("what", PAIRS)
def test_either_order_of_a_change_and_a_look_is_found_whoever_comes_first(what: str, order: int, seen: bool) -> None:
    build, *pair = PAIRS[what]
    actors = list(permutations(pair))[order]

    def check(k: Kernel) -> str | None:
        return "found" if k.statics(Seen).that == seen else None

    program = KernelProgram(build(), actors, ("one", "other"), check=check)
    verdict = decide(program.run())
    assert verdict.failure is not None
    assert verdict.failure.reason == "found"


def test_kernel_code_learns_who_uses_a_page_in_steps_only() -> None:
    files = Path(memhp.linux.__file__).parent.rglob("*.py")
    assert [file.name for file in files if "memory.owners" in file.read_text()] == []


def withdraws(k: Kernel) -> None:
    k.memory_blocks.withdraw(block(k), block(k) + 1)


@pytest.mark.parametrize("order", [0, 1])
def test_to_take_a_block_from_the_xarray_races_with_a_look_at_its_place_that_is_no_look_up(order: int) -> None:
    def looks(k: Kernel) -> Hashable:
        return k.memory_blocks.get(block(k)) is not None

    verdict = decide(KernelProgram(machine(), list(permutations((withdraws, looks)))[order], ("one", "other")).run())
    assert verdict.failure is not None
    assert verdict.failure.reason.startswith(f"{DATA_RACE}: ")
    assert "memory_blocks" in verdict.failure.reason


def test_to_look_a_block_up_in_the_xarray_does_not_race_with_its_being_taken_out() -> None:
    def looks_up(k: Kernel) -> Hashable:
        return k.memory_blocks.lookup(block(k)) is not None

    assert decide(KernelProgram(machine(), (withdraws, looks_up), ("one", "other")).run()).word == "safe"


def test_what_is_in_a_marked_container_cannot_be_changed_without_a_step_that_says_so() -> None:
    def forgets(k: Kernel) -> None:
        k.warned.add("something")

    def says_so(k: Kernel) -> Hashable:
        return k.warn_once("something")

    with pytest.raises(BadInput, match=r"marked field .__already_done. is changed right after k\.hw\.writes"):
        decide(KernelProgram(machine(), (forgets,), ("one",)).run())
    assert decide(KernelProgram(machine(), (says_so, says_so), ("one", "other")).run()).word == "safe"


@dataclass
class Own:
    """Variables with marked containers."""

    numbers: list[int] = field(default_factory=lambda: [3, 1], metadata=marked("numbers"))
    names: set[str] = field(default_factory=lambda: {"a"}, metadata=marked("names"))
    by_name: dict[str, int] = field(default_factory=lambda: {"a": 1}, metadata=marked("by_name"))


def test_a_marked_container_that_is_only_read_is_as_it_is_when_nobody_looks_on() -> None:
    def reads(k: Kernel) -> Hashable:
        own = k.statics(Own)
        numbers, names, by_name = own.numbers, own.names, own.by_name
        assert numbers == [3, 1] and numbers * 2 == [3, 1, 3, 1] and isinstance(numbers, list)
        assert names == {"a"} and names | {"b"} == {"a", "b"} and isinstance(names, set)
        assert by_name == {"a": 1} and by_name | {"b": 2} == {"a": 1, "b": 2} and list(reversed(by_name)) == ["a"]
        return numbers.index(1), str(by_name), by_name.copy().pop("a")

    k = machine()
    reads(k)
    assert search(KernelProgram(k, (reads,), ("one",)).run()).word == "safe"


@pytest.mark.parametrize(
    "does",
    ["numbers.append(1)", "numbers[0] = 1", "numbers.sort()", "names.add('b')", "by_name.pop('a')", "by_name['b'] = 1"],
)
def test_how_a_marked_container_is_changed_is_told_to_who_tries(does: str) -> None:
    def tries(k: Kernel) -> None:
        exec(f"own.{does}", {"own": k.statics(Own)})

    def says_so(k: Kernel) -> None:
        k.hw.writes(does.partition(".")[0].partition("[")[0])
        tries(k)

    k = machine()
    k.statics(Own)
    with pytest.raises(BadInput, match=r"one raised TypeError: .* is changed right after k.hw.writes"):
        search(KernelProgram(k, (tries,), ("one",)).run())
    assert search(KernelProgram(k, (says_so,), ("one",)).run()).word == "safe"


def of_the_group(k: Kernel) -> None:
    k.memory_groups[0].present_movable_pages += 1


def with_a_group() -> Kernel:
    k = machine()
    memory_group_register_dynamic(k, 0, k.pages_per_block)
    return k


def of_the_mapping(k: Kernel) -> None:
    mapping = k.statics(Memremap).pgmap_array.get(pfns(k, near_dimm(k)).start)
    assert mapping is not None
    mapping.nr_range += 1


def with_a_mapping() -> Kernel:
    k = boot_near(machine().config)
    memremap_pages(k, DevPagemap(MemoryType.GENERIC, (Span(near_dimm(k).start, near_dimm(k).end),)), 0)
    return k


def of_the_lists(k: Kernel) -> None:
    zone = next(zone for zone in k.zones() if zone.managed)
    arrive(zone, Span(zone.start_pfn, zone.start_pfn + 1), k.config.max_page_order)


FOUND: dict[str, tuple[Callable[[], Kernel], Callable[[Kernel], None]]] = {
    "memory_groups[0].present_movable_pages": (with_a_group, of_the_group),
    "pgmap_array[0xa0000].nr_range": (with_a_mapping, of_the_mapping),
    "nodes[0].zones[DMA32].arrivals itself": (machine, of_the_lists),
}
"""What is found in a step and has no lock of its own, or is part of lists that have one."""


@pytest.mark.parametrize("name", FOUND)
def test_what_is_found_without_a_lock_needs_one_to_be_changed(name: str) -> None:
    build, change = FOUND[name]

    def locked(k: Kernel) -> None:
        with k.hw.locked("a_lock"):
            change(k)

    failure = decide(KernelProgram(build(), (change, locked), ("one", "other")).run()).failure
    assert failure is not None
    assert failure.reason.startswith(f"{DATA_RACE}: ")
    assert f" of {name} by one" in failure.reason
    assert decide(KernelProgram(build(), (locked, locked), ("one", "other")).run()).word == "safe"


def test_the_drivers_state_of_a_block_is_not_read_without_its_mutex() -> None:
    """virtio_mem_sbm_set_mb_state() is called under vm->hotplug_mutex by whoever hears of memory that changes."""
    k = case("online-vs-unplug").program("sub-block-grow-online-ACK").kernel

    def device(k: Kernel) -> VirtioMem:
        return k.statics(OnlinePages).virtio_mem_devices[0]

    def reads(k: Kernel) -> None:
        blocks = device(k).sbm.blocks
        blocks.get(blocks.first_id)

    def changes(k: Kernel) -> None:
        vm = device(k)
        with k.hw.locked(vm.hotplug_mutex):
            vm.sbm.blocks.move(vm.sbm.blocks.first_id, MbState.MOVABLE)

    failure = decide(KernelProgram(k, (changes, reads), ("notifier", "reader")).run()).failure
    assert failure is not None
    assert failure.reason.startswith(f"{DATA_RACE}: ")


@dataclass
class Lists:
    """A container of each sort that a marked field may have."""

    numbers: list[int] = field(default_factory=lambda: [1], metadata=marked("numbers"))
    table: dict[str, int] = field(default_factory=lambda: {"a": 1}, metadata=marked("table"))
    spans: SpanMap[int] = field(default_factory=lambda: SpanMap([(1, 2, 3)]), metadata=marked("spans"))
    members: SpanSet = field(default_factory=lambda: SpanSet([(1, 2)]), metadata=marked("members"))


CHANGES: dict[str, Callable[[Lists], object]] = {
    "numbers": lambda lists: lists.numbers.append(2),
    "table": lambda lists: lists.table.update(b=2),
    "spans": lambda lists: lists.spans.clear(1, 2),
    "members": lambda lists: lists.members.add(5, 6),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_container_of_a_marked_field_that_somebody_holds_on_to_changes_in_a_step_of_its_own(name: str) -> None:
    """Either order with a look is found, though the change comes behind a step that was about something else."""
    k = machine()
    k.statics(Lists)
    k.statics(Seen)

    def changes(k: Kernel) -> None:
        lists = k.statics(Lists)
        k.hw.atomic(name)
        held = Lists(*([getattr(lists, name)] * 4))
        k.hw.reads("something else")
        CHANGES[name](held)

    def looks(k: Kernel) -> None:
        before = repr(getattr(k.statics(Lists), name))
        k.hw.reads("something else")
        k.statics(Seen).that = repr(getattr(k.statics(Lists), name)) != before

    def check(k: Kernel) -> str | None:
        return "found" if k.statics(Seen).that else None

    for pair in permutations((changes, looks)):
        failure = decide(KernelProgram(k, pair, ("one", "other"), check=check).run()).failure
        assert failure is not None
        assert failure.reason == "found"


@pytest.mark.parametrize("name", ["numbers", "table"])
def test_no_container_of_a_marked_field_that_is_read_can_be_changed(name: str) -> None:
    k = machine()
    k.statics(Lists)

    def forgets(k: Kernel) -> None:
        CHANGES[name](k.statics(Lists))

    def says_so(k: Kernel) -> None:
        k.hw.atomic(name)
        CHANGES[name](k.statics(Lists))

    with pytest.raises(BadInput, match="one raised"):
        decide(KernelProgram(k, (forgets,), ("one",)).run())
    assert decide(KernelProgram(k, (says_so, says_so), ("one", "other")).run()).word == "safe"


def test_what_a_wait_was_for_is_looked_at_behind_it_without_a_step_more() -> None:
    k = machine()

    def waits(k: Kernel) -> Hashable:
        k.hw.wait(lambda: len(k.statics(Lists).numbers) > 1, "a number", on="numbers")
        return k.statics(Lists).numbers[-1]

    def adds(k: Kernel) -> None:
        k.hw.atomic("numbers")
        k.statics(Lists).numbers.append(2)

    k.statics(Lists)
    verdict = decide(KernelProgram(k, (waits, adds), ("one", "other")).run())
    assert (verdict.word, verdict.coverage.executions) == ("safe", 1)
