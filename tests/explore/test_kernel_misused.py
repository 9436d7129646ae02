"""Kernel functions that are called for what is not so: what the kernel would do, and never an error of memhp's."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from memhp.errors import BadInput
from memhp.explore.case import Configuration, Variant
from memhp.explore.cases.actors import boot, dimm, laws_hold, refused
from memhp.explore.cases.lone_dimm import boot_lone, lone_dimm
from memhp.explore.doors.run import Actor, KernelProgram
from memhp.explore.engine.shortest import decide
from memhp.hw.shared import marked
from memhp.linux.drivers.base.memory_groups import memory_group_register_static
from memhp.linux.mm.dev_pagemap import DevPagemap, MemoryType, Memremap
from memhp.linux.mm.memory_hotplug_add import MHP_NID_IS_MGID, MHP_NONE, __add_memory, add_memory
from memhp.linux.mm.memory_hotplug_remove import try_remove_memory
from memhp.linux.mm.memremap import memremap_pages, memunmap_pages
from memhp.linux.mm.pgd import pgd_ctor
from memhp.linux.mm.vmalloc import vfree, vmalloc
from memhp.linux.state import Kernel

RISCV = Configuration("riscv64", 4096, 48)
OLD = Configuration("arm64", 65536, 48, "linux-6.1")


def booted(machine: Configuration = RISCV) -> Kernel:
    return boot(Variant("", "", "broken", (machine,)).config(machine))


def reasons(k: Kernel, *actors: Actor, **more: Any) -> list[str]:
    """What goes wrong with the actors in both orders, reduced and not; "" for nothing."""
    names = tuple("abc"[: len(actors)])
    one = KernelProgram(k, actors, names, **more)
    turned = replace(one, actors=actors[::-1], names=names[::-1])
    found = [decide(program.run()).failure for program in (one, turned)]
    return ["" if each is None else each.reason for each in found]


def test_a_page_map_that_two_take_away_is_killed_a_second_time() -> None:
    """lib/percpu-refcount.c:percpu_ref_kill_and_confirm warns of it."""
    k = booted()
    pgmap = DevPagemap(MemoryType.GENERIC, (dimm(k),), owner="dev")
    memremap_pages(k, pgmap, 0)
    k.statics(Memremap).drvdata["dev"] = pgmap

    def unbind(k: Kernel) -> None:
        memunmap_pages(k, k.statics(Memremap).drvdata["dev"])

    assert all(reason for reason in reasons(k, unbind, unbind))


def test_an_area_that_two_free_is_freed_once_and_the_other_is_warned() -> None:
    """mm/vmalloc.c:vfree: remove_vm_area() gives it to one of them, "Trying to vfree() nonexistent vm area"."""
    k = booted()
    vmalloc(k, 4096, "buffer")

    def free(k: Kernel) -> None:
        vfree(k, "buffer")

    def warned(k: Kernel) -> str | None:
        lines = sum("nonexistent vm area" in line.text for line in k.hw.log_lines)
        return laws_hold(k) or (None if lines == 1 else f"{lines} warnings")

    assert reasons(k, free, free, check=warned) == ["", ""]


def test_what_kernel_code_asserts_is_as_a_bug_of_the_kernel() -> None:
    """arm64 has no list of root tables, and nobody calls pgd_ctor() there."""
    k = booted(OLD)

    def misuse(k: Kernel) -> None:
        pgd_ctor(k, k.init_mm, [], "own.c:misuse")

    for reason in reasons(k, misuse, lambda k: None):
        assert "goes by what is not so: assert isinstance(record, OwnRootTables)" in reason


def test_what_an_actor_asserts_itself_is_an_error_of_the_actor() -> None:
    def wrong(k: Kernel) -> None:
        raise AssertionError("mine")

    with pytest.raises(BadInput, match="AssertionError: mine"):
        reasons(booted(), wrong, lambda k: None)


def test_an_entry_below_the_first_is_no_entry() -> None:
    """An index that is one too small names no other entry, as a negative one does to Python."""
    for access in (
        lambda k: k.hw.load(k.init_mm, -1),
        lambda k: k.hw.store(k.init_mm, -1, 0, "own.c:stores"),
        lambda k: k.hw.load_run(k.init_mm, -2, 2),
    ):
        with pytest.raises(BadInput, match=r"entry -[12] of a page table"):
            reasons(booted(), access, lambda k: None)


@dataclass
class Driver:
    said: bool = field(default=False, metadata=marked("said"))


def test_who_waits_looks_and_changes_nothing() -> None:
    """A wait under a lock for what another says under it: a deadlock, though the wait is the first to ask for it."""

    def waits(k: Kernel) -> None:
        with k.hw.locked("L"):
            k.hw.wait(lambda: k.statics(Driver).said, "the other", on="said")

    def says(k: Kernel) -> None:
        with k.hw.locked("L"):
            k.statics(Driver).said = True

    assert [reason.partition(":")[0] for reason in reasons(booted(), waits, says, of_user=True)] == ["deadlock"] * 2


@pytest.mark.parametrize("grouped", [True, False])
def test_the_list_of_a_group_is_the_only_thing_that_no_lock_keeps_in_6_1(grouped: bool) -> None:
    """drivers/base/memory.c of 6.1: list_add() under mem_hotplug_lock, list_del() before try_remove_memory() takes it.

    Without device_hotplug_lock, as drivers must not. Links below a node are in sysfs, which keeps itself in order.
    """
    k = boot_lone(Variant("", "", "broken", (OLD,), options={"rodata_full": False}).config(OLD), dimms=2)
    group = memory_group_register_static(k, 0, 1 << 24)
    nid, flags = (group, MHP_NID_IS_MGID) if grouped else (0, MHP_NONE)
    first = lone_dimm(k, 0)
    add_memory(k, nid, first.start, first.size, flags)

    @refused
    def adds(k: Kernel) -> None:
        second = lone_dimm(k, 1)
        __add_memory(k, nid, second.start, second.size, flags)

    @refused
    def removes(k: Kernel) -> None:
        try_remove_memory(k, first.start, first.size)

    found = reasons(k, adds, removes, check=laws_hold)
    assert [".links" in reason for reason in found] == [grouped] * 2
    assert grouped or found == ["", ""]
