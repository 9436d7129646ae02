"""The page-table dump against vmap that frees an empty table for a huge leaf, on every architecture that does so."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace

import pytest

from architectures import DIRECT_MAPPED
from memhp.explore.case import Configuration
from memhp.explore.cases.ptdump_vs_vmalloc_huge import CASE, HUGE, area_is_mapped, boot
from memhp.explore.engine.replay import replay
from memhp.explore.engine.search import search
from memhp.linux.choices import Arch
from memhp.linux.mm.vmalloc import Vmalloc, vmalloc_huge
from memhp.linux.state import Kernel


def leaf_height(k: Kernel) -> int:
    """The height of the leaf that maps the start of the huge area."""
    va = k.statics(Vmalloc).vmap_areas[HUGE][0].start
    table = k.init_mm
    while True:
        index = k.hw.fmt.index(va, table.height)
        row = k.hw.memory.arena.row(table.frame)
        assert row is not None
        entry = int(row[index])
        if k.hw.fmt.is_leaf(entry, table.height):
            return table.height
        table = k.hw.child(table, index, k.hw.fmt.table_pfn(entry))


def name_of(arch: Arch) -> str:
    return f"{arch}-4K-48-linux-7.2"


@pytest.mark.parametrize("arch", DIRECT_MAPPED)
def test_without_the_lock_the_dump_reads_the_table_that_was_freed(arch: Arch) -> None:
    verdict = search(CASE.program("no-lock", name_of(arch)).run())
    assert verdict.word == "broken"
    assert verdict.failure is not None
    assert verdict.failure.reason.startswith("freed-table: ")
    trace = replay(CASE.program("no-lock", name_of(arch)).run(), verdict.failure.schedule)
    assert trace.reason == verdict.failure.reason
    last = trace.lines[-1]
    assert (last.name, "load PTE" in last.text) == ("ptdump", True)
    assert any(line.name == "vmalloc-huge" and "release PFN" in line.text for line in trace.lines)


@pytest.mark.parametrize("arch", DIRECT_MAPPED)
def test_under_the_lock_it_reads_the_table_or_the_leaf_and_vmap_does_with_base_pages(arch: Arch) -> None:
    heights = set()

    def check(k: Kernel) -> str | None:
        heights.add(leaf_height(k))
        return area_is_mapped(k)

    program = replace(CASE.program("init-mm-lock", name_of(arch)), check=check)
    verdict = search(program.run())
    assert verdict.word == "safe"
    assert verdict.coverage.executions > 1
    assert heights == {0, 1}


def test_what_is_explored_are_todays_kernels_with_huge_vmap_and_ptdump() -> None:
    """Of 7.2 arch/*/Kconfig, those that select HAVE_ARCH_HUGE_VMAP and ARCH_HAS_PTDUMP: LoongArch has neither."""
    variant = CASE.variant("init-mm-lock")
    assert {(one.arch, one.release) for one in variant.configurations if variant.current(one)} == {
        ("riscv64", "linux-7.2"), ("arm64", "linux-7.2"), ("x86_64", "linux-7.2"),
        ("riscv64", "linux-6.12"), ("x86_64", "linux-6.12"),
    }  # fmt: skip


@pytest.mark.parametrize("configuration", CASE.variant("no-huge-vmap").configurations, ids=lambda one: one.release)
def test_arm64_had_no_huge_vmap_beside_ptdump(configuration: Configuration) -> None:
    """linux-6.12 arch/arm64/include/asm/vmalloc.h:arch_vmap_pmd_supported."""
    variant = CASE.variant("no-huge-vmap")
    k = boot(variant.config(configuration))
    vmalloc_huge(k, k.config.pmd_size, HUGE)
    assert leaf_height(k) == 0
