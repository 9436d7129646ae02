"""Regions of dax devices, and how one without a namespace is cut into several: the files of ``drivers/dax/bus.c``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass, field
from errno import EACCES, EBUSY, EINVAL, ENOSPC, ENXIO

from memhp.errors import KernelError
from memhp.linux.drivers.dax.bus import (
    KERNEL_FILE,
    Allocated,
    DaxRegions,
    DevDax,
    alloc_dev_dax_range,
    alloc_is_aligned,
    dax_region_avail_size,
    dev_dax_resize,
    devm_create_dev_dax,
    unregister_dev_dax,
)
from memhp.linux.drivers.nvdimm.pfn_devs import PfnInfo
from memhp.linux.mm.dev_pagemap import DevPagemap
from memhp.linux.state import Kernel
from memhp.scenario import schema
from memhp.spans import Span

CREATE = f"{KERNEL_FILE}:create_store"


@dataclass
class Region:
    """A region (physical bytes), and what is bound to it now."""

    span: Span
    node: int
    namespace: bool = True
    """Whether it starts with a namespace's metadata."""
    ranges: tuple[Span, ...] | None = None
    """What of it the device has, if not all."""
    mode: schema.DaxMode = "none"
    disk: DevPagemap | None = None
    """What the block driver mapped, in mode `raw`."""
    info: PfnInfo | None = None
    """The info block of a namespace whose metadata is claimed."""
    dev: DevDax | None = None
    stays: list[Span] = field(default_factory=list)
    """Memory that kmem left behind, as not all its blocks were offline."""

    @property
    def device_ranges(self) -> tuple[Span, ...]:
        """What of it the device has."""
        return (self.span,) if self.ranges is None else self.ranges

    @property
    def pgmap(self) -> DevPagemap | None:
        """The device's mapping, where one is mapped now."""
        return self.disk or (self.dev.pgmap if self.dev else None)


def siblings(regions: dict[str, Region], name: str) -> dict[str, Region]:
    """The other devices in a device's region."""
    return {other: each for other, each in in_region(regions, region_number(name)).items() if other != name}


def hmem_name(name: str) -> str:
    """The device of a region without a namespace that a dax device belongs to: ``hmem.0`` of ``dax0.0``."""
    return f"hmem.{region_number(name)}"


def region_number(name: str) -> str:
    """The number of the region that a dax device is in: ``1`` of ``dax1.0``."""
    return name.removeprefix("dax").partition(".")[0]


def in_region(regions: dict[str, Region], number: str) -> dict[str, Region]:
    """The devices of a region by its number."""
    return {name: each for name, each in regions.items() if region_number(name) == number}


def allocated(devices: dict[str, Region]) -> list[Allocated]:
    """What devices have of their region."""
    return [(span, name) for name, each in devices.items() for span in each.device_ranges]


def available_size(regions: dict[str, Region], number: str) -> int:
    """What of a region (bytes) no device has: ``available_size_show()``."""
    devices = in_region(regions, number)
    return dax_region_avail_size(next(iter(devices.values())).span, allocated(devices))


def check_dynamic(region: Region) -> None:
    """Refuse to make another device of a namespace. Raises EINVAL."""
    if region.namespace:
        raise KernelError(EINVAL, "the region is static", place=CREATE, advice="a namespace has one device")


def create(k: Kernel, regions: dict[str, Region], number: str) -> str:
    """One more device in a region, which has nothing yet: its name has the lowest number that is free.

    Raises EINVAL for a namespace, whose device is all of it, and ENOSPC where nothing is left (``create_store()``).
    """
    devices = in_region(regions, number)
    sibling = next(iter(devices.values()))
    check_dynamic(sibling)
    if not available_size(regions, number):
        text, advice = "devices have all of the region", "shrink one of them first"
        raise KernelError(ENOSPC, text, place=CREATE, advice=advice)
    name = next(name for name in (f"dax{number}.{i}" for i in range(len(devices) + 1)) if name not in devices)
    created(k, regions, name, sibling)
    return name


def created(k: Kernel, regions: dict[str, Region], name: str, sibling: Region) -> Region:
    """A device of a name, in the region of another one."""
    region = regions[name] = Region(sibling.span, sibling.node, namespace=False, ranges=())
    region.dev = devm_create_dev_dax(k, DevDax(name, (), k.config.pmd_size, region.node))
    known = k.statics(DaxRegions)
    known.seed.setdefault(hmem_name(name), name)
    known.youngest[hmem_name(name)] = name
    return region


def probed(k: Kernel, name: str) -> None:
    """A driver took a device: it is the region's seed no more (``dax_bus_probe()``)."""
    seed = k.statics(DaxRegions).seed
    if seed.get(hmem_name(name)) == name:
        del seed[hmem_name(name)]


def delete(k: Kernel, regions: dict[str, Region], number: str, name: str) -> None:
    """A device goes. Raises ENXIO where the region has none of that name, and EBUSY for one with a driver or memory,
    and for the first, which stays as long as the region (``delete_store()``).
    """
    place = f"{KERNEL_FILE}:delete_store"
    region = in_region(regions, number).get(name)
    if region is None:
        raise KernelError(ENXIO, f"the region has no device {name!r}", place=place)
    if region.mode != "none" or region.device_ranges:
        advice = "unbind it, and write 0 to its `size`"
        raise KernelError(EBUSY, f"{name} has a driver or memory", place=place, advice=advice)
    if name == f"dax{number}.0":
        raise KernelError(EBUSY, f"{name} stays as long as its region", place=place)
    known = k.statics(DaxRegions)
    for each in (known.seed, known.youngest):
        if each.get(hmem_name(name)) == name:
            del each[hmem_name(name)]
    unregister_dev_dax(k, name)
    del regions[name]
    region.dev = None


def write_size(k: Kernel, regions: dict[str, Region], name: str, size: int, align: int) -> None:
    """A device is to have so many bytes. Raises EINVAL for a size that is not made of its pages, EBUSY while a driver
    has it, and ENOSPC for more than is left (``size_store()``); EACCES of a namespace.
    """
    region = regions[name]
    if region.namespace:
        text = "the size of a namespace's device is not to be written"
        raise KernelError(EACCES, text, place=f"{KERNEL_FILE}:dev_dax_visible", advice="write namespace = false")
    if not alloc_is_aligned(k, size, align):
        text = f"{size:#x} is not made of pages of {align:#x} bytes"
        raise KernelError(EINVAL, text, place=f"{KERNEL_FILE}:size_store", advice="write a multiple of `align`")
    if region.mode != "none":
        place = f"{KERNEL_FILE}:dev_dax_resize"
        raise KernelError(EBUSY, "the device has a driver", place=place, advice='unbind it first: mode = "none"')
    others = allocated(siblings(regions, name))
    region.ranges = dev_dax_resize(region.span, others, name, region.device_ranges, size)
    if region.dev is not None:
        region.dev.ranges = region.ranges


def write_mapping(k: Kernel, regions: dict[str, Region], name: str, dev: DevDax, first: int, last: int) -> None:
    """A device gets one more range, from one address to another, also while a driver has it.

    Nothing comes of one that is not made of its pages, which is no error. Raises what
    :func:`~memhp.linux.drivers.dax.bus.alloc_dev_dax_range` does (``mapping_store()``).
    """
    region = regions[name]
    size = (last - first + 1) % (1 << 64)
    if alloc_is_aligned(k, size, dev.align):
        taken = allocated(in_region(regions, region_number(name)))
        region.ranges = alloc_dev_dax_range(k, region.span, taken, region.device_ranges, first, size)
        dev.ranges = region.ranges
