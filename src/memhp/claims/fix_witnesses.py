"""What goes wrong on kernels that lack a fix, where no step of a scenario asks for it: for :class:`~.fix.Called`.

Each takes a kernel, does something to a small machine, and says what is wrong then; empty if nothing is.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable
from contextlib import suppress

from memhp.check import check_all
from memhp.errors import KernelBug, KernelError
from memhp.explore.cases.actors import pfns
from memhp.hw.devices.backing import MachineBacking
from memhp.hw.devices.virtio_mem import Geometry, VirtioMemDevice
from memhp.hw.memory import Owner, Use
from memhp.linux.config import Config
from memhp.linux.drivers.base.notify import Chains
from memhp.linux.drivers.dax.bus import DevDax
from memhp.linux.drivers.dax.kmem import dev_dax_kmem_probe, dev_dax_kmem_remove
from memhp.linux.drivers.virtio.virtio_mem import virtio_mem_probe
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.kernel.resource import request_region
from memhp.linux.mm.dev_pagemap import DevPagemap, MemoryType
from memhp.linux.mm.memory_hotplug_add import MHP_NONE, add_memory
from memhp.linux.mm.memory_hotplug_remove import remove_memory
from memhp.linux.mm.memremap import memremap_pages, memunmap_pages
from memhp.linux.mm.sparse import pfn_to_online_page, pfn_valid
from memhp.linux.mm.users import allocate
from memhp.linux.mmzone import MigrateType
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, MiB

AT = 8 * GiB
SECOND = 1_000_000_000
"""Nanoseconds."""


def small_machine(
    config: Config, *, end: int = GiB, nodes: tuple[int, ...] = (0,), cma: tuple[Span, ...] = ()
) -> Kernel:
    """A machine with RAM up to `end` bytes behind where its RAM starts, all of it on the first of its nodes."""
    start = config.port.ram_start or MiB
    return start_kernel(MachineSpec("small", config, (Ram(start, end - start % GiB),), nodes=nodes, cma=cma))


def _device(k: Kernel, size: int, at: int = AT) -> DevPagemap:
    """A device of `size` bytes that has struct pages."""
    span = Span(at, at + size)
    k.hw.plug(pfns(k, span), Owner(Use.DEVICE, "pmem"))
    pgmap = DevPagemap(MemoryType.GENERIC, (span,))
    memremap_pages(k, pgmap, 0)
    return pgmap


def bug_of(does: Callable[[], object]) -> str:
    """The bug that something ends in; empty for an error, or none."""
    try:
        does()
    except KernelBug as bug:
        return bug.reason
    except KernelError:
        return ""
    return ""


def laws(k: Kernel) -> str:
    """The laws that do not hold."""
    return "; ".join(f"law {law}" for law in dict.fromkeys(breach.law for breach in check_all(k)))


def page_of_a_device_is_online(config: Config) -> str:
    """A device has the rest of a section in which RAM ends; who goes from page to page comes to its first page."""
    k = small_machine(config, end=GiB + 64 * MiB)
    at = GiB + 64 * MiB
    _device(k, 64 * MiB, at)
    return "a device's page counts as online RAM" if pfn_to_online_page(k, at >> k.config.page_shift) else ""


def part_of_a_boot_section_comes_back(config: Config) -> str:
    """The driver of a device that has the rest of a section in which RAM ends is unbound, and bound again."""
    at = GiB + 64 * MiB
    k = small_machine(config, end=at)
    memunmap_pages(k, _device(k, 64 * MiB, at))
    pgmap = DevPagemap(MemoryType.GENERIC, (Span(at, at + 64 * MiB),))
    return bug_of(lambda: memremap_pages(k, pgmap, 0)) or laws(k)


def page_of_a_device_is_invalid(config: Config) -> str:
    """``pfn_valid()`` of a device's page, which has a struct page."""
    k = small_machine(config)
    _device(k, GiB)
    return "" if pfn_valid(k, AT >> k.config.page_shift) else "pfn_valid() denies the struct pages of a device"


def part_of_a_section_goes(config: Config) -> str:
    """Two devices share a section, and the first goes."""
    k = small_machine(config)
    half = config.section_size // 2
    first = _device(k, half)
    _device(k, half, AT + half)
    memunmap_pages(k, first)
    return laws(k)


def kmem_without_a_range(config: Config) -> str:
    """Kmem is unbound from a device of two ranges, of which somebody had the second."""
    k = small_machine(config)
    k.hw.plug(pfns(k, Span(AT, AT + GiB)), Owner(Use.DEVICE, "dax"))
    request_region(k.iomem_resource, AT + GiB // 2, GiB // 2, "somebody")
    dev = DevDax("dax0.0", (Span(AT, AT + GiB // 2), Span(AT + GiB // 2, AT + GiB)), 2 * MiB)
    dev_dax_kmem_probe(k, dev)
    try:
        dev_dax_kmem_remove(k, dev)
    except KernelBug as bug:
        return bug.reason
    return ""


def kmem_group(config: Config) -> str:
    """How large the memory group of 1 GiB under kmem may become."""
    k = small_machine(config)
    k.hw.plug(pfns(k, Span(AT, AT + GiB)), Owner(Use.DEVICE, "dax"))
    dev_dax_kmem_probe(k, DevDax("dax0.0", (Span(AT, AT + GiB),), 2 * MiB))
    (group,) = k.memory_groups.values()
    wanted = GiB >> config.page_shift
    return "" if group.max_pages == wanted else f"its group may have {group.max_pages} pages, the device has {wanted}"


def gigantic_page_among_huge_ones(config: Config) -> str:
    """A gigantic page is made while one gigabyte has a huge page in use and the next has none."""
    k = small_machine(config, end=3 * GiB + GiB // 2)
    allocate(k, 2 * MiB, "hugetlb", "app", at=GiB)
    allocate(k, GiB, "gigantic", "vm")
    moved = k.hw.memory.use_of(GiB >> config.page_shift) is not Use.HUGETLB
    return "a huge page in use was moved, though a gigabyte without was free" if moved else ""


def gigantic_page_where_cma_begins(config: Config) -> str:
    """A gigantic page is wanted, and the only whole gigabyte of RAM begins with CMA's memory: it cannot be had."""
    area = Span(GiB, GiB + 64 * MiB)
    k = small_machine(config, end=2 * GiB + GiB // 2, cma=(area,))
    with suppress(KernelError):
        allocate(k, GiB, "gigantic", "vm")
    zone = k.zone_of(GiB >> config.page_shift)
    assert zone is not None
    left = sum(end - start for start, end, kind in zone.migratetypes if kind is MigrateType.CMA) << config.page_shift
    return "" if left == area.size else f"{(area.size - left) >> 20} MiB are not CMA's any more"


def _virtio_mem_stuck(config: Config, block_size: int) -> str:
    """A virtio-mem device shrinks to nothing while a driver will not have its memory offline; then it does not mind."""
    k = small_machine(config)
    k.auto_online_blocks = "online_movable"
    device = VirtioMemDevice(Geometry(AT, 2 * GiB, block_size), MachineBacking(k.hw, "vm0"))
    vm = virtio_mem_probe(k, device, "virtio1", None)
    k.hw.advance(0)
    device.resize(512 * MiB)
    k.hw.advance(SECOND)
    chain = k.statics(Chains).memory
    chain.append(lambda k, action, *_: "not now" if action == "MEM_GOING_OFFLINE" else "")
    device.resize(0)
    k.hw.advance(60 * SECOND)
    chain.pop()
    k.hw.advance(600 * SECOND)
    left = k.memory_blocks.covered(AT // k.memory_block_size, (AT + 2 * GiB) // k.memory_block_size)
    if not left and not vm.plugged_size:
        return ""
    return f"{left} memory blocks stay for good, {vm.plugged_size >> 20} MiB are plugged, though 0 are wanted"


def virtio_mem_sub_blocks_stuck(config: Config) -> str:
    """With device blocks smaller than memory blocks."""
    return _virtio_mem_stuck(config, 2 * MiB)


def virtio_mem_big_blocks_stuck(config: Config) -> str:
    """With device blocks larger than memory blocks."""
    return _virtio_mem_stuck(config, 256 * MiB)


def _flushes_of_removal(config: Config) -> tuple[int, int]:
    """How often CPUs are told to invalidate something while one memory block is removed, and the block's bytes."""
    k = small_machine(config)
    size = k.memory_block_size
    k.hw.plug(pfns(k, Span(AT, AT + size)), Owner(Use.DEVICE, "dimm"))
    add_memory(k, 0, AT, size, MHP_NONE)
    before = sum(k.hw.ledger.flushes.values())
    remove_memory(k, AT, size)
    return sum(k.hw.ledger.flushes.values()) - before, size


MANY = 1000
"""So many invalidations for the removal of one memory block are too many."""


def flushes_of_removal(config: Config) -> str:
    """How often every CPU is told to invalidate something while one memory block is removed."""
    made, size = _flushes_of_removal(config)
    return f"{made} invalidations to remove {size >> 20} MiB" if made > MANY else ""


def flushes_of_a_leaf(config: Config) -> str:
    """The same, where the block's struct pages are behind one leaf, which one invalidation would do for."""
    made, _ = _flushes_of_removal(config)
    pages = config.pmd_size // config.page_size
    return f"{made} invalidations, of which a leaf of {pages} pages has {pages}" if made > pages else ""
