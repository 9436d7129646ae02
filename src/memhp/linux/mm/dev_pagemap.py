"""``struct dev_pagemap``: a device's memory that has struct pages, in ZONE_DEVICE: ``include/linux/memremap.h``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from memhp.hw.lifetime import SlabObject, use_object
from memhp.hw.shared import marked
from memhp.linux.kernel.rcu import rcu_read_lock
from memhp.linux.lib.percpu_refcount import PercpuRef, percpu_ref_put_many, percpu_ref_tryget_live_rcu
from memhp.linux.mm.altmap import VmemAltmap
from memhp.linux.place import here, kernel_function, of_file
from memhp.spans import Span, SpanMap

if TYPE_CHECKING:
    from memhp.linux.state import Kernel

KERNEL_FILE = "mm/memremap.c"
PGMAP_ARRAY = "pgmap_array"
"""The field by which lookups and updates meet."""
PAGE_REFCOUNT = "page->_refcount"
"""The references that others hold to a device's pages."""
COUNT = "dev_pagemap.ref"


class MemoryType(StrEnum):
    """``enum memory_type``: what a device's memory is good for."""

    PRIVATE = "MEMORY_DEVICE_PRIVATE"
    """The CPU cannot reach it: struct pages, but no direct map."""
    COHERENT = "MEMORY_DEVICE_COHERENT"
    """The device's own, but the CPU reaches it as well (5.17)."""
    FS_DAX = "MEMORY_DEVICE_FS_DAX"
    """A file system hands its pages out and waits for each to become idle."""
    GENERIC = "MEMORY_DEVICE_GENERIC"
    """Like RAM; device-dax."""
    PCI_P2PDMA = "MEMORY_DEVICE_PCI_P2PDMA"
    """A PCI BAR that other devices read and write."""

    @property
    def page_by_page(self) -> bool:
        """Whether the mapping is referenced by each page in use only, and not by all that there are."""
        return self in {MemoryType.PRIVATE, MemoryType.COHERENT}


PageFree = Callable[["Kernel", int], None]
"""``(k, pfn)``: a page's last reference is gone."""

MigrateToRam = Callable[["Kernel", Any], None]
"""``(k, fault)``: the CPU touches a page of private memory, where it is :class:`~memhp.linux.mm.mm_types.Mapped`."""

PagemapCall = Callable[["Kernel", "DevPagemap"], None]
"""``(k, pgmap)``: a step in the life of a mapping."""


@dataclass(frozen=True)
class DevPagemapOps:
    """``struct dev_pagemap_ops``, as far as memory hotplug calls or asks for them."""

    page_free: PageFree | None = None
    """Since 6.19 ``folio_free``."""
    migrate_to_ram: MigrateToRam | None = None
    kill: PagemapCall | None = None
    """In 5.13: take the reference count to its dead state, in place of ``percpu_ref_kill()``."""
    cleanup: PagemapCall | None = None
    """In 5.13: wait until nobody refers to the mapping, and reap it."""


@dataclass(eq=False)
class DevPagemap:
    """``struct dev_pagemap``; `ranges` in bytes, ends exclusive. Two of them are never equal."""

    type: MemoryType
    ranges: tuple[Span, ...]
    altmap: VmemAltmap | None = None
    """``PGMAP_ALTMAP_VALID`` is set when there is one."""
    ops: DevPagemapOps | None = None
    owner: str = ""
    vmemmap_shift: int = 0
    """Order of the device's large pages, whose struct pages are populated as compound pages (5.19)."""
    ref: PercpuRef | None = None
    """What pins the mapping; in 5.13 the caller may bring its own, else it is made when memory is mapped."""
    nr_range: int = 0
    """How many ranges are mapped now."""
    pinned: int = field(default=0, metadata=marked(PAGE_REFCOUNT))
    """Pages that somebody holds, long-term DMA say, each once."""
    pages_dead: bool = field(default=False, metadata=marked(PAGE_REFCOUNT))
    """Whether pages have lost the reference that they came with, so that one which nobody holds has none."""
    left_to_pins: int = field(default=0, metadata=marked(PAGE_REFCOUNT))
    """References that pinned pages still have to drop on a mapping that is going away."""
    done: bool = field(default=False, repr=False, metadata=marked(lambda pgmap: pgmap.count))
    """``struct completion``: the last reference is gone; who drops that says so in one go with it."""
    slab: SlabObject = field(default_factory=lambda: SlabObject("dev_pagemap"), repr=False)
    """The structure itself, which is its driver's to free."""

    @property
    def count(self) -> str:
        """What the number of references goes by at the doors."""
        ref: PercpuRef | None = vars(self)["ref"]
        return f"{COUNT}.count" if ref is None else ref.together

    @kernel_function(f"{KERNEL_FILE}:dev_pagemap_percpu_release")
    def release(self) -> None:
        """``complete(&pgmap->done)``."""
        self.done = True


@of_file("include/linux/memremap.h")
def pgmap_vmemmap_nr(pgmap: DevPagemap) -> int:
    """Pages of one of the device's large pages: ``pgmap_vmemmap_nr()``."""
    return 1 << pgmap.vmemmap_shift


@dataclass
class Memremap:
    """Whose device memory is."""

    pgmap_array: SpanMap[DevPagemap] = field(default_factory=SpanMap, metadata=marked(PGMAP_ARRAY))
    """PFN → the device mapping that it belongs to."""
    page_pgmap: SpanMap[DevPagemap] = field(default_factory=SpanMap)
    """PFN → what its struct page points to (``page->pgmap``), from when it is initialised to when it is so again."""
    drvdata: dict[str, DevPagemap] = field(default_factory=dict)
    """Device → the mapping that its driver keeps, also when it is undone (``dev_get_drvdata()``)."""


@of_file("include/linux/mmzone.h")
def page_pgmap(k: Kernel, pfn: int) -> DevPagemap:
    """The mapping that a device's page belongs to, as the page says to who has it: no table is looked at."""
    pgmap = k.statics(Memremap).page_pgmap.get(pfn)
    assert pgmap is not None
    return pgmap


def get_dev_pagemap(k: Kernel, pfn: int, pgmap: DevPagemap | None = None) -> DevPagemap | None:
    """Pin the mapping that a page belongs to; None when there is none, or when it is going away.

    `pgmap`, which the caller holds already, is given back as it is when it has the page in its first range, else
    released. Kernels without references (``Profile.pgmap_drain``) hand out what is there.
    """
    if pgmap is not None:
        if pfn << k.config.page_shift in pgmap.ranges[0]:
            return pgmap
        put_dev_pagemap(k, pgmap)
    with rcu_read_lock(k.hw):
        k.hw.reads(PGMAP_ARRAY)
        found = k.statics(Memremap).pgmap_array.get(pfn)
        ref = None if found is None else found.ref
        if found is None or ref is None or k.config.profile.pgmap_drain == "none":
            return found
        use_object(k.hw, found.slab, here())
        return found if percpu_ref_tryget_live_rcu(k.hw, ref) else None


@of_file("include/linux/memremap.h")
def put_dev_pagemap(k: Kernel, pgmap: DevPagemap | None) -> None:
    """Give a reference back; the last one after the mapping was killed lets :func:`memunmap_pages` go on."""
    if pgmap is not None and pgmap.ref is not None and k.config.profile.pgmap_drain != "none":
        percpu_ref_put_many(k.hw, pgmap.ref, 1)
