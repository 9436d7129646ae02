"""The order of accesses to shared state, in the small: what the loops of each architecture do, one after the other.

Each list is read off the function that it names. Entries are named after their height, so that the root of a 4-level
table has P4D entries; a star stands for several equal accesses in a row. A table is searched for anything up to the
first entry that is not empty, which for HOT's struct pages is that of boot memory.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from memhp.hw.memory import Owner, Use
from memhp.linux.arch.arm64.mm import mmu
from memhp.linux.arch.riscv.mm import init as riscv
from memhp.linux.arch.x86.mm import init_64
from memhp.linux.arch.x86.mm.init import MapRange
from memhp.linux.choices import Arch
from memhp.linux.config import Config
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.profiles import profile
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, KiB, MiB
from steppers import Recorder

HOT = 16 * GiB
"""Where no table but those that boot keeps for good is there: a GiB of its own."""
LOCK = "init_mm.page_table_lock"
EARLY = {"riscv64": 2 * GiB, "arm64": GiB, "x86_64": MiB}


def boot(arch_name: Arch, name: str = "linux-6.12") -> Kernel:
    config = Config(arch_name, profile(name), 4 * KiB, 48).validate()
    k = start_kernel(MachineSpec("small", config, (Ram(EARLY[arch_name], GiB),)))
    k.hw.plug(Span(HOT >> 12, (HOT + GiB) >> 12), Owner(Use.DEVICE))
    return k


def watch(k: Kernel) -> Recorder:
    recorder = Recorder()
    k.hw.stepper = recorder
    return recorder


def order(seen: Recorder, *locks: str) -> list[str]:
    """What was done to page tables, TLB, frames and `locks`; freeing a page looks at its flags too, allocating one at
    zonelists.
    """
    return [word for word in seen.told(*locks) if "page_flags" not in word and "zonelist" not in word]


def section(k: Kernel) -> Span:
    """The struct pages of the first section of HOT, in a PMD leaf of their own."""
    memmap = k.layout.memmap(HOT >> 12, (HOT + 128 * MiB) >> 12)
    k.port.vmemmap_populate(k, memmap.start, memmap.end, 0, None)
    return memmap


class TestRiscv:
    def test_create_linear_mapping_range_goes_down_from_the_root_for_every_leaf(self) -> None:
        k = boot("riscv64")
        seen = watch(k)
        riscv.create_linear_mapping_range(k, HOT, HOT + 4 * MiB, riscv.pgprot_mhp(k))
        assert order(seen) == [
            *("load P4D", "load PUD", "claim 1", "store PUD", "load PMD", "store PMD"),
            *("load P4D", "load PUD", "load PMD", "store PMD"),
        ]

    def test_remove_linear_mapping_frees_a_table_before_it_clears_the_entry_and_flushes_last(self) -> None:
        k = boot("riscv64")
        riscv.create_linear_mapping_range(k, HOT, HOT + 4 * MiB, riscv.pgprot_mhp(k))
        seen = watch(k)
        riscv.remove_linear_mapping(k, HOT, 4 * MiB)
        assert order(seen) == [
            *("load P4D", "load PUD", "load PMD", "store PMD none", "load PMD", "store PMD none"),
            *("load PMD *", "release 1", "store PUD none", "flush all"),
        ]

    def test_vmemmap_free_frees_storage_after_clearing_and_before_the_flush(self) -> None:
        k = boot("riscv64")
        memmap = section(k)
        seen = watch(k)
        riscv.vmemmap_free(k, memmap.start, memmap.end, None)
        assert order(seen) == [
            *("load P4D", "load PUD", "load PMD", "store PMD none", "release 512"),
            *("load PMD", "flush all"),
        ]


class TestArm64:
    def test_create_pgd_mapping_links_a_table_before_it_fills_it(self) -> None:
        k = boot("arm64")
        seen = watch(k)
        mmu.create_pgd_mapping(k, HOT, HOT + 8 * KiB, mmu.pgprot_mhp(k))
        assert order(seen, "fixmap_lock") == [
            *("lock fixmap_lock", "load P4D", "load PUD", "claim 1", "store PUD", "load PMD", "claim 1", "store PMD"),
            *("load PTE", "store PTE", "load PTE", "store PTE"),
            # pte_clear_fixmap(), pmd_clear_fixmap(), pud_clear_fixmap()
            *("flush range *", "unlock fixmap_lock"),
        ]
        assert [access.kind for access in seen.accesses].count("flush") == 3

    def test_remove_pgd_mapping_flushes_between_leaves_and_tables(self) -> None:
        k = boot("arm64")
        mmu.create_pgd_mapping(k, HOT, HOT + 8 * KiB, mmu.pgprot_mhp(k))
        seen = watch(k)
        mmu.remove_pgd_mapping(k, HOT, 8 * KiB)
        assert order(seen) == [
            *("load P4D", "load PUD", "load PMD", "load PTE", "store PTE none", "load PTE", "store PTE none"),
            *("flush range", "load P4D", "load PUD", "load PMD"),
            *("load PTE *", "store PMD none", "flush range", "release 1"),
            *("load PMD *", "store PUD none", "flush range", "release 1", "load PUD"),
        ]

    def test_vmemmap_free_flushes_each_leaf_before_it_frees_storage(self) -> None:
        k = boot("arm64")
        memmap = section(k)
        seen = watch(k)
        mmu.vmemmap_free(k, memmap.start, memmap.end, None)
        assert order(seen)[:6] == [
            *("load P4D", "load PUD", "load PMD", "store PMD none", "flush range", "release 512"),
        ]

    def test_vmemmap_free_of_v5_frees_storage_that_is_still_mapped_and_never_flushes_a_block(self) -> None:
        k = boot("arm64", "arm64-hotremove-v5")
        memmap = k.layout.memmap(HOT >> 12, (HOT + GiB) >> 12)
        k.port.vmemmap_populate(k, memmap.start, memmap.end, 0, None)
        seen = watch(k)
        mmu.vmemmap_free(k, memmap.start, memmap.start + 2 * MiB, None)
        assert order(seen, LOCK) == [
            *(f"lock {LOCK}", "load P4D", "load PUD", "load PMD", "release 512", "store PMD none"),
            *("load PMD", "load PUD", f"unlock {LOCK}"),
        ]


class TestX86:
    def test_kernel_physical_mapping_init_links_a_table_after_it_filled_it(self) -> None:
        k = boot("x86_64")
        seen = watch(k)
        init_64.kernel_physical_mapping_init(k, MapRange(HOT, HOT + 4 * MiB, frozenset({1})), init_64.pgprot_mhp(k))
        leaf = ("load PMD", f"lock {LOCK}", "store PMD", f"unlock {LOCK}")
        assert order(seen, LOCK) == [
            *("load P4D", "load PUD", "claim 1", *leaf, *leaf),
            *(f"lock {LOCK}", "store PUD", f"unlock {LOCK}"),
        ]

    def test_base_pages_go_unlocked_into_a_new_table_and_under_one_lock_into_another(self) -> None:
        k = boot("x86_64")
        seen = watch(k)
        for start in (HOT, HOT + 8 * KiB):
            init_64.kernel_physical_mapping_init(k, MapRange(start, start + 8 * KiB), init_64.pgprot_mhp(k))
        pages = ("load PTE", "store PTE", "load PTE", "store PTE")
        assert order(seen, LOCK) == [
            *("load P4D", "load PUD", "claim 1", "load PMD", "claim 1", *pages),
            *(f"lock {LOCK}", "store PMD", f"unlock {LOCK}", f"lock {LOCK}", "store PUD", f"unlock {LOCK}"),
            *("load P4D", "load PUD", "load PMD", f"lock {LOCK}", *pages, f"unlock {LOCK}"),
        ]

    def test_removal_frees_tables_before_it_clears_the_entry_and_flushes_last(self) -> None:
        k = boot("x86_64")
        init_64.arch_add_memory(k, 0, HOT, 128 * MiB)
        seen = watch(k)
        va = k.layout.phys_to_virt(HOT)
        init_64.remove_pagetable(k, Span(va, va + 128 * MiB), init_64.direct_map_remover(k))
        leaf = ("load PMD", f"lock {LOCK}", "store PMD none", f"unlock {LOCK}")
        assert order(seen, LOCK) == [
            *("load P4D", "load PUD", *(64 * leaf), "load PMD *"),
            *("release 1", f"lock {LOCK}", "store PUD none", f"unlock {LOCK}", "flush all"),
        ]

    def test_vmemmap_free_frees_storage_that_is_still_mapped(self) -> None:
        k = boot("x86_64")
        memmap = section(k)
        seen = watch(k)
        init_64.vmemmap_free(k, memmap.start, memmap.end, None)
        assert order(seen, LOCK) == [
            *("load P4D", "load PUD", "load PMD", "release 512"),
            *(f"lock {LOCK}", "store PMD none", f"unlock {LOCK}", "load PMD", "flush all"),
        ]

    def test_base_pages_of_struct_pages_are_followed_by_a_flush_of_their_own(self) -> None:
        k = boot("x86_64")
        memmap = k.layout.memmap(HOT >> 12, (HOT + 2 * MiB) >> 12)
        init_64.vmemmap_populate(k, memmap.start, memmap.start + 8 * KiB, 0, None)
        seen = watch(k)
        init_64.vmemmap_free(k, memmap.start, memmap.start + 8 * KiB, None)
        page = ("load PTE", "release 1", f"lock {LOCK}", "store PTE none", f"unlock {LOCK}")
        assert order(seen, LOCK)[:16] == [
            *("load P4D", "load PUD", "load PMD", *page, *page, "flush all", "load PTE *", "release 1"),
        ]


@pytest.mark.parametrize("arch_name", ["riscv64", "arm64", "x86_64"])
@pytest.mark.parametrize("name", ["linux-6.12", "linux-7.2"])
def test_a_life_in_single_accesses_is_the_life_in_whole_runs(arch_name: Arch, name: str) -> None:
    whole, single = boot(arch_name, name), boot(arch_name, name)
    watch(single)
    for k in (whole, single):
        k.port.arch_add_memory(k, 0, HOT, 256 * MiB)
        k.port.arch_remove_memory(k, HOT, 256 * MiB)
    assert whole.hw.ledger == single.hw.ledger
    assert whole.hw.tlb.exposed_frames == single.hw.tlb.exposed_frames
    assert whole.hw.violations == single.hw.violations == []
