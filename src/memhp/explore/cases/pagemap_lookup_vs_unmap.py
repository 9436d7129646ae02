"""Somebody looks a device's page up, or holds one, while its driver takes the mapping away."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Hashable
from dataclasses import dataclass

from memhp.explore.case import Case, Configuration, Variant, configurations, mainline
from memhp.explore.cases.actors import laws_hold, pfns
from memhp.explore.cases.near_dimm import boot_near, near_dimm
from memhp.explore.doors.run import Actor, KernelProgram
from memhp.hw.memory import Owner, Use
from memhp.linux.lib.percpu_refcount import PercpuRef, percpu_ref_kill
from memhp.linux.mm.dev_pagemap import DevPagemap, DevPagemapOps, MemoryType, Memremap, get_dev_pagemap, put_dev_pagemap
from memhp.linux.mm.memremap import (
    devm_memremap_pages_release,
    free_zone_device_folio,
    memremap_pages,
    pin_pages,
    unpin_pages,
    wait_for_references,
    zone_device_page_init,
)
from memhp.linux.mm.util import snapshot_page
from memhp.linux.profiles import MAINLINE
from memhp.linux.state import Kernel
from memhp.spans import Span


def page_free(k: Kernel, pfn: int) -> None:
    """Nothing to do for the driver."""


def kill(k: Kernel, pgmap: DevPagemap) -> None:
    """What drivers/nvdimm and drivers/dax did of their own until 5.16."""
    assert pgmap.ref is not None
    percpu_ref_kill(k.hw, pgmap.ref, waits=True)


@dataclass(frozen=True)
class Device:
    """What is mapped, and what else there is to it besides a lookup."""

    type: MemoryType = MemoryType.GENERIC
    ranges: int = 1
    own_count: bool = False
    """Whether the driver brings its reference count, with ``kill`` and ``cleanup``."""
    pinned: bool = False
    """Whether DMA holds a page, and lets it go at any time, in place of the lookup."""
    in_use: bool = False
    """Whether the driver has one page of private memory in use, and frees it at any time."""


DEVICES = {
    "no-reference": Device(),
    "kill-only": Device(),
    "no-grace-period": Device(),
    "generic": Device(),
    "fs-dax": Device(MemoryType.FS_DAX),
    "p2pdma": Device(MemoryType.PCI_P2PDMA),
    "private": Device(MemoryType.PRIVATE, in_use=True),
    "two-ranges": Device(ranges=2),
    "own-count": Device(own_count=True),
    "dma-each-page": Device(pinned=True),
    "dma-at-once": Device(pinned=True),
}
"""By variant."""


DEVICE = "device memory"


def ranges_of(k: Kernel, count: int) -> tuple[Span, ...]:
    """Ranges of the device, a section each, with a section between two."""
    start, size = near_dimm(k).start, k.config.section_size
    return tuple(Span(start + at * size, start + (at + 1) * size) for at in range(0, 2 * count, 2))


def device(k: Kernel, shape: Device) -> DevPagemap:
    """The device's mapping, before it is made."""
    private = shape.type is MemoryType.PRIVATE
    ops = DevPagemapOps(page_free=page_free, migrate_to_ram=page_free) if private else None
    pgmap = DevPagemap(shape.type, ranges_of(k, shape.ranges), ops=ops, owner="gpu" if private else "")
    if shape.own_count:
        pgmap.ops = DevPagemapOps(kill=kill, cleanup=wait_for_references)
        pgmap.ref = PercpuRef("driver's reference count", pgmap.release)
    return pgmap


def the_mapping(k: Kernel) -> tuple[DevPagemap, int]:
    """The device's mapping, whether it is there or not any more, and the first page of its last range."""
    pgmap = k.statics(Memremap).drvdata[DEVICE]
    return pgmap, pgmap.ranges[-1].start >> k.config.page_shift


def unbind(k: Kernel) -> None:
    """The driver is unbound."""
    devm_memremap_pages_release(k, the_mapping(k)[0])


def look_up(k: Kernel) -> Hashable:
    """``get_dev_pagemap()``, then the struct page, then the reference goes back, as in mm/memory-failure.c."""
    _, pfn = the_mapping(k)
    pgmap = get_dev_pagemap(k, pfn)
    if pgmap is None:
        return "no mapping"
    snapshot_page(k, pfn, "mm/memory-failure.c:memory_failure_dev_pagemap")
    put_dev_pagemap(k, pgmap)
    return "read"


def end_dma(k: Kernel) -> None:
    """A transfer ends: ``unpin_user_page()``."""
    unpin_pages(k, the_mapping(k)[0], 1)


def free_page(k: Kernel) -> None:
    """The driver frees the page that it has in use."""
    free_zone_device_folio(k, *the_mapping(k))


def build(variant: Variant, configuration: Configuration) -> KernelProgram:
    """The device is mapped; its driver is unbound while somebody looks a page up, or lets one go."""
    shape = DEVICES[variant.name]
    k = boot_near(variant.config(configuration), tag=DEVICE)
    pgmap = device(k, shape)
    for span in pgmap.ranges[1:]:
        k.hw.plug(pfns(k, span), Owner(Use.DEVICE, DEVICE))
    memremap_pages(k, pgmap, 0)
    k.statics(Memremap).drvdata[DEVICE] = pgmap
    actors: list[Actor] = [unbind]
    names = ["unbind"]
    if shape.pinned:
        pin_pages(k, pgmap, 1)
        actors.append(end_dma)
        names.append("DMA")
    else:
        actors.append(look_up)
        names.append("lookup")
    if shape.in_use:
        zone_device_page_init(k, pgmap)
        actors.append(free_page)
        names.append("driver")
    return KernelProgram(k, tuple(actors), tuple(names), check=laws_hold)


BLOCKS = {"rodata_full": False}
THEN = configurations("linux-5.13")
NOW = mainline()
BY_PAGE_SIZE = tuple(one for one in NOW if one.va_bits == 48)
LATEST = tuple(one for one in BY_PAGE_SIZE if one.release == MAINLINE[-1])

CASE = Case(
    name="pagemap-lookup-vs-unmap",
    actors="get_dev_pagemap() and a look at the page, or DMA that holds one; memunmap_pages()",
    build=build,
    geometry="a device of one or two ranges of a section each, of which one page is looked at or held",
    variants=(
        Variant(
            "no-reference",
            "nothing pins the mapping, as before 4.5",
            "broken",
            THEN,
            generic={"pgmap_drain": "none"},
            options=BLOCKS,
        ),
        Variant(
            "kill-only",
            "new references are refused, those there are waited for when all is unmapped, as from 4.20 to 5.2",
            "broken",
            THEN,
            generic={"pgmap_drain": "kill"},
            options=BLOCKS,
        ),
        Variant(
            "no-grace-period",
            "references that CPUs have counted of their own are added up at once when the count is killed",
            "broken",
            BY_PAGE_SIZE,
            generic={"percpu_switch": "at-once"},
            options=BLOCKS,
            of_kernel=False,
        ),
        Variant("generic", "kill and wait, then unmap: GENERIC memory", "repaired", NOW, options=BLOCKS),
        Variant("fs-dax", "the same of FS_DAX memory", "repaired", LATEST, options=BLOCKS),
        Variant("p2pdma", "the same of PCI_P2PDMA memory", "repaired", LATEST, options=BLOCKS),
        Variant("private", "the same of PRIVATE memory with a page in use", "repaired", LATEST, options=BLOCKS),
        Variant("two-ranges", "the same of a mapping of two ranges", "repaired", LATEST, options=BLOCKS),
        Variant("own-count", "with kill and cleanup of the driver's own, as by 5.13", "repaired", THEN, options=BLOCKS),
        Variant(
            "dma-each-page",
            "a page that DMA holds drops its reference on the mapping when it is let go: 5.13",
            "repaired",
            THEN,
            options=BLOCKS,
        ),
        Variant(
            "dma-at-once",
            "memunmap_pages() drops the references of all pages itself, held or not: kernels of today",
            "broken",
            BY_PAGE_SIZE,
            options=BLOCKS,
            finding="A device's struct pages go while DMA holds its pages",
        ),
    ),
)
