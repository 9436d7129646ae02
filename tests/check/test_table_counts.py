"""Which page tables each port counts and uncounts as memory comes and goes: mmu.c, init.c, init_64.c of its arch/."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter

import pytest

from check.machines import booted, config, plug, unplug, without_choice
from memhp.check import check_all, notes_of
from memhp.claims.page_table_counts import come_and_gone, drift
from memhp.linux.arch.registry import Arch
from memhp.linux.config import Config
from memhp.linux.profiles import profile
from memhp.linux.set_memory import set_direct_map_default_noflush, set_direct_map_invalid_noflush
from memhp.units import KiB


def kernel(arch: Arch, release: str, va_bits: int = 48) -> Config:
    return Config(arch, profile(release), 4 * KiB, va_bits).validate()


@pytest.mark.parametrize(
    "arch, release, va_bits, count",
    [
        # a PMD and a PUD table of the direct map; of the vmemmap likewise: pagetable_dtor() for all four
        ("arm64", "7.2", 48, -2),
        ("arm64", "6.12", 48, 0),
        # 64 PTE tables of 2 MiB each, a PMD and a PUD table of the direct map, which lost their destructor
        ("arm64", "7.0", 48, 66),
        ("arm64", "6.18.35", 48, 66),
        ("arm64", "6.18.36", 48, -2),
        ("arm64", "6.1", 48, 0),
        # free_pud_table() runs no destructor, alloc_pud_late() a constructor since 7.2; no PUD table goes under Sv48
        ("riscv64", "7.2", 57, 1),
        ("riscv64", "7.2", 48, 0),
        ("riscv64", "6.12", 57, 0),
        ("x86_64", "7.2", 48, 0),
    ],
)
def test_a_block_that_comes_and_goes_leaves_so_many_tables_counted(
    arch: Arch, release: str, va_bits: int, count: int
) -> None:
    assert drift(kernel(arch, release, va_bits)) == count
    whole = kernel(arch, release, va_bits)
    assert drift(without_choice(whole, table_dtor="constructed")) == 0


def test_the_law_tells_of_counts_that_drift_and_lets_them_pass() -> None:
    k = come_and_gone(kernel("arm64", "7.2"))
    assert check_all(k) == []
    assert {note.text: note.count for note in notes_of(k) if note.law == "table-counts"} == {
        "PageTables of /proc/meminfo lacks tables that arch/arm64/mm/mmu.c:free_hotplug_pgtable_page takes off it and "
        "that were never put on it": 2
    }


def test_a_destructor_without_a_constructor_breaks_the_law_until_6_12_5_on_riscv() -> None:
    """"riscv: mm: Do not call pmd dtor on vmemmap page table teardown", in 6.12.6."""
    before, after = (come_and_gone(kernel("riscv64", release, 57)) for release in ("6.12.5", "6.12.6"))
    assert Counter(breach.law for breach in check_all(before)) == {"table-counts": 1}
    assert check_all(after) == []


@pytest.mark.parametrize("release, kept", [("linux-6.12", 0), ("linux-7.2", 1)])
def test_x86_goes_on_counting_the_table_that_a_leaf_was_split_into(release: str, kept: int) -> None:
    """pte_alloc_one_kernel() of __split_large_page() counts since 7.1; free_pagetable() does not uncount."""
    k = booted(config("x86_64", release))
    span = plug(k, 1)
    set_direct_map_invalid_noflush(k, span.start)
    set_direct_map_default_noflush(k, span.start)
    unplug(k, span)
    assert check_all(k) == []
    tables = k.hw.table_counts
    assert (tables.nr_page_table_pages, tables.never_destroyed.total()) == (kept, kept)
