"""The step `dax`: a region that firmware keeps from the kernel, and the driver that has it."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable, Iterator, Mapping
from errno import EBUSY, ENXIO

from memhp.errors import BadInput, KernelError
from memhp.hw.devices.pmem import plug_pmem
from memhp.linux.drivers.dax.bus import (
    Allocated,
    DaxRegions,
    DevDax,
    alloc_dax_region,
    dax_region_unregister,
    devm_create_dev_dax,
    memmap_on_memory_store,
    unregister_dev_dax,
)
from memhp.linux.drivers.dax.device import dev_dax_probe, dev_dax_remove
from memhp.linux.drivers.dax.kmem import dev_dax_kmem_probe, dev_dax_kmem_remove, mapping
from memhp.linux.drivers.dax.pmem import dax_pmem_probe, dax_pmem_remove
from memhp.linux.drivers.nvdimm.pfn_devs import nd_pfn_init
from memhp.linux.drivers.nvdimm.pmem import pmem_attach_disk, pmem_detach_disk
from memhp.linux.mm.memremap import pin_pages, unpin_pages
from memhp.linux.state import Kernel
from memhp.scenario import schema
from memhp.spans import Span, SpanSet
from memhp.target.model.dax_region import (
    Region,
    allocated,
    check_dynamic,
    created,
    hmem_name,
    probed,
    siblings,
    write_size,
)
from memhp.units import format_size, parse_size

STAYS = "its memory stays RAM until the next boot: take all its blocks offline before kmem is unbound"


def dax(
    k: Kernel, regions: dict[str, Region], step: schema.Dax, notes: list[str], devices: Iterable[tuple[str, Span]] = ()
) -> None:
    """Unbind the driver that has the region, then bind the one that the step names.

    `devices`: where virtio-mem devices have their memory (bytes), which a new region must leave free.
    Raises :class:`BadInput`.
    """
    region = regions.get(step.device) or _create(k, regions, step) or _plug(k, regions, step, devices)
    if step.namespace is not None:
        region.namespace = step.namespace
    if step.ranges is not None:
        region.ranges = tuple(_ranges(k, region, step.ranges, allocated(siblings(regions, step.device))))
    if step.allocate is not None:
        size = parse_size(str(step.allocate), where="allocate")
        if not size:
            raise BadInput("a device of nothing", where="allocate", fix="write how much it has")
        write_size(k, regions, step.device, size, _align(k, region, step))
        _device(k, region, step)
    if step.mode is not None:
        _unbind(k, region, notes)
        try:
            _bind(k, region, step, notes)
        except KernelError as error:
            if error.errno == EBUSY and region.stays:
                raise KernelError(EBUSY, error.reason, place=error.place, advice=STAYS) from error
            raise
    elif step.memmap_on_memory is not None and region.dev is not None:
        memmap_on_memory_store(k, region.dev, step.memmap_on_memory, kmem=region.mode == "kmem")
    if step.pinned is not None:
        _pin(k, region, step.pinned)


def _create(k: Kernel, regions: dict[str, Region], step: schema.Dax) -> Region | None:
    """One more device in a region that is there; None where its region is not, or it brings one. Raises EINVAL for a
    namespace, which has one.
    """
    sibling = next(iter(siblings(regions, step.device).values()), None)
    if sibling is None or step.at is not None:
        return None
    check_dynamic(sibling)
    if step.allocate is None and step.ranges is None:
        raise BadInput("how much of the region has it?", where="allocate", fix="write a size, or `ranges`")
    return created(k, regions, step.device, sibling)


def _plug(k: Kernel, regions: dict[str, Region], step: schema.Dax, devices: Iterable[tuple[str, Span]]) -> Region:
    """The region appears. Raises :class:`BadInput` for one that cannot be meant."""
    if step.at is None or step.size is None:
        raise BadInput(f"there is no region {step.device!r} yet", where="at", fix="write `at` and `size`")
    start, size = parse_size(step.at, where="at"), parse_size(step.size, where="size")
    page = k.config.page_size
    for key, value in (("at", start), ("size", size)):
        if value % page or (key == "size" and not value):
            raise BadInput(f"{value:#x} is not made of whole pages", where=key, fix=f"pages are {format_size(page)}")
    frames = Span(start // page, (start + size) // page)
    if k.hw.memory.owners.covered(*frames):
        raise BadInput(f"[{start:#x}-{start + size:#x}) overlaps memory that is there", where="at")
    for name, taken in devices:
        if taken.overlaps(Span(start, start + size)):
            raise BadInput(f"[{start:#x}-{start + size:#x}) overlaps the region of {name}", where="at")
    plug_pmem(k.hw, frames)
    regions[step.device] = Region(Span(start, start + size), step.node)
    return regions[step.device]


def _unbind(k: Kernel, region: Region, notes: list[str]) -> None:
    """``echo dax0.0 > …/unbind``, and the same for the namespace where its info block is to be written anew."""
    mode, region.mode = region.mode, "none"
    if mode == "raw":
        pmem_detach_disk(k, region.span, region.disk)
        region.disk = None
    elif mode == "devdax" and region.dev is not None:
        dev_dax_remove(k, region.dev)
    elif mode == "kmem" and region.dev is not None:
        region.stays = dev_dax_kmem_remove(k, region.dev)
        for i, span in enumerate(region.stays):
            notes.append(f"{mapping(i, span)} stays RAM until the next boot: not all its blocks are offline")


def _bind(k: Kernel, region: Region, step: schema.Dax, notes: list[str]) -> None:
    if step.mode == "raw":
        _forget(k, region, step.device)
        region.disk = pmem_attach_disk(k, namespace_name(step.device), region.span, region.node, pagemap=step.pagemap)
    elif step.mode in ("devdax", "kmem"):
        if not region.device_ranges:
            place = "drivers/dax/bus.c:dax_bus_probe"
            raise KernelError(ENXIO, "the device has no memory", place=place, advice="`allocate` some first")
        dev = _device(k, region, step)
        _write_attribute(k, dev, step, notes)
        (dev_dax_probe if step.mode == "devdax" else dev_dax_kmem_probe)(k, dev)
        probed(k, step.device)
    else:
        dev = region.dev or _device(k, region, step)
        _write_attribute(k, dev, step, notes)
    region.mode = step.mode or "none"


def _write_attribute(k: Kernel, dev: DevDax, step: schema.Dax, notes: list[str]) -> None:
    """Write the device's ``memmap_on_memory`` before a driver is bound, as daxctl does; refused, it is as it was."""
    if step.memmap_on_memory is None:
        return
    try:
        memmap_on_memory_store(k, dev, step.memmap_on_memory, kmem=False)
    except KernelError as error:
        notes.append(f"the device's memmap_on_memory stays as it is: {error.reason}")


def _device(k: Kernel, region: Region, step: schema.Dax) -> DevDax:
    """The device of the DAX bus; made anew when the step wants another geometry than it has."""
    align = _align(k, region, step)
    if not region.namespace:
        if region.dev is None and hmem_name(step.device) not in k.statics(DaxRegions).by_parent:
            alloc_dax_region(k, hmem_name(step.device), region.span)
        ranges = region.device_ranges
        if region.dev is None:
            region.dev = devm_create_dev_dax(k, DevDax(step.device, ranges, align, region.node))
        region.dev.align, region.dev.ranges = align, ranges
        return region.dev
    info = nd_pfn_init(k.config, region.span, step.map or (region.info.mode if region.info else "mem"), align)
    if region.dev is None or region.info != info:
        attribute = region.dev is not None and region.dev.memmap_on_memory
        _forget(k, region, step.device)
        region.dev = dax_pmem_probe(k, step.device, namespace_name(step.device), region.span, info, region.node)
        devm_create_dev_dax(k, region.dev).memmap_on_memory = attribute
        region.info = info
    return region.dev


def _ranges(k: Kernel, region: Region, written: list[schema.Memory], others: list[Allocated]) -> Iterator[Span]:
    """The parts of a region that a device has. Raises :class:`BadInput` for what ``mapping_store()`` does not."""
    if region.namespace:
        raise BadInput("a namespace's device is all of it", where="ranges", fix="write namespace = false")
    if region.mode != "none":
        raise BadInput("the device has a driver, and stays as it is", where="ranges", fix='unbind it: mode = "none"')
    taken = SpanSet(span for span, _ in others)
    for i, each in enumerate(written):
        where = f"ranges[{i}]"
        if each.start is None:
            raise BadInput("a range lies somewhere", where=f"{where}.start", fix="write where it starts")
        start = parse_size(each.start, where=f"{where}.start")
        span = Span(start, start + parse_size(each.size, where=f"{where}.size"))
        unit = k.config.pmd_size if region.dev is None else region.dev.align
        if not span.size or span.start % unit or span.size % unit:
            raise BadInput("is not aligned as the device is", where=where, fix=f"multiples of {format_size(unit)}")
        if not region.span.covers(span) or taken.covered(*span):
            raise BadInput("is not free in the region", where=where, fix="ranges lie in it, and do not overlap")
        taken.add(*span)
        yield span


def _align(k: Kernel, region: Region, step: schema.Dax) -> int:
    """The page size that a step asks for, or the device has. Raises :class:`BadInput` for what is none."""
    if step.align is None:
        return k.config.pmd_size if region.dev is None else region.dev.align
    align = parse_size(step.align, where="align")
    if align < k.config.page_size or align & (align - 1):
        raise BadInput(f"{align:#x} is no alignment", where="align", fix="a power of two, at least a page")
    return align


def _forget(k: Kernel, region: Region, name: str) -> None:
    """The namespace gives up its device of the DAX bus; memory of it that is RAM stays, with its resource."""
    if region.info is not None:
        dax_pmem_remove(k, namespace_name(name), region.span, region.info)
    elif region.dev is not None:
        dax_region_unregister(k, hmem_name(name))
    unregister_dev_dax(k, name)
    region.dev = region.info = None


def _pin(k: Kernel, region: Region, wanted: int) -> None:
    pgmap = region.pgmap
    if pgmap is None:
        raise BadInput("nothing of the region is mapped that could be pinned", where="pinned")
    if wanted > pgmap.pinned:
        pin_pages(k, pgmap, wanted - pgmap.pinned)
    else:
        unpin_pages(k, pgmap, pgmap.pinned - wanted)


def namespace_name(name: str) -> str:
    """The namespace that a dax device belongs to: ``namespace0.0`` of ``dax0.0``."""
    return f"namespace{name.removeprefix('dax')}"


DRIVERS: Mapping[str, schema.DaxMode] = {"device_dax": "devdax", "kmem": "kmem"}
"""The drivers of the DAX bus, and the mode of a region that each has."""


def driver_of(mode: str) -> str | None:
    """The driver of the DAX bus that has a region in this mode; None where none has it."""
    return next((driver for driver, its in DRIVERS.items() if its == mode), None)
