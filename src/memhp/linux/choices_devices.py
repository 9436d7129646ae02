"""The choices of drivers: of memory devices, and of the struct pages that devices get."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass
from typing import Literal

from memhp.linux.choice import Choices, choice
from memhp.linux.release import first, since

PgmapDrain = Literal["none", "kill", "kill-and-wait"]


@dataclass(frozen=True, kw_only=True)
class DeviceChoices(Choices):
    """What ``drivers/virtio``, ``drivers/dax``, ``drivers/acpi`` and ``mm/memremap.c`` decide."""

    virtio_mem_sub_block: Literal["max-order", "pageblock"] = choice(
        "The least that the virtio-mem driver plugs and unplugs in sub-block mode: the buddy's largest block, or a "
        "pageblock.",
        first("max-order"),
        since("5.19", "pageblock", "drivers: virtio_mem: use pageblock size as the minimum virtio_mem size."),
    )
    virtio_mem_movable_first: bool = choice(
        "Whether the virtio-mem driver unplugs from ZONE_MOVABLE before it tries kernel zones.",
        first(False),
        since("5.14", True, "virtio-mem: prioritize unplug from ZONE_MOVABLE in Sub Block Mode"),
    )
    virtio_mem_remove_errors: Literal["given-up", "retried"] = choice(
        "What the virtio-mem driver makes of an unplugged memory block that cannot be removed: it is forgotten, and "
        "in big-block mode the error ends the request; or EBUSY, and tried again later. The same series has it stop "
        "emptying memory once the configuration of the device changed.",
        first("given-up"),
        since(
            "6.6", "retried", "virtio-mem: keep retrying on offline_and_remove_memory() errors in Sub Block Mode (SBM)"
        ),
    )
    dax_compound_pages: bool = choice(
        "Whether device-dax asks for compound pages of its alignment.",
        first(False),
        since("5.17", True, "device-dax: compound devmap support"),
    )
    pgmap_ref: Literal["each-page", "at-once"] = choice(
        "Who drops the references that pages hold on a device's mapping when it goes: each page, when nobody holds "
        "it any more, so that DMA delays ``memunmap_pages()``, and a caller may bring its own count with ``kill`` "
        "and ``cleanup``; or that function for all of them.",
        first("each-page"),
        since("5.18", "at-once", "mm: remove the extra ZONE_DEVICE struct page refcount"),
    )
    pgmap_free: Literal["page_free", "folio_free"] = choice(
        "What the method is called that ``memremap_pages()`` wants of private and coherent memory.",
        first("page_free"),
        since("6.19", "folio_free", "mm/zone_device: rename page_free callback to folio_free"),
    )
    pgmap_order: Literal["any", "at-most-a-folio"] = choice(
        "Whether ``memremap_pages()`` refuses pages larger than any folio may be (``MAX_FOLIO_ORDER``).",
        first("any"),
        since(
            "6.18",
            "at-most-a-folio",
            "mm/memremap: reject unreasonable folio/compound page sizes in memremap_pages()",
        ),
    )
    page_init_ref: Literal["live", "any"] = choice(
        "Whether ``zone_device_page_init()`` warns once a mapping is killed, or only when its last reference has gone.",
        first("live"),
        since("6.19", "any", "mm/zone_device: support large zone device private folios"),
    )
    device_fault: Literal["reference", "trylock", "trylock-or-wait"] = choice(
        "What ``do_swap_page()`` does before a device's driver is to bring a page back: it takes a reference, by which "
        "two faults on one page hinder each other; it locks the page as well, or faults again; or waits.",
        first("reference"),
        since("6.15", "trylock", "mm/migrate: Trylock device page in do_swap_page"),
        since("7.0", "trylock-or-wait", "mm: Fix a hmm_range_fault() livelock / starvation problem"),
    )
    dax_regions: Literal["each-alone", "one-tree"] = choice(
        "Whether ``alloc_dax_region()`` refuses a region that overlaps another one's.",
        first("each-alone"),
        since("7.1", "one-tree", "dax: Track all dax_region allocations under a global resource tree"),
    )
    dax_locks: Literal["devices", "rwsems"] = choice(
        "What keeps regions and devices of the DAX bus from changing in two places: the locks of the devices that they "
        "are, or two read/write semaphores for all of them.",
        first("devices"),
        since("6.9", "rwsems", "dax/bus.c: replace driver-core lock usage by a local rwsem"),
    )
    pgmap_drain: PgmapDrain = choice(
        "What ``memunmap_pages()`` does about references before it unmaps: nothing, as there were none before "
        "``get_dev_pagemap()``; refuse new ones and wait when all is unmapped; wait before.",
        first("none"),
        since("4.20", "kill", "mm, devm_memremap_pages: fix shutdown handling"),
        since("5.2", "kill-and-wait", "mm/devm_memremap_pages: fix final page put race"),
    )
    percpu_switch: Literal["after-grace-period", "at-once"] = choice(
        "When the references that CPUs have counted of their own are added up once a count was killed: after a grace "
        "period, as in every kernel, or at once.",
        first("after-grace-period"),
    )
    dax_evict: Literal["warns", "waits"] = choice(
        "What the end of a DAX file in memory does about a page of it that DMA holds: a warning, or it waits until the "
        "page is idle (``dax_break_layout_final()``).",
        first("warns"),
        since("6.15", "waits", "fs/dax: ensure all pages are idle prior to filesystem unmount"),
    )
    kmem_tells_truncation: bool = choice(
        "Whether the kmem driver says how much of a device alignment to memory blocks loses.",
        first(False),
        since("6.16", True, "DAX: warn when kmem regions are truncated for memory block alignment"),
    )
    kmem_group_size: Literal["bytes", "pages"] = choice(
        "What ``dev_dax_kmem_probe()`` says how large its memory group may become in, which is read as pages.",
        first("bytes"),
        since("6.5", "pages", "dax/kmem: Pass valid argument to memory_group_register_static", ("6.1.39",)),
    )
    kmem_absent_ranges: Literal["removed", "passed-over"] = choice(
        "Whether ``dev_dax_kmem_remove()`` removes ranges that it never added, with whatever is there, or not.",
        first("removed"),
        since("7.2", "passed-over", "dax/kmem: account for partial discontiguous resource upon removal", ("6.12.97",)),
    )
    acpi_device_check: Literal["device", "parent"] = choice(
        "What a Device Check has ``acpi_scan_device_check()`` enumerate: the device that appeared, or all that is on "
        "its bus, so that a DIMM that was refused is tried again whenever another one comes.",
        first("device"),
        since("6.9", "parent", "ACPI: scan: Rework Device Check and Bus Check notification handling"),
    )
    virtio_mem_sleep: Literal["refused", "by-feature"] = choice(
        "Whether ``virtio_mem_freeze()`` lets no machine sleep, or only forbids hibernation and, where plugged "
        "memory does not outlive it (``VIRTIO_MEM_F_PERSISTENT_SUSPEND``), suspend to RAM.",
        first("refused"),
        since("6.10", "by-feature", "virtio-mem: support suspend+resume"),
    )
    hv_hot_add_chunk: Literal["128M", "block"] = choice(
        "What the driver of Hyper-V's dynamic memory adds at a time: 128 MiB, which is refused where memory blocks are "
        "larger, or a memory block.",
        first("128M"),
        since("6.10", "block", "hv_balloon: Enable hot-add for memblock sizes > 128 MiB"),
    )
    hv_online_page: Literal["own", "all"] = choice(
        "Which memory that comes online ``hv_online_page()`` gives to the buddy: its own only, so that what another "
        "driver adds under Hyper-V stays out of use, or all.",
        first("own"),
        since("6.14", "all", "hv_balloon: Fallback to generic_online_page() for non-HV hot added mem"),
    )
    virtio_mem_unplugged_inaccessible: bool = choice(
        "Whether the driver takes ``VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE``.",
        first(False),
        since("5.17", True, "virtio-mem: support VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE"),
    )
