"""vmap: huge leaves and the empty tables that they take the place of, per-CPU chunks, tables that two CPUs make."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace
from errno import EBUSY
from typing import Any

import pytest

from architectures import DIRECT_MAPPED
from kernels import kernel, log
from memhp.check import check_all
from memhp.errors import KernelBug, KernelError
from memhp.explore.doors.run import KernelProgram
from memhp.explore.engine.search import Limits, search
from memhp.hw.memory import Owner, Use
from memhp.linux.choices import Arch
from memhp.linux.mm.memory import table_alloc
from memhp.linux.mm.page_alloc import alloc_pages
from memhp.linux.mm.users import fragment
from memhp.linux.mm.vmalloc import pcpu_create_chunk, vfree, vmalloc, vmalloc_huge
from memhp.linux.mm.vmap import MMAP_LOCK, vmap_pages_range_noflush, vmap_range_noflush, vunmap_range_noflush
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, KiB, MiB, TiB, align_up
from steppers import Recorder


def leaf_height(k: Kernel, va: int) -> int:
    """The height of the leaf that maps an address."""
    table = k.init_mm
    while True:
        index = k.hw.fmt.index(va, table.height)
        entry = k.hw.load(table, index)
        if k.hw.fmt.is_leaf(entry, table.height):
            return table.height
        assert k.hw.fmt.is_table(entry, table.height)
        table = k.hw.child(table, index, k.hw.fmt.table_pfn(entry))


def tables(k: Kernel) -> int:
    """Page-table frames in use."""
    return k.hw.memory.used(Use.TABLE)


def with_old_tables(name: Arch, release: str = "linux-7.2") -> tuple[Kernel, Span]:
    """A machine where an area of a page has come and gone, and its addresses."""
    k = kernel(name, release)
    area = vmalloc(k, k.config.page_size, "before")
    vfree(k, "before")
    return k, area


@pytest.mark.parametrize("name", DIRECT_MAPPED)
def test_a_huge_area_is_one_leaf_and_needs_no_pte_table(name: Arch) -> None:
    k = kernel(name, "linux-7.2")
    before = dict(k.hw.ledger.tables_allocated)
    area = vmalloc_huge(k, 2 * MiB, "a")
    assert (area.start % (2 * MiB), area.size, leaf_height(k, area.end - 1)) == (0, 2 * MiB, 1)
    assert k.hw.ledger.tables_allocated[0] == before.get(0, 0)
    assert check_all(k) == []
    vfree(k, "a")
    assert check_all(k) == []


@pytest.mark.parametrize("name", DIRECT_MAPPED)
def test_its_leaf_takes_the_place_of_an_empty_table_which_is_flushed_and_freed(name: Arch) -> None:
    k, old = with_old_tables(name)
    count = tables(k)
    area = vmalloc_huge(k, 2 * MiB, "a")
    assert area.start == old.start
    assert leaf_height(k, area.start) == 1
    assert tables(k) == count - 1
    assert k.hw.tlb.exposed_frames == 0
    assert k.hw.violations == []
    assert not any(lock.held_by(k.hw.cpu) for lock in k.hw.locks.values())


@pytest.mark.parametrize("name", DIRECT_MAPPED)
def test_while_ptdump_holds_the_mmap_lock_base_pages_do(name: Arch) -> None:
    """linux-7.2 mm/vmalloc.c:vmap_try_huge_pmd: mmap_read_trylock."""
    k, _ = with_old_tables(name)
    k.hw.cpu = 1
    k.hw.lock(MMAP_LOCK)
    k.hw.cpu = 0
    count = tables(k)
    area = vmalloc_huge(k, 2 * MiB, "a")
    assert leaf_height(k, area.start) == 0
    assert tables(k) == count
    k.hw.cpu = 1
    k.hw.unlock(MMAP_LOCK)
    assert check_all(k) == []


def test_before_the_fix_nobody_asks_for_that_lock() -> None:
    k, _ = with_old_tables("x86_64")
    config = replace(k.config, profile=replace(k.config.profile, vmap_huge_lock="none"))
    k.config = config
    k.hw.cpu = 1
    k.hw.lock(MMAP_LOCK)
    k.hw.cpu = 0
    assert leaf_height(k, vmalloc_huge(k, 2 * MiB, "a").start) == 1


def test_without_a_huge_chunk_base_pages_do() -> None:
    k = kernel("riscv64", "linux-7.2")
    fragment(k, 2 * MiB, tag="holes")
    assert not alloc_pages(k, 9, 0, owner=Owner(Use.KERNEL), where="test")
    area = vmalloc_huge(k, 2 * MiB, "a")
    assert leaf_height(k, area.start) == 0


def test_huge_vmalloc_came_later_than_huge_ioremap() -> None:
    """Linux 5.13 arch/x86/Kconfig has HAVE_ARCH_HUGE_VMAP, not HAVE_ARCH_HUGE_VMALLOC."""
    k = kernel("x86_64", "linux-5.13")
    assert k.port.arch_vmap_supported(k, 1)
    assert leaf_height(k, vmalloc_huge(k, 2 * MiB, "a").start) == 0


@pytest.mark.parametrize("release, huge", [("linux-6.12", False), ("linux-7.2", True)])
def test_arm64_has_huge_vmap_beside_ptdump_since_ptdump_is_held_off(release: str, huge: bool) -> None:
    k = kernel("arm64", release)
    assert leaf_height(k, vmalloc_huge(k, 2 * MiB, "a").start) == int(huge)


@pytest.mark.parametrize(
    ("name", "release", "options", "heights"),
    [
        # arch/*/include/asm/vmalloc.h: arch_vmap_pmd_supported(), arch_vmap_pud_supported()
        ("riscv64", "linux-6.12", {"va_bits": 39}, [1]),
        ("riscv64", "linux-6.12", {"va_bits": 48}, [1, 2]),
        ("riscv64", "linux-7.2", {"va_bits": 57}, [1, 2]),
        ("arm64", "linux-6.12", {}, []),
        ("arm64", "linux-7.2", {}, [1, 2]),
        ("arm64", "linux-7.2", {"page_size": 16 * KiB}, [1]),
        ("arm64", "linux-7.2", {"page_size": 64 * KiB}, [1]),
        ("x86_64", "linux-7.2", {}, [1, 2]),
        ("x86_64", "linux-7.2", {"gbpages": False}, [1]),
        ("x86_64", "linux-7.2", {"pse": False, "gbpages": False}, []),
        ("loongarch64", "linux-7.2", {}, []),
    ],
)
def test_which_leaves_vmap_may_use(name: Arch, release: str, options: dict[str, Any], heights: list[int]) -> None:
    k = kernel(name, release, **options)
    assert [height for height in (0, 1, 2, 3) if k.port.arch_vmap_supported(k, height)] == heights


@pytest.mark.parametrize("name", DIRECT_MAPPED)
def test_the_entry_is_clear_and_flushed_before_it_becomes_a_leaf(name: Arch) -> None:
    """linux-7.2 arch/*/mm: pmd_free_pte_page(): pmd_clear(), a flush, then vmap's set_pmd()."""
    k, _ = with_old_tables(name)
    k.hw.stepper = seen = Recorder()
    vmalloc_huge(k, 2 * MiB, "a")
    k.hw.stepper = None
    changes = [each for each in seen.told() if each.startswith(("store", "flush"))]
    assert changes == ["store PMD none", "flush range", "store PMD"]


@pytest.mark.parametrize("name", DIRECT_MAPPED)
def test_a_pud_leaf_takes_the_place_of_two_levels_of_empty_tables(name: Arch) -> None:
    k = kernel(name, "linux-7.2", va_bits=48)
    base = align_up(k.layout.vmalloc.start, GiB)
    room = Span(base, base + GiB)
    pages = [Span(0x1000, 0x1001)]
    first, last = room.start, room.end - k.config.page_size
    prot = k.port.page_kernel(k)
    for va in (first, last):
        vmap_pages_range_noflush(k, Span(va, va + k.config.page_size), pages, prot, k.config.page_shift)
    count = tables(k)
    vunmap_range_noflush(k, room)
    k.port.flush_tlb_all(k)
    assert tables(k) == count
    vmap_range_noflush(k, room, 0x400000, prot, k.config.shift(2))
    assert leaf_height(k, last) == 2
    assert tables(k) == count - 3
    assert k.hw.tlb.exposed_frames == 0
    assert k.hw.violations == []


@pytest.mark.parametrize(
    ("release", "stores"), [("linux-6.12", 1 + 2 + 1), ("7.2.9", 1 + 2 + 1), ("7.2.10", 1 + 1), ("linux-7.2", 1 + 1)]
)
def test_x86_clears_the_entries_below_first_or_not_at_all(release: str, stores: int) -> None:
    """arch/x86/mm/pgtable.c:pud_free_pmd_page: what it stores until the leaf is there, that included."""
    k = kernel("x86_64", release)
    base = k.layout.vmalloc.start
    prot = k.port.page_kernel(k)
    for va in (base, base + GiB - k.config.page_size):
        vmap_pages_range_noflush(
            k, Span(va, va + k.config.page_size), [Span(0x1000, 0x1001)], prot, k.config.page_shift
        )
    vunmap_range_noflush(k, Span(base, base + GiB))
    before = k.hw.ledger.stores
    vmap_range_noflush(k, Span(base, base + GiB), 0x400000, prot, k.config.shift(2))
    assert k.hw.ledger.stores - before == stores


def test_what_is_mapped_already_stays() -> None:
    k = kernel("arm64", "linux-6.12")
    area = vmalloc(k, k.config.page_size, "a")
    prot = k.port.page_kernel(k)
    with pytest.raises(KernelError, match="mapped at") as refused:
        vmap_pages_range_noflush(k, area, [Span(0x1000, 0x1001)], prot, k.config.page_shift)
    assert refused.value.errno == EBUSY
    assert any("WARNING" in line for line in log(k))
    with pytest.raises(KernelBug, match="mapped at"):
        vmap_range_noflush(k, area, 0x1000, prot, k.config.page_shift)


@pytest.mark.parametrize("name", DIRECT_MAPPED)
def test_per_cpu_chunks_come_from_the_top(name: Arch) -> None:
    """linux-6.12 mm/vmalloc.c:pcpu_get_vm_areas."""
    k = kernel(name, "linux-6.12")
    vmalloc(k, MiB, "bottom")
    first = pcpu_create_chunk(k, MiB, "first")
    second = pcpu_create_chunk(k, MiB, "second")
    assert first.end == k.layout.vmalloc.end
    assert second.end == first.start
    vfree(k, "second")
    assert pcpu_create_chunk(k, MiB, "third") == second
    assert check_all(k) == []


def test_two_cpus_that_miss_the_same_table_make_one() -> None:
    """linux-6.12 mm/memory.c:__pmd_alloc: under the lock it looks again, and gives its own back."""
    k = kernel("arm64", "linux-6.12")
    index = k.hw.fmt.index(k.layout.vmalloc.start + TiB, k.init_mm.height)
    count, free = tables(k), sum(zone.free.size for zone in k.zones())
    found = set()

    def miss(k: Kernel) -> int:
        return table_alloc(k, k.init_mm, index)[0].frame

    def check(k: Kernel) -> str | None:
        found.add((tables(k) - count, free - sum(zone.free.size for zone in k.zones())))
        return None

    every = Limits(stop_at_failure=False, keep_behaviours=True)
    verdict = search(KernelProgram(k, (miss, miss), ("a", "b"), check=check).run(), every)
    assert verdict.word == "safe"
    assert verdict.coverage.executions > 2
    assert found == {(1, 1)}
