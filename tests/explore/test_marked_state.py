"""What CPUs look at without a lock they look at in steps, wherever that is: either order is found."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import pytest

import memhp.linux
from memhp.errors import BadInput, KernelError
from memhp.explore.cases import case
from memhp.explore.cases.actors import pfns
from memhp.explore.cases.near_dimm import add_near, boot_near, near_dimm
from memhp.explore.doors.run import Actor, KernelProgram
from memhp.explore.engine.search import DATA_RACE
from memhp.explore.engine.shortest import decide
from memhp.hw.memory import Owner, Use
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.mm.page_alloc import alloc_pages, free_pages
from memhp.linux.mm.soft_offline import soft_offline_page
from memhp.linux.mm.sparse import offline_mem_sections, online_runs
from memhp.linux.mm.watermarks import setup_per_zone_wmarks
from memhp.linux.state import Kernel
from memhp.spans import Span

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

    with pytest.raises(BadInput, match="frozenset"):
        decide(KernelProgram(machine(), (forgets,), ("one",)).run())
    assert decide(KernelProgram(machine(), (says_so, says_so), ("one", "other")).run()).word == "safe"
