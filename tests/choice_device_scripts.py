"""What is done to memory devices, and by boot, to show how a kernel decides."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable

from kernels import BOOT_RAM, PLUG_AT, plug
from memhp.claims.fix import Called
from memhp.claims.fixes import FIXES
from memhp.linux.config import Config
from memhp.linux.drivers.base.memory_state import try_state_store
from memhp.linux.drivers.dax.bus import DevDax, align_store, alloc_dax_region, devm_create_dev_dax
from memhp.linux.drivers.dax.kmem import dev_dax_kmem_probe, dev_dax_kmem_remove
from memhp.linux.fs.dax import DaxMapping, evict_inode, gup_fast
from memhp.linux.fs.kernfs.dir import KernfsNode
from memhp.linux.fs.kernfs.file import kernfs_fop_write_iter
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.kernel.resource import request_region
from memhp.linux.lib import test_hmm as hmm
from memhp.linux.lib.percpu_refcount import percpu_ref_kill
from memhp.linux.mm.dev_pagemap import DevPagemap, DevPagemapOps, MemoryType
from memhp.linux.mm.memory_failure import memory_failure
from memhp.linux.mm.memory_hotplug_add import MHP_NONE, add_memory
from memhp.linux.mm.memremap import memremap_pages, zone_device_page_init
from memhp.linux.mm.migrate_device import do_anonymous_page, do_swap_page, hold
from memhp.linux.mm.mm_types import Mm, trylock_page
from memhp.linux.mm.sparse import pfn_to_online_page
from memhp.linux.mm.users import allocate
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, MiB


def huger_pages(k: Kernel) -> None:
    """A device has pages of 32 GiB."""
    plug(k, GiB)
    memremap_pages(k, DevPagemap(MemoryType.GENERIC, (Span(PLUG_AT, PLUG_AT + GiB),), vmemmap_shift=23), 0)


def private_without_methods(k: Kernel) -> None:
    """A device that the CPU cannot reach has a driver that migrates its pages and does not free them."""
    ops = DevPagemapOps(migrate_to_ram=lambda _k, _pfn: None)
    memremap_pages(k, DevPagemap(MemoryType.PRIVATE, (Span(PLUG_AT, PLUG_AT + GiB),), ops=ops, owner="gpu"), 0)


def taken_late(k: Kernel) -> None:
    """A driver takes a page of its device into use while the mapping goes."""
    plug(k, GiB)
    ops = DevPagemapOps(page_free=lambda _k, _pfn: None)
    pgmap = DevPagemap(MemoryType.COHERENT, (Span(PLUG_AT, PLUG_AT + GiB),), ops=ops, owner="gpu")
    memremap_pages(k, pgmap, 0)
    zone_device_page_init(k, pgmap)
    assert pgmap.ref is not None
    percpu_ref_kill(k.hw, pgmap.ref)
    zone_device_page_init(k, pgmap)


def file_ends(k: Kernel) -> None:
    """A file of a DAX file system leaves memory while DMA holds its page."""
    plug(k, GiB)
    pgmap = DevPagemap(MemoryType.FS_DAX, (Span(PLUG_AT, PLUG_AT + GiB),))
    memremap_pages(k, pgmap, 0)
    pfn = PLUG_AT >> k.config.page_shift
    mapping = DaxMapping(pgmap, {pfn}, {pfn})
    gup_fast(k, mapping, pfn)
    evict_inode(k, mapping)


def locked_page_is_touched(k: Kernel) -> None:
    """A process touches a page that is on a device, where somebody has locked it, and DMA has pinned it."""
    mm = Mm()
    hmm.dmirror_allocate_chunk(k, "gpu")
    do_anonymous_page(k, mm, 0)
    hmm.dmirror_migrate_to_device(k, "gpu", mm, [0])
    hold(k, mm.ptes[0])
    trylock_page(k, mm.ptes[0])
    do_swap_page(k, mm, 0)


def two_regions(k: Kernel) -> None:
    """Two devices offer the same range to the DAX bus."""
    for name in ("hmem.0", "hmem.1"):
        alloc_dax_region(k, name, Span(PLUG_AT, PLUG_AT + GiB))


def align_is_written(k: Kernel) -> None:
    """A device of the DAX bus is to have base pages."""
    dev = devm_create_dev_dax(k, DevDax("dax0.0", (Span(PLUG_AT, PLUG_AT + GiB),), k.config.pmd_size))
    align_store(k, dev, k.config.page_size, driver=False)


def gigantic(k: Kernel, *, free: bool = True) -> object:
    """A gigantic page is made while a process has a huge page in each gigabyte, or in all but one."""
    k = start_kernel(MachineSpec("large", k.config, (Ram(MiB, 3 * GiB), Ram(4 * GiB, 2 * GiB))))
    half = GiB // 2
    for at in (GiB, 4 * GiB + half, 5 * GiB + half, *(() if free else (2 * GiB,))):
        allocate(k, 2 * MiB, "hugetlb", f"huge{at}", at=at)
    return allocate(k, GiB, "gigantic", "vm")


def gigantic_among_huge(k: Kernel) -> object:
    """The same, where no gigabyte is without."""
    return gigantic(k, free=False)


def shared_block(k: Kernel) -> object:
    """A memory block of boot memory is of two nodes, the higher one first."""
    ram = (Ram(MiB, GiB, nid=1), Ram(GiB + MiB, GiB, nid=0))
    k = start_kernel(MachineSpec("crossed", k.config, ram, nodes=(0, 1)))
    return k.memory_blocks.get(GiB // k.memory_block_size)


def kmem_of_two_ranges(k: Kernel) -> None:
    """Kmem is unbound from a device of two ranges, of which somebody has the second."""
    plug(k, GiB)
    request_region(k.iomem_resource, PLUG_AT + GiB // 2, GiB // 2, "somebody")
    dev = DevDax("dax0.0", (Span(PLUG_AT, PLUG_AT + GiB // 2), Span(PLUG_AT + GiB // 2, PLUG_AT + GiB)), 2 * MiB)
    dev_dax_kmem_probe(k, dev)
    dev_dax_kmem_remove(k, dev)


def kmem_group(k: Kernel) -> object:
    """Kmem is bound to a device: how large its memory group may become."""
    plug(k, GiB)
    dev_dax_kmem_probe(k, DevDax("dax0.0", (Span(PLUG_AT, PLUG_AT + GiB),), 2 * MiB))
    return [group.max_pages for group in k.memory_groups.values()]


def shared_section(k: Kernel) -> bool:
    """A device has part of a section, of which RAM has the rest: is a page of its own online?"""
    end = BOOT_RAM[k.config.arch].end - k.config.section_size // 2
    k = start_kernel(MachineSpec("short", k.config, (Ram(BOOT_RAM[k.config.arch].start, end - MiB),)))
    frames = plug(k, k.config.section_size // 2, end)
    memremap_pages(k, DevPagemap(MemoryType.GENERIC, (Span(end, end + k.config.section_size // 2),)), 0)
    return pfn_to_online_page(k, frames.start)


def huge_page_goes_bad(k: Kernel) -> None:
    """A page of a free huge page goes bad."""
    memory_failure(k, allocate(k, k.config.pmd_size, "hugetlb-free", "pool")[0].start)


def _of_fix(does: Callable[[Config], str]) -> Callable[[Kernel], object]:
    """What a witness of a fix says of a kernel."""
    return lambda k: does(k.config)


FIX_SCRIPTS = {
    f"fix:{fix.witness.does.__name__}": _of_fix(fix.witness.does)
    for fix in FIXES
    if isinstance(fix.witness, Called)
}  # fmt: skip
"""What fixes are shown by, on a machine of its own: `fix:` and the function's name."""

def sysfs_write(k: Kernel) -> None:
    """Somebody writes to the state file of a memory block that is offline already."""
    span = plug(k, k.memory_block_size)
    add_memory(k, 0, PLUG_AT, k.memory_block_size, MHP_NONE)
    block = k.block_id(span.start)
    kernfs_fop_write_iter(k, KernfsNode("state"), lambda: try_state_store(k, block, "offline"))


DEVICE_SCRIPTS: dict[str, Callable[[Kernel], object]] = {
    each.__name__: each
    for each in (
        huger_pages, private_without_methods, taken_late, file_ends, locked_page_is_touched, two_regions,
        align_is_written, gigantic, gigantic_among_huge, shared_block, kmem_of_two_ranges, kmem_group, shared_section,
        sysfs_write, huge_page_goes_bad,
    )
} | FIX_SCRIPTS  # fmt: skip
