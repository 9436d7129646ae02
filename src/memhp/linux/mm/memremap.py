"""A device's memory gets struct pages, and loses them again: ``mm/memremap.c``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from errno import EINVAL, ENODEV, ENOMEM, ENXIO

from memhp.errors import KernelBug, KernelError
from memhp.hw.lifetime import kfree
from memhp.linux.config import Config
from memhp.linux.kernel.panic import warn
from memhp.linux.kernel.rcu import synchronize_rcu
from memhp.linux.kernel.resource import IORESOURCE_SYSTEM_RAM, Region, region_intersects
from memhp.linux.kernel.sched.wait_bit import wake_up_var
from memhp.linux.lib.percpu_refcount import (
    PercpuRef,
    percpu_ref_exit,
    percpu_ref_get_many,
    percpu_ref_kill,
    percpu_ref_put_many,
    percpu_ref_tryget_live,
    percpu_ref_tryget_many,
    switch_by_waiter,
)
from memhp.linux.mm.altmap import vmem_altmap_offset
from memhp.linux.mm.dev_pagemap import (
    COUNT,
    PAGE_REFCOUNT,
    PGMAP_ARRAY,
    DevPagemap,
    MemoryType,
    Memremap,
    get_dev_pagemap,
    put_dev_pagemap,
)
from memhp.linux.mm.kasan.init import kasan_add_zero_shadow, kasan_remove_zero_shadow
from memhp.linux.mm.memory_hotplug_pages import __remove_pages, mhp_range_allowed
from memhp.linux.mm.memory_hotplug_zone import move_pfn_range_to_zone, remove_pfn_range_from_zone
from memhp.linux.mm.mm_init import memmap_init_range
from memhp.linux.mm.util import pf_poisoned_check, snapshot_page
from memhp.linux.mmzone import MigrateType, PageFlags, Zone, ZoneType
from memhp.linux.place import here, kernel_function, of_file
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB

KERNEL_FILE = "mm/memremap.c"
RANGE = f"{KERNEL_FILE}:pagemap_range"
NO_ZONE_DEVICE = "this kernel was built without CONFIG_ZONE_DEVICE: devices get no struct pages"


def memremap_compat_align(config: Config) -> int:
    """Bytes that a device's memory must be aligned to so that it can get struct pages: a sub-section.

    Only powerpc, whose hash MMU maps 16 MiB at a time, says otherwise. A kernel without ZONE_DEVICE says a page
    (``include/linux/memremap.h``).
    """
    if not config.zone_device:
        return config.page_size
    return config.pages_per_subsection << config.page_shift


def pfn_first(k: Kernel, pgmap: DevPagemap, range_id: int) -> int:
    """The first page of a range that is the device's to use, behind what an altmap sets aside."""
    pfn = pgmap.ranges[range_id].start >> k.config.page_shift
    return pfn + (vmem_altmap_offset(pgmap.altmap) if range_id == 0 else 0)


def pfn_len(k: Kernel, pgmap: DevPagemap, range_id: int) -> int:
    """How many pages of its own size a device has in a range; each holds a reference on the mapping."""
    end = pgmap.ranges[range_id].end >> k.config.page_shift
    shift = pgmap.vmemmap_shift if k.config.profile.pgmap_ref == "at-once" else 0
    return (end - pfn_first(k, pgmap, range_id)) >> shift


def pgmap_pfn_valid(k: Kernel, pgmap: DevPagemap, pfn: int) -> bool:
    """Whether a page is one of the mapping's own, with a struct page that the device may use."""
    shift = k.config.page_shift
    for i in range(pgmap.nr_range):
        if pfn << shift in pgmap.ranges[i]:
            return pfn >= pfn_first(k, pgmap, i)
    return False


# Mapping -----------------------------------------------------------------------------------------------------


def memremap_pages(k: Kernel, pgmap: DevPagemap, nid: int = -1) -> int:
    """Give a device's memory struct pages in ZONE_DEVICE, and a direct map if the CPU can reach it: its address.

    Raises ENXIO where there is no ZONE_DEVICE (``include/linux/memremap.h``), EINVAL for what `pgmap` lacks, and what
    the first range that fails raises; ranges before it are undone.
    """
    if not k.config.zone_device:
        warn(k, "include/linux/memremap.h:devm_memremap_pages", once=True)
        raise KernelError(ENXIO, NO_ZONE_DEVICE, place=here())
    _check(k, pgmap)
    prot = _pgprot(k, pgmap)
    if pgmap.ref is None or k.config.profile.pgmap_ref == "at-once":
        if k.hw.may_fail(here()):
            raise KernelError(ENOMEM, "no memory for a percpu reference count", place=here())
        pgmap.ref = PercpuRef(COUNT, pgmap.release, pgmap.slab)
    pgmap.done = False
    pgmap.nr_range = 0
    for range_id in range(len(pgmap.ranges)):
        try:
            _pagemap_range(k, pgmap, range_id, nid if nid >= 0 else min(k.nodes), prot)
        except KernelError:
            memunmap_pages(k, pgmap)
            raise
        pgmap.nr_range += 1
    return k.layout.phys_to_virt(pgmap.ranges[0].start)


def _pages(k: Kernel, span: Span) -> Span:
    return Span(span.start >> k.config.page_shift, span.end >> k.config.page_shift)


def _check(k: Kernel, pgmap: DevPagemap) -> None:
    for text in _lacking(k, pgmap):
        warn(k, here(), text)
        raise KernelError(EINVAL, text, place=here())


def _lacking(k: Kernel, pgmap: DevPagemap) -> Iterator[str]:
    """What the kernel warns of before it does anything, in its order."""
    ops, kind = pgmap.ops, pgmap.type
    if not pgmap.ranges:
        yield "nr_range must be specified"
    if k.config.profile.pgmap_order == "at-most-a-folio" and pgmap.vmemmap_shift > max_folio_order(k.config):
        yield "requested folio size unsupported"
    if kind is MemoryType.PRIVATE and (ops is None or ops.migrate_to_ram is None):
        yield "Missing migrate_to_ram method"
    if kind.page_by_page and (ops is None or ops.page_free is None):
        yield f"Missing {k.config.profile.pgmap_free} method"
    if kind.page_by_page and not pgmap.owner:
        yield "Missing owner"
    if k.config.profile.pgmap_ref == "each-page" and pgmap.ref is not None:
        if ops is None or ops.kill is None or ops.cleanup is None:
            yield "Missing reference count teardown definition"
    elif ops is not None and (ops.kill is not None or ops.cleanup is not None):
        yield "Internal reference count teardown with methods of its own"


def max_folio_order(config: Config) -> int:
    """``MAX_FOLIO_ORDER``: 16 GiB where hugetlb has gigantic pages (``CONFIG_ARCH_HAS_GIGANTIC_PAGE``)."""
    if not config.port.has_gigantic_folios:
        return config.max_page_order
    return (16 * GiB // config.page_size).bit_length() - 1


def _pgprot(k: Kernel, pgmap: DevPagemap) -> int:
    """Attribute bits of the direct map. What another device reads and writes is not cached."""
    prot = k.port.page_kernel(k)
    return k.port.pgprot_noncached(k, prot) if pgmap.type is MemoryType.PCI_P2PDMA else prot


def _pagemap_range(k: Kernel, pgmap: DevPagemap, range_id: int, nid: int, prot: int) -> None:
    span = pgmap.ranges[range_id]
    pages = _pages(k, span)
    private = pgmap.type is MemoryType.PRIVATE
    _check_range(k, pgmap, range_id, span, pages)
    if k.hw.may_fail(RANGE):
        raise KernelError(ENOMEM, "no memory for the index of mappings", place=RANGE)
    k.hw.writes(PGMAP_ARRAY)
    k.statics(Memremap).pgmap_array.set(*pages, pgmap)
    shadow = False
    try:
        if not mhp_range_allowed(k, span.start, span.size, need_mapping=not private):
            text = f"[{span.start:#x}-{span.end:#x}) is outside what the kernel can map"
            raise KernelError(EINVAL, text, place=RANGE)
        with k.hw.locked("mem_hotplug_lock"):
            if private:
                k.port.add_pages(k, nid, pages.start, pages.size, pgmap.altmap, pgmap)
            else:
                kasan_add_zero_shadow(k, k.layout.phys_to_virt(span.start), span.size)
                shadow = True
                k.port.arch_add_memory(k, nid, span.start, span.size, pgmap.altmap, prot, pgmap)
            zone = k.nodes[nid].zone(ZoneType.DEVICE)
            move_pfn_range_to_zone(k, zone, pages.start, pages.size, MigrateType.MOVABLE, altmap=pgmap.altmap)
    except KernelError:
        if shadow:
            kasan_remove_zero_shadow(k, k.layout.phys_to_virt(span.start), span.size)
        _pgmap_array_delete(k, pages)
        raise
    memmap_init_zone_device(k, zone, pages, pgmap)
    assert pgmap.ref is not None
    if not _counts_pages_in_use(k, pgmap):
        percpu_ref_get_many(k.hw, pgmap.ref, pfn_len(k, pgmap, range_id))


def _check_range(k: Kernel, pgmap: DevPagemap, range_id: int, span: Span, pages: Span) -> None:
    """Refuse what another mapping or RAM has already."""
    if pgmap.altmap is not None and range_id:
        warn(k, RANGE, "altmap not supported for multiple ranges", once=True)
        raise KernelError(EINVAL, "altmap not supported for multiple ranges", place=RANGE)
    for pfn in (pages.start, pages.end - 1):
        conflict = get_dev_pagemap(k, pfn)
        if conflict is not None:
            warn(k, RANGE, "Conflicting mapping in same section")
            put_dev_pagemap(k, conflict)
            text = f"PFN {pfn:#x} belongs to another device mapping"
            raise KernelError(ENOMEM, text, place=RANGE, advice="unbind the driver that has it")
    descends = k.config.profile.region_intersects == "descends"
    with k.hw.locked("resource_lock", write=False):
        kind = region_intersects(k.iomem_resource, span.start, span.size, IORESOURCE_SYSTEM_RAM, descends=descends)
    if kind is not Region.REGION_DISJOINT:
        word = "mixed" if kind is Region.REGION_MIXED else "ram"
        text = f"attempted on {word} region {span.start:#x}-{span.end - 1:#x}"
        warn(k, RANGE, text, once=True)
        raise KernelError(ENXIO, text, place=RANGE, advice="remove the memory first")


@of_file("mm/mm_init.c")
def memmap_init_zone_device(k: Kernel, zone: Zone, pages: Span, pgmap: DevPagemap) -> None:
    """Initialise the struct pages that are the device's to use: reserved, of ZONE_DEVICE, and pointing to the mapping.

    mm/mm_init.c:memmap_init_zone_device.
    """
    start = pages.start
    if pgmap.altmap is not None:
        start = pgmap.altmap.base_pfn + vmem_altmap_offset(pgmap.altmap)
    memmap_init_range(k, start, pages.end - start, zone, MigrateType.MOVABLE, flags=PageFlags.RESERVED)
    k.statics(Memremap).page_pgmap.set(start, pages.end, pgmap)


def _pgmap_array_delete(k: Kernel, pages: Span) -> None:
    k.hw.writes(PGMAP_ARRAY)
    k.statics(Memremap).pgmap_array.clear(*pages)
    synchronize_rcu(k.hw)


# Unmapping ---------------------------------------------------------------------------------------------------


def memunmap_pages(k: Kernel, pgmap: DevPagemap) -> None:
    """Refuse new references, wait until those there are have gone, then take struct pages and direct map away.

    Kernels that wait later or not at all: ``Profile.pgmap_drain``. :class:`KernelBug` when references are left that
    nobody would ever give back: the kernel waits for ever.
    """
    drain = k.config.profile.pgmap_drain
    if drain != "none":
        _kill(k, pgmap)
    if drain == "kill-and-wait":
        _drain(k, pgmap)
    for range_id in range(pgmap.nr_range):
        _pageunmap_range(k, pgmap, range_id)
    if drain == "kill":
        _drain(k, pgmap)
    pgmap.nr_range = 0
    pgmap.ref = None
    if pgmap.altmap is not None and pgmap.altmap.alloc:
        warn(k, here(), "failed to free all reserved pages", once=True)


def devm_memremap_pages_release(k: Kernel, pgmap: DevPagemap) -> None:
    """The driver goes: its mapping is taken away, then its structures are freed. KernelBug: see memunmap_pages()."""
    memunmap_pages(k, pgmap)
    kfree(k.hw, pgmap.slab, "drivers/base/devres.c:release_nodes")


def _kill(k: Kernel, pgmap: DevPagemap) -> None:
    """Refuse new references, and drop those that pages hold."""
    ref, ops = pgmap.ref, pgmap.ops
    if ref is None:
        place = "lib/percpu-refcount.c:percpu_ref_kill_and_confirm"
        raise KernelBug("a page map's reference is killed a second time", place=place)
    if ops is not None and ops.kill is not None:
        ops.kill(k, pgmap)
    else:
        percpu_ref_kill(k.hw, ref, at_once=k.config.profile.percpu_switch == "at-once", waits=True)
    if not _counts_pages_in_use(k, pgmap):
        own = sum(pfn_len(k, pgmap, range_id) for range_id in range(pgmap.nr_range))
        k.hw.atomic(PAGE_REFCOUNT)
        pgmap.pages_dead = k.config.profile.pgmap_ref == "each-page"
        pgmap.left_to_pins = pgmap.pinned if pgmap.pages_dead else 0
        percpu_ref_put_many(k.hw, ref, own - pgmap.left_to_pins)


def _drain(k: Kernel, pgmap: DevPagemap) -> None:
    if pgmap.ops is not None and pgmap.ops.cleanup is not None:
        pgmap.ops.cleanup(k, pgmap)
    else:
        wait_for_references(k, pgmap)
        assert pgmap.ref is not None
        percpu_ref_exit(k.hw, pgmap.ref)


@kernel_function(f"{KERNEL_FILE}:memunmap_pages")
def wait_for_references(k: Kernel, pgmap: DevPagemap) -> None:
    """``wait_for_completion(&pgmap->done)``. :class:`KernelBug` when that would never come."""
    assert pgmap.ref is not None
    switch_by_waiter(k.hw, pgmap.ref)
    try:
        why = f"{pgmap.ref.count} references to the device's mapping"
        k.hw.wait(lambda: pgmap.done, why, on=pgmap.count)
    except KernelBug as hung:
        text = f"{hung.reason}; {pgmap.ref.count} are held, and nobody is left to drop them: release the pins first"
        raise KernelBug(text, place=here()) from None


def _counts_pages_in_use(k: Kernel, pgmap: DevPagemap) -> bool:
    """Whether pages hold a reference on the mapping while in use only, rather than all of them as long as it is."""
    return pgmap.type.page_by_page and k.config.profile.pgmap_ref == "at-once"


def _pageunmap_range(k: Kernel, pgmap: DevPagemap, range_id: int) -> None:
    span = pgmap.ranges[range_id]
    pages = _pages(k, span)
    of_range = k.config.profile.unmapped_zone == "range"
    first = pages.start if of_range else pfn_first(k, pgmap, range_id)
    pf_poisoned_check(k, first, f"{KERNEL_FILE}:memunmap_pages")
    zone = k.zone_of(first)
    assert zone is not None
    with k.hw.locked("mem_hotplug_lock"):
        remove_pfn_range_from_zone(k, zone, pages.start, pages.size)
        if pgmap.type is MemoryType.PRIVATE:
            __remove_pages(k, pages.start, pages.size)
        else:
            k.port.arch_remove_memory(k, span.start, span.size, pgmap.altmap)
            kasan_remove_zero_shadow(k, k.layout.phys_to_virt(span.start), span.size)
    _pgmap_array_delete(k, pages)


# Pages -------------------------------------------------------------------------------------------------------


def pin_pages(k: Kernel, pgmap: DevPagemap, nr: int) -> None:
    """Somebody (long-term DMA) holds `nr` of the device's pages: each has one more reference. Raises ENODEV.

    A page without references gets none (``try_get_page()``).
    """
    pfn = pgmap.ranges[0].start >> k.config.page_shift
    if get_dev_pagemap(k, pfn) is None:
        raise KernelError(ENODEV, "the device's mapping is gone or going", place="mm/gup.c:try_grab_folio")
    snapshot_page(k, pfn_first(k, pgmap, 0), "mm/gup.c:try_grab_folio")
    k.hw.atomic(PAGE_REFCOUNT)
    if pgmap.pages_dead and not pgmap.pinned:
        put_dev_pagemap(k, pgmap)
        raise KernelError(ENODEV, "the page has no references left", place="mm/gup.c:try_grab_folio")
    pgmap.pinned += nr
    put_dev_pagemap(k, pgmap)


@kernel_function("mm/gup.c:unpin_user_page")
def unpin_pages(k: Kernel, pgmap: DevPagemap, nr: int) -> None:
    """`nr` pinned pages are let go; where the mapping waits for them, each drops its reference on it.

    :class:`KernelBug` when it did not wait, and their struct pages are gone.
    """
    snapshot_page(k, pfn_first(k, pgmap, 0), here())
    _put_pins(k, pgmap, nr)


def _put_pins(k: Kernel, pgmap: DevPagemap, nr: int) -> None:
    k.hw.atomic(PAGE_REFCOUNT)
    pgmap.pinned -= nr
    late = min(nr, pgmap.left_to_pins)
    pgmap.left_to_pins -= late
    if late and pgmap.ref is not None:
        percpu_ref_put_many(k.hw, pgmap.ref, late)


def zone_device_page_init(k: Kernel, pgmap: DevPagemap, nr: int = 1) -> None:
    """The driver of private or coherent memory takes `nr` pages into use; it must not once the mapping is killed.

    Kernels that take the references of a whole folio at once notice that only when the last one has gone.
    """
    assert pgmap.ref is not None
    live = k.config.profile.page_init_ref == "live"
    taken = (percpu_ref_tryget_live if live else percpu_ref_tryget_many)(k.hw, pgmap.ref, nr)
    if not taken:
        warn(k, here(), once=True)


def free_zone_device_folio(k: Kernel, pgmap: DevPagemap, pfn: int) -> None:
    """The last reference to a page is gone: its driver is told, and private or coherent memory unpins the mapping.

    Of FS_DAX memory whoever waits for the page is woken; by 6.12 ``__put_devmap_managed_folio_refs()`` does that. Pages
    of device-dax are its own as before.
    """
    if pgmap.type is MemoryType.FS_DAX:
        wake_up_var(k, pfn)
    if pgmap.type in {MemoryType.FS_DAX, MemoryType.GENERIC}:
        return
    if pgmap.ops is None or pgmap.ops.page_free is None:
        warn(k, here(), once=True)
        return
    pgmap.ops.page_free(k, pfn)
    if pgmap.type.page_by_page:
        put_dev_pagemap(k, pgmap)
