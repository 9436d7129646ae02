"""LoongArch: memory reached through a window, and struct pages that are mapped once and never unmapped.

``vmemmap_free()`` of arch/loongarch/mm/init.c is empty. What real guests show of it is held against the model in
``tests/replay/test_loongarch_page_tables.py``.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace
from errno import EEXIST

import pytest

from kernels import PLUG_AT, blocks, kernel, log, picture, plug, settled
from memhp.errors import BadInput, KernelBug, KernelError
from memhp.hw.memory import Use
from memhp.hw.walker import leaves
from memhp.linux.arch.loongarch.mm.init import copy_pgd, kernel_access
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.mm.altmap import VmemAltmap
from memhp.linux.mm.memory_hotplug_add import add_memory
from memhp.linux.mm.memory_hotplug_remove import remove_memory
from memhp.linux.mm.vmalloc import vfree, vmalloc, vmalloc_huge
from memhp.linux.state import Kernel
from memhp.units import GiB, KiB, MiB
from steppers import Recorder

STRUCT_PAGE = 80
"""Bytes: ``SIZE(page)`` in VMCOREINFO of Debian's kernels."""
BUILDS = [("linux-6.12", 4 * KiB), ("linux-7.2", 4 * KiB), ("linux-7.2", 16 * KiB)]
ON_STRUCT_PAGES = ("owners", "tables", "zones")
"""What of a kernel's picture tells where struct pages are stored, how they are mapped and how much memory is left."""

builds = pytest.mark.parametrize(("release", "page_size"), BUILDS)


def cycle(k: Kernel, size: int) -> None:
    """Memory is plugged, added, set online in both zones, set offline, removed and unplugged."""
    span = plug(k, size)
    add_memory(k, 0, PLUG_AT, size)
    for block, zone in zip(blocks(k, size), ("movable", "kernel", "kernel"), strict=True):
        state_store(k, block, f"online_{zone}")
    for block in blocks(k, size):
        state_store(k, block, "offline")
    remove_memory(k, PLUG_AT, size)
    k.hw.unplug(span, "platform")


def memmap_bytes(k: Kernel) -> int:
    return k.hw.memory.used(Use.MEMMAP) * k.config.page_size


def pmd_leaves_of_memmap(k: Kernel, start: int, size: int) -> int:
    """Bytes of the leaves that the struct pages of ``[start, start + size)`` (physical bytes) touch."""
    leaf = 32 * MiB if k.config.page_size == 16 * KiB else 2 * MiB
    first, last = (at // k.config.page_size * STRUCT_PAGE for at in (start, start + size))
    return (-(-last // leaf) - first // leaf) * leaf


@builds
def test_all_is_as_before_but_struct_pages_and_their_leaves_which_stay_for_the_next_time(
    release: str, page_size: int
) -> None:
    k = kernel("loongarch64", release, page_size=page_size)
    size = 3 * k.memory_block_size
    before, memmap = settled(picture(k)), memmap_bytes(k)
    cycle(k, size)
    after = settled(picture(k))
    assert {name for name in before if before[name] != after[name]} <= {*ON_STRUCT_PAGES}
    left = memmap_bytes(k) - memmap
    assert 0 < left == pmd_leaves_of_memmap(k, PLUG_AT, size)
    cycle(k, size)
    assert settled(picture(k)) == after
    assert not k.hw.violations


@builds
def test_memory_has_no_page_table_entries_struct_pages_have_all_there_are(release: str, page_size: int) -> None:
    k = kernel("loongarch64", release, page_size=page_size)
    plug(k, k.memory_block_size)
    add_memory(k, 0, PLUG_AT, k.memory_block_size)
    found = leaves(k.hw.memory, k.hw.fmt, k.init_mm.frame)
    assert found.va.size and all(int(va) in k.layout.vmemmap for va in found.va)


@builds
def test_struct_pages_of_a_device_are_never_on_the_device(release: str, page_size: int) -> None:
    """linux-6.12 arch/loongarch/mm/init.c:vmemmap_populate hands no altmap on."""
    k = kernel("loongarch64", release, page_size=page_size)
    span = plug(k, k.memory_block_size)
    altmap = VmemAltmap(base_pfn=span.start, end_pfn=span.end - 1, free=span.size // 2)
    where = k.layout.memmap(*span)
    memmap = memmap_bytes(k)
    k.port.vmemmap_populate(k, where.start, where.end, 0, altmap)
    assert (altmap.alloc, memmap_bytes(k) - memmap) == (0, pmd_leaves_of_memmap(k, PLUG_AT, k.memory_block_size))


@builds
def test_what_stops_struct_pages_is_told(release: str, page_size: int) -> None:
    k = kernel("loongarch64", release, page_size=page_size)
    plug(k, k.memory_block_size)
    k.port.arch_add_memory(k, 0, PLUG_AT, k.memory_block_size)
    with pytest.raises(KernelError, match="EEXIST"):
        k.port.arch_add_memory(k, 0, PLUG_AT, k.memory_block_size)
    assert log(k)[-1] == f"arch_add_memory: Problem encountered in __add_pages() as ret={-EEXIST}"


def test_a_table_that_a_huge_leaf_replaces_is_unlinked_flushed_and_freed_if_there_were_such_leaves() -> None:
    """include/linux/pgtable.h:pmd_free_pte_page, for a kernel that would select HAVE_ARCH_HUGE_VMALLOC."""
    k = kernel("loongarch64", "linux-7.2")
    k.config = replace(k.config, profile=k.config.profile.choosing("loongarch64", {"huge_vmalloc": True}))
    assert [height for height in (0, 1, 2) if k.port.arch_vmap_supported(k, height)] == [1]
    vmalloc(k, 4 * MiB, "before")
    vfree(k, "before")
    tables = k.hw.memory.used(Use.TABLE)
    k.hw.stepper = seen = Recorder()
    vmalloc_huge(k, 2 * MiB, "a")
    k.hw.stepper = None
    changes = [each for each in seen.told() if each.startswith(("store", "flush"))]
    assert changes[:3] == ["store PMD", "flush range", "store PMD"]
    assert k.hw.memory.used(Use.TABLE) == tables - 1
    assert not k.hw.violations and not k.hw.tlb.exposed_frames


def test_a_leaf_of_struct_pages_stays_for_boot_memory_that_shares_it_where_unused_leaves_go() -> None:
    """A leaf of 32 MiB has the struct pages of 6.5 GiB: with 16K pages those of all RAM here and of what is added."""
    k = kernel("loongarch64", "linux-7.2", page_size=16 * KiB)
    k.config = replace(k.config, profile=k.config.profile.choosing("loongarch64", {"vmemmap_free": "unused"}))
    before, size = settled(picture(k)), k.memory_block_size
    span = plug(k, size, 5 * GiB)
    add_memory(k, 0, 5 * GiB, size)
    remove_memory(k, 5 * GiB, size)
    k.hw.unplug(span, "platform")
    assert settled(picture(k)) == before
    assert kernel_access(k, "init_mm", k.layout.pfn_to_page(span.start)) == "ok"


def test_a_leaf_of_struct_pages_stays_for_the_last_block_that_it_serves_where_unused_leaves_go() -> None:
    k = kernel("loongarch64", "linux-7.2", page_size=16 * KiB)
    k.config = replace(k.config, profile=k.config.profile.choosing("loongarch64", {"vmemmap_free": "unused"}))
    before, memmap, size = settled(picture(k)), memmap_bytes(k), k.memory_block_size
    span = plug(k, 2 * size)
    for at in (PLUG_AT, PLUG_AT + size):
        add_memory(k, 0, at, size)
    remove_memory(k, PLUG_AT, size)
    assert kernel_access(k, "init_mm", k.layout.pfn_to_page(span.end - 1)) == "ok"
    remove_memory(k, PLUG_AT + size, size)
    k.hw.unplug(span, "platform")
    assert {name for name, seen in settled(picture(k)).items() if seen != before[name]} <= {*ON_STRUCT_PAGES}
    assert memmap_bytes(k) == memmap


@builds
@pytest.mark.parametrize("mode", ["Y", "force"])
def test_struct_pages_cannot_lie_on_the_memory_that_they_describe(release: str, page_size: int, mode: str) -> None:
    """There is no ``ARCH_MHP_MEMMAP_ON_MEMORY_ENABLE`` in arch/loongarch/Kconfig."""
    with pytest.raises(BadInput, match="loongarch64 has no memmap_on_memory"):
        kernel("loongarch64", release, page_size=page_size, memmap_on_memory=mode)


@builds
def test_the_window_shows_memory_to_every_process_without_page_tables(release: str, page_size: int) -> None:
    k = kernel("loongarch64", release, page_size=page_size)
    copy_pgd(k, "old")
    plug(k, k.memory_block_size)
    add_memory(k, 0, PLUG_AT, k.memory_block_size)
    struct_page = k.layout.pfn_to_page(PLUG_AT >> k.config.page_shift)
    for mm in ("init_mm", "old"):
        assert kernel_access(k, mm, k.layout.phys_to_virt(PLUG_AT)) == "ok"
        assert kernel_access(k, mm, struct_page) == "ok"
        with pytest.raises(KernelBug, match="Unable to handle kernel paging request"):
            kernel_access(k, mm, k.layout.vmalloc.start)
