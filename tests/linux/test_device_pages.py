"""Private pages of a device, and the pages of a PCI BAR: who may have them, and when they go."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from kernels import PLUG_AT, plug
from memhp.check import check_all
from memhp.check.machine_view import MachineView
from memhp.claims import evidence
from memhp.claims.fix_witnesses import small_machine
from memhp.errors import KernelBug, KernelError
from memhp.linux.config import Config
from memhp.linux.drivers.pci import p2pdma
from memhp.linux.lib import test_hmm as hmm
from memhp.linux.lib.percpu_refcount import percpu_ref_kill
from memhp.linux.mm.dev_pagemap import DevPagemap, MemoryType
from memhp.linux.mm.kasan.init import kasan_add_zero_shadow, kasan_early_shadow_page, kasan_mem_to_shadow
from memhp.linux.mm.memremap import memremap_pages, memunmap_pages
from memhp.linux.mm.migrate_device import (
    device_private_pgmap,
    do_anonymous_page,
    do_swap_page,
    hold,
    migrate_vma_setup,
)
from memhp.linux.mm.mm_types import Mm
from memhp.linux.profiles import profile
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import KiB, MiB
from steppers import Failing


def machine(preset: str = "x86-vm", release: str = "linux-7.2") -> Kernel:
    return evidence.kernel({"preset": preset, "memory": "2G", "profile": release})


def away(k: Kernel, count: int = 1) -> Mm:
    """A process with pages, all of them on a device."""
    hmm.dmirror_allocate_chunk(k, "gpu")
    mm = Mm()
    for address in range(count):
        do_anonymous_page(k, mm, address)
    assert hmm.dmirror_migrate_to_device(k, "gpu", mm, range(count)) == count
    return mm


def test_private_memory_takes_the_highest_addresses_that_the_direct_map_could_reach() -> None:
    """7.2: arch/x86 direct_map_physmem_end, arch/riscv DIRECT_MAP_PHYSMEM_END, arch/arm64 __pa(PAGE_END - 1)."""
    ends = {
        preset: hmm.dmirror_allocate_chunk(machine(preset), "gpu").ranges[0].end for preset in ("x86-vm", "riscv-vm")
    }
    assert ends == {"x86-vm": 1 << 46, "riscv-vm": 1 << 47}


def test_riscv_of_6_12_maps_struct_pages_of_private_memory_outside_the_vmemmap() -> None:
    """MAX_PHYSMEM_BITS is 56 there, and Sv48 has a vmemmap of 2 TiB: 128 TiB of memory."""
    k = machine("riscv-vm", "linux-6.12")
    span = hmm.dmirror_allocate_chunk(k, "gpu").ranges[0]
    assert span.end == 1 << 56
    assert k.layout.pfn_to_page(span.start >> 12) not in k.layout.vmemmap.span
    assert {breach.law for breach in check_all(k)} == {"vmemmap"}


def test_a_fault_brings_a_page_back_unless_somebody_else_holds_it() -> None:
    k = machine()
    mm = away(k, 2)
    hold(k, mm.ptes[1])
    assert device_private_pgmap(k, do_swap_page(k, mm, 0)) is None
    with pytest.raises(KernelError, match="did not bring the page back"):
        do_swap_page(k, mm, 1)


def test_a_driver_may_not_collect_pages_of_another() -> None:
    """mm/migrate_device.c:migrate_vma_collect_pmd compares pgmap->owner."""
    k = machine()
    mm = away(k)
    assert migrate_vma_setup(k, mm, [0], "other", from_device=True) == []
    assert len(migrate_vma_setup(k, mm, [0], "gpu", from_device=True)) == 1


def test_a_driver_that_goes_has_to_empty_its_memory_first() -> None:
    k = machine()
    mm = away(k, 3)
    hmm.dmirror_device_remove_chunks(k, "gpu")
    assert not any(device_private_pgmap(k, pfn) for pfn in mm.ptes.values())
    assert check_all(k) == []
    away(k)
    with pytest.raises(KernelBug, match="1 references to the device's mapping"):
        hmm.dmirror_device_remove_chunks(k, "gpu", evict=False)


# PCI BARs ----------------------------------------------------------------------------------------------------


def bar(k: Kernel, size: int = 4 * MiB) -> p2pdma.P2pdma:
    plug(k, size)
    return p2pdma.pci_p2pdma_add_resource(k, "nvme0", Span(PLUG_AT, PLUG_AT + size))


def test_a_part_of_a_bar_must_lie_in_it_and_fill_sub_sections() -> None:
    k = machine()
    whole = Span(PLUG_AT, PLUG_AT + 4 * MiB)
    for size, offset in ((0, 4 * MiB), (3 * MiB, 2 * MiB), (MiB, 0)):
        with pytest.raises(KernelError, match="EINVAL"):
            p2pdma.pci_p2pdma_add_resource(k, "nvme0", whole, size, offset)


def test_the_kernels_runs_and_user_spaces_pages_come_from_one_pool_and_go_back_to_it() -> None:
    k = machine()
    added = bar(k)
    first = PLUG_AT >> 12
    assert p2pdma.pci_alloc_p2pmem(k, "nvme0", 1000) == Span(first, first + 1000)
    assert p2pdma.pci_alloc_p2pmem(k, "nvme0", 100) is None
    assert p2pdma.p2pmem_alloc_mmap(k, "nvme0", 2) == Span(first + 1000, first + 1002)
    p2pdma.pci_free_p2pmem(k, "nvme0", Span(first, first + 1000))
    p2pdma.put_page(k, first + 1000)
    assert list(added.pool) == [Span(first, first + 1001), Span(first + 1002, first + 1024)]


def test_a_device_that_is_going_gives_no_more_and_takes_back_what_it_gave() -> None:
    k = machine()
    added = bar(k)
    p2pdma.p2pmem_alloc_mmap(k, "nvme0", 4)
    p2pdma.devres_release_all(k, "nvme0")
    assert check_all(k) == []
    assert list(added.pool) == [Span(PLUG_AT >> 12, (PLUG_AT + 4 * MiB) >> 12)]
    with pytest.raises(KernelError, match="ENODEV"):
        p2pdma.p2pmem_alloc_mmap(k, "nvme0")
    again = p2pdma.pci_p2pdma_add_resource(k, "nvme0", Span(PLUG_AT, PLUG_AT + 4 * MiB))
    assert again.pgmap.ref is not None
    percpu_ref_kill(k.hw, again.pgmap.ref)
    assert p2pdma.pci_alloc_p2pmem(k, "nvme0", 1) is None
    assert again.pool.size == 1024


def test_only_a_bar_may_be_uncached_in_the_direct_map() -> None:
    """check/direct_map: a page of RAM with the same attributes breaks the law."""
    k = machine()
    bar(k)
    assert check_all(k) == []
    for device in k.statics(p2pdma.PciDevices).p2pdma.values():
        device.pgmap.type = MemoryType.GENERIC
    assert {breach.law for breach in check_all(k)} == {"direct-map"}


# KASAN's shadow ----------------------------------------------------------------------------------------------


def with_kasan() -> Kernel:
    return small_machine(Config("riscv64", profile("linux-7.2"), 4 * KiB, 48, kasan=True).validate())


def test_a_device_that_the_cpu_reaches_has_a_zero_shadow_and_private_memory_has_none() -> None:
    """mm/memremap.c:pagemap_range calls kasan_add_zero_shadow() unless the memory is private."""
    k = with_kasan()
    plug(k, 4 * MiB)
    pgmap = DevPagemap(MemoryType.GENERIC, (Span(PLUG_AT, PLUG_AT + 4 * MiB),))
    memremap_pages(k, pgmap, 0)
    shadow = kasan_mem_to_shadow(k, k.layout.phys_to_virt(PLUG_AT))
    leaves = MachineView(k).leaves(Span(shadow, shadow + MiB // 2))
    assert int(leaves.size.sum()) == MiB // 2
    assert set(leaves.pa.tolist()) == {kasan_early_shadow_page(k) << 12}
    hmm.dmirror_allocate_chunk(k, "gpu")
    assert check_all(k) == []
    memunmap_pages(k, pgmap)
    assert {breach.law for breach in check_all(k)} == {"flush-before-free"}


def test_shadow_is_added_by_whole_pages_of_it() -> None:
    """KASAN_MEMORY_PER_SHADOW_PAGE is 8 pages."""
    k = with_kasan()
    with pytest.raises(KernelError, match="EINVAL"):
        kasan_add_zero_shadow(k, k.layout.phys_to_virt(PLUG_AT), 12 * KiB)
    assert k.hw.log_lines[-1].text.startswith("WARNING")


def test_shadow_that_finds_no_memory_for_a_table_leaves_nothing() -> None:
    k = with_kasan()
    start = k.layout.phys_to_virt(PLUG_AT)
    kasan_add_zero_shadow(k, start, 4 * MiB)
    k.hw.faults = Failing("mm/kasan/init.c:zero_pmd_populate", 1)
    with pytest.raises(KernelError, match="ENOMEM"):
        kasan_add_zero_shadow(k, start + 12 * MiB, 8 * MiB)
    leaves = MachineView(k).leaves(k.layout.kasan.span if k.layout.kasan else Span(0, 0))
    shadow = kasan_mem_to_shadow(k, start)
    assert leaves.va.tolist() == list(range(shadow, shadow + MiB // 2, 4 * KiB))


def test_a_range_that_cannot_be_mapped_has_no_shadow_to_lose() -> None:
    """linux-7.2 mm/memremap.c:pagemap_range: mhp_range_allowed() fails to ``err_kasan``, where none is removed."""
    k = with_kasan()
    end = k.port.arch_get_mappable_range(k).end
    start = k.layout.phys_to_virt(end)
    kasan_add_zero_shadow(k, start, 4 * MiB)
    shadow = kasan_mem_to_shadow(k, start)
    with pytest.raises(KernelError, match=r"EINVAL: .* outside what the kernel can map"):
        memremap_pages(k, DevPagemap(MemoryType.GENERIC, (Span(end, end + 4 * MiB),)), 0)
    assert len(MachineView(k).leaves(Span(shadow, shadow + 512 * KiB)).va) == 128
