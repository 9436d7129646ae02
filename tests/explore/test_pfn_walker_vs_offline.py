"""Struct pages read by PFN while their memory goes offline and away."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from deciding import behaviours, counterexample, in_turn
from memhp.explore.case import Configuration
from memhp.explore.cases.near_dimm import add_near, boot_near, near_dimm
from memhp.explore.cases.pfn_walker_vs_offline import CASE
from memhp.hw.lifetime import read_memory, walk
from memhp.hw.memory import Owner, Use
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.fs.proc.page import kpagecount_read
from memhp.linux.mm.sparse import pfn_to_online_page
from memhp.linux.state import Kernel
from memhp.spans import Span

WHERE = ("riscv64-4K-48-linux-7.2", "arm64-64K-48-linux-6.12", "x86_64-4K-48-linux-7.2")


def online() -> tuple[Kernel, Span]:
    """A riscv64 machine with a memory block online behind its RAM: the kernel, the block's pages."""
    k = boot_near(CASE.variant("no-lock").config(Configuration("riscv64", 4096, 48)))
    add_near(k)
    where = near_dimm(k)
    state_store(k, where.start // k.memory_block_size, "online")
    return k, Span(where.start >> k.config.page_shift, where.end >> k.config.page_shift)


@pytest.mark.parametrize("configuration", WHERE)
def test_without_a_lock_the_page_was_online_and_its_struct_page_is_gone(configuration: str) -> None:
    """fs/proc/page.c takes no lock between pfn_to_online_page() and the read, in 6.12 as in 7.2."""
    reason, lines = counterexample(CASE, "no-lock", configuration)
    assert "nothing maps the struct page" in reason or reason.startswith("use-after-free: ")
    assert lines[-1].name == "pfn walker"
    walker = [line.text for line in lines if line.name == "pfn walker"]
    assert [text.split(": ")[-1].split("[")[0].split(" at ")[0] for text in walker] == [
        "begin", "read mem_section", "read mem_section", "read mem_section", "read memory",
    ]  # fmt: skip


@pytest.mark.parametrize("configuration", WHERE)
def test_under_the_hotplug_lock_the_walker_counts_a_page_that_is_online_or_none(configuration: str) -> None:
    """It comes before offlining, between offlining and removal, or after both."""
    assert behaviours(CASE, "hotplug-lock", configuration) == {((None, 1), ()), ((None, 0), ())}
    assert in_turn(CASE.program("hotplug-lock", configuration)) == {(None, 1), (None, 0)}


def test_x86_frees_the_storage_first_so_that_a_late_reader_finds_memory_of_nobody() -> None:
    """The answer 0 with a use after free is that of who was asking still when the usage map went."""
    late = ((None, 1), ("use-after-free",))
    assert late in behaviours(CASE, "no-lock", WHERE[2])
    assert late not in behaviours(CASE, "no-lock", WHERE[1])


def test_todays_kernels_are_the_broken_variant() -> None:
    variant = CASE.variant("no-lock")
    assert all(variant.current(one) for one in variant.configurations)
    assert not any(CASE.variant("hotplug-lock").current(one) for one in variant.configurations)


def test_a_page_counts_while_its_block_is_online() -> None:
    k, pfns = online()
    last = Span(pfns.end - 1, pfns.end)
    assert kpagecount_read(k, last) == 1
    state_store(k, k.block_id(pfns.start), "offline")
    assert not pfn_to_online_page(k, last.start)
    assert kpagecount_read(k, last) == 0
    assert not k.hw.violations


def test_the_walk_of_a_struct_page_goes_from_the_root_to_a_leaf_over_its_storage() -> None:
    k, pfns = online()
    va = k.layout.pfn_to_page(pfns.start)
    hops = list(walk(k.hw, k.init_mm, va))
    assert [hop.table.height for hop in hops] == [3, 2, 1]
    assert hops[-1].frame is not None
    owner = k.hw.memory.owners.get(hops[-1].frame)
    assert owner is not None and owner.use is Use.MEMMAP


def test_storage_that_somebody_else_has_by_now_is_a_use_after_free() -> None:
    k, pfns = online()
    va = k.layout.pfn_to_page(pfns.start)
    frame = list(walk(k.hw, k.init_mm, va))[-1].frame
    assert frame is not None
    k.hw.retag(Span(frame, frame + 1), Owner(Use.KERNEL, "someone else"), "test")
    assert read_memory(k.hw, k.init_mm, Span(va, va + 64), Use.MEMMAP, "test")
    assert [each.law for each in k.hw.violations] == ["use-after-free"]
