"""Devices of the DAX bus: ``drivers/dax/bus.c`` and ``dax-private.h``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from errno import EBUSY, EINVAL, ENOMEM, ENOSPC, EOPNOTSUPP

from memhp.errors import KernelError
from memhp.linux.kernel.panic import warn
from memhp.linux.kernel.resource import Resource
from memhp.linux.mm.dev_pagemap import DevPagemap
from memhp.linux.mm.memory_hotplug_memmap import mhp_supports_memmap_on_memory
from memhp.linux.mm.memremap import memremap_compat_align
from memhp.linux.place import here
from memhp.linux.state import Kernel
from memhp.spans import Span

KERNEL_FILE = "drivers/dax/bus.c"
REGION_RWSEM, DEV_RWSEM = "dax_region_rwsem", "dax_dev_rwsem"
"""Of all regions, and of all devices; before there were these, the lock of each ``struct device``."""


@dataclass
class DaxRegions:
    """``dax_regions``: whose address ranges are handed out as dax devices."""

    by_parent: dict[str, Span] = field(default_factory=dict)
    """Parent device → its region (physical bytes)."""
    seed: dict[str, str] = field(default_factory=dict)
    """Parent device → the first device that was created in its region and had no driver yet."""
    youngest: dict[str, str] = field(default_factory=dict)
    """Parent device → the last that was created in its region."""


def alloc_dax_region(k: Kernel, parent: str, span: Span) -> None:
    """A parent device offers its range (physical bytes) to the DAX bus.

    Raises ENOMEM, as callers make of every failure, when another one's region overlaps it.
    """
    regions = k.statics(DaxRegions).by_parent
    with _tree_locked(k):
        in_one = k.config.profile.dax_regions == "one-tree"
        other = next((name for name, each in regions.items() if each.overlaps(span)), None) if in_one else None
        if other is None:
            regions[parent] = span
            return
    text = f"dax_region resource conflict for [mem {span.start:#010x}-{span.end - 1:#010x}]"
    k.hw.log(f"{parent}: {text}", "err")
    raise KernelError(ENOMEM, text, place=here(), advice=f"{other} has that range")


def dax_region_unregister(k: Kernel, parent: str) -> None:
    """The parent's driver is unbound."""
    regions = k.statics(DaxRegions)
    with _tree_locked(k):
        regions.by_parent.pop(parent, None)
    for each in (regions.seed, regions.youngest):
        each.pop(parent, None)


def _tree_locked(k: Kernel) -> AbstractContextManager[None]:
    """Where regions are in one tree, it is one of resources: ``request_resource()``, ``release_resource()``."""
    return k.hw.locked("resource_lock") if k.config.profile.dax_regions == "one-tree" else nullcontext()


@dataclass
class DaxBus:
    """``dax_bus_type``: the devices that are on it."""

    devices: "dict[str, DevDax]" = field(default_factory=dict)


def devm_create_dev_dax(k: Kernel, dev: "DevDax") -> "DevDax":
    """The device is on the bus, in place of another one of its name."""
    with _region_locked(k, dev.name):
        k.statics(DaxBus).devices[dev.name] = dev
        return dev


def unregister_dev_dax(k: Kernel, name: str) -> None:
    """It is not any more."""
    with _region_locked(k, name):
        k.statics(DaxBus).devices.pop(name, None)


def _region_locked(k: Kernel, name: str) -> AbstractContextManager[None]:
    """Nobody else changes what is in a device's region; before there was one lock of all, that of the region's parent,
    which its driver holds while it is bound and unbound.
    """
    if k.config.profile.dax_locks == "rwsems":
        return k.hw.locked(REGION_RWSEM)
    return k.hw.locked(f"{name.partition('.')[0]}.device_lock", ordered=False)


def _dev_locked(k: Kernel, name: str) -> AbstractContextManager[None]:
    """Nobody else changes what a device is like."""
    if k.config.profile.dax_locks == "rwsems":
        return k.hw.locked(DEV_RWSEM)
    return k.hw.locked(f"{name}.device_lock", ordered=False)


@dataclass
class KmemData:
    """``struct dax_kmem_data``: what the kmem driver has added for a device."""

    mgid: int | None
    """Its memory group, in kernels that have groups."""
    res: list[Resource | None]
    """The resource around each range's memory; None for a range that was not added."""


@dataclass
class DevDax:
    """``struct dev_dax``: one device and the physical bytes that it consists of."""

    name: str
    ranges: tuple[Span, ...]
    align: int
    target_node: int = 0
    """The node that its memory would be, were it RAM."""
    memmap_on_memory: bool = False
    """The attribute that says whether kmem asks for struct pages in the memory itself."""
    static_pgmap: DevPagemap | None = None
    """The mapping that a namespace brings (``static_dev_dax()``); None for a device with no metadata of its own."""
    pgmap: DevPagemap | None = None
    """What device-dax mapped."""
    kmem: KmemData | None = field(default=None, repr=False)


Allocated = tuple[Span, str]
"""A range of a region, and the device that has it."""


def dax_region_avail_size(region: Span, allocated: list[Allocated]) -> int:
    """What of a region (bytes) no device has."""
    return region.size - sum(span.size for span, _ in allocated)


def alloc_is_aligned(k: Kernel, size: int, align: int) -> bool:
    """Whether bytes are made of a device's pages, and of what struct pages are mapped for at once."""
    return size % max(align, memremap_compat_align(k.config)) == 0


def alloc_dev_dax_range(
    k: Kernel, region: Span, allocated: list[Allocated], ranges: tuple[Span, ...], start: int, size: int
) -> tuple[Span, ...]:
    """A device's ranges with one more, wherever it starts. `allocated`: what all devices of the region have.

    Raises ENOMEM for a range that is not free in the region, and EBUSY for one of nothing, of which the log warns,
    where the device has ranges.
    """
    if not size:
        if ranges:
            warn(k, f"{KERNEL_FILE}:alloc_dev_dax_range", "0-size allocation must be first", once=True)
            raise KernelError(EBUSY, "a range of nothing", place=here())
        return ranges
    span = Span(start, start + size)
    if not region.covers(span) or any(each.overlaps(span) for each, _ in allocated):
        text = f"[{span.start:#x}-{span.end - 1:#x}] is not free in the region"
        raise KernelError(ENOMEM, text, place=here(), advice="read `available_size`, and where the others' ranges are")
    return (*ranges, span)


def dev_dax_resize(
    region: Span, allocated: list[Allocated], name: str, ranges: tuple[Span, ...], size: int
) -> tuple[Span, ...]:
    """The ranges of a device whose ``size`` attribute is written, in its order: it grows into the lowest gaps of its
    region, its last range first where that is next to one, and shrinks from its last range on. Bytes.

    `allocated`: what other devices of the region have. Raises ENOSPC for more than is left.
    """
    own = list(ranges)
    left = size - sum(span.size for span in own)
    if left > dax_region_avail_size(region, [*allocated, *((span, name) for span in own)]):
        text = f"the region has less than {left:#x} bytes left"
        raise KernelError(ENOSPC, text, place=here(), advice="shrink another of its devices first")
    while left < 0:
        last = own.pop()
        keep = max(last.size + left, 0)
        left += last.size - keep
        if keep:
            own.append(Span(last.start, last.start + keep))
    while left > 0:
        children = sorted([*allocated, *((span, name) for span in own)])
        gap, before = _first_gap(region, children)
        took = Span(gap.start, gap.start + min(gap.size, left))
        if own and before == own[-1]:
            own[-1] = Span(before.start, took.end)
        else:
            own.append(took)
        left -= took.size
    return tuple(own)


def _first_gap(region: Span, children: list[Allocated]) -> tuple[Span, Span | None]:
    """The lowest free part of a region, and the range that ends where it begins."""
    at, before = region.start, None
    for span, _ in children:
        if span.start > at:
            break
        at, before = span.end, span
    end = next((span.start for span, _ in children if span.start >= at), region.end)
    return Span(at, end), before


def align_store(k: Kernel, dev: DevDax, align: int, *, driver: bool) -> None:
    """Somebody writes the size of the device's pages. Raises EINVAL for one that this machine has not, or that the
    device is not made of, and EBUSY while a driver has the device.
    """
    sizes = {k.config.page_size, k.config.pmd_size}
    if k.port.has_transparent_hugepage_pud:
        sizes.add(k.config.pud_size)
    if align not in sizes:
        raise KernelError(EINVAL, f"{align:#x} is no size of pages", place="drivers/dax/dax-private.h:dax_align_valid")
    with _region_locked(k, dev.name), _dev_locked(k, dev.name):
        if driver:
            raise KernelError(EBUSY, "the device has a driver", place=here(), advice="unbind it first")
        if not all(alloc_is_aligned(k, span.size, align) for span in dev.ranges):
            text = f"a range is not made of pages of {align:#x} bytes"
            raise KernelError(EINVAL, text, place=f"{KERNEL_FILE}:dev_dax_validate_align")
        dev.align = align


def memmap_on_memory_store(k: Kernel, dev: DevDax, value: bool, *, kmem: bool) -> None:
    """Somebody writes the attribute. Raises EOPNOTSUPP where struct pages never lie in the memory itself, and EBUSY to
    change it while kmem has the device.
    """
    if value and not mhp_supports_memmap_on_memory(k):
        advice = "boot with memory_hotplug.memmap_on_memory=Y"
        raise KernelError(EOPNOTSUPP, "memmap_on_memory is not available", place=here(), advice=advice)
    with _dev_locked(k, dev.name):
        if value != dev.memmap_on_memory and kmem:
            raise KernelError(EBUSY, "kmem has the device", place=here(), advice="unbind it first")
        dev.memmap_on_memory = value
