"""The kernel's whole state: what its global variables hold. Kernel functions take it as their first argument, `k`."""
# SPDX-License-Identifier: GPL-2.0-or-later

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from memhp.hw.machine import Machine
from memhp.hw.shared import SharedDict, SharedMap
from memhp.hw.tlb import Table
from memhp.linux.config import Config, OnlineType
from memhp.linux.drivers.base.node import NodeStates
from memhp.linux.kernel.resource import Resource
from memhp.linux.layout import Layout
from memhp.linux.mm.memblock import Memblock
from memhp.linux.mmzone import MemoryBlock, MemoryGroup, Node, PageFlags, Section, Zone, ZoneRef, ZoneType
from memhp.spans import Span, SpanMap, SpanSet

if TYPE_CHECKING:
    from memhp.hw.memory import Use
    from memhp.linux.drivers.acpi.device import AcpiDevice
    from memhp.linux.drivers.base.core import Device
    from memhp.linux.drivers.firmware.memmap import FirmwareMap
    from memhp.linux.mm.altmap import VmemAltmap
    from memhp.linux.mm.dev_pagemap import DevPagemap
    from memhp.linux.port import Port

Notifier = Callable[["Kernel", str, int, int], str]
"""``(k, action, start_pfn, nr_pages) -> "" or why not``: a memory notifier; a text is NOTIFY_BAD with a reason."""

NodeNotifier = Callable[["Kernel", str, int], str]
"""``(k, action, nid) -> "" or why not``: a node notifier."""

OnlinePageCallback = Callable[["Kernel", int, int], None]
"""``(k, pfn, nr_pages)``: what becomes of a run of pages that goes online (``online_page_callback_t``)."""

PmAction = Literal[
    "PM_SUSPEND_PREPARE", "PM_POST_SUSPEND", "PM_HIBERNATION_PREPARE", "PM_POST_HIBERNATION", "PM_RESTORE_PREPARE"
]

PmNotifier = Callable[["Kernel", PmAction], str]
"""``(k, action) -> "" or why not``: a power-management notifier."""

SuspendState = Literal["freeze", "mem", "disk"]
"""What is written to ``/sys/power/state``: to idle, to RAM, to disk."""


class PmDevice(NamedTuple):
    """A device that sleeps when the machine does: ``dev_pm_ops`` of its driver."""

    name: str
    suspend: Callable[[Kernel, SuspendState], None]
    """Raises :class:`memhp.errors.KernelError` when the device must not sleep now."""
    resume: Callable[[Kernel], None]


@dataclass
class Kernel:
    """One running kernel. PFN-keyed maps hold runs; nothing here is kept page by page."""

    hw: Machine
    config: Config
    layout: Layout
    memblock: Memblock
    iomem_resource: Resource
    firmware_map: FirmwareMap
    node_states: NodeStates
    port: Port = field(init=False)
    """What the architecture does on its own: that of `config`."""
    nodes: dict[int, Node] = field(default_factory=dict)
    mem_section: SpanMap[Section] = field(default_factory=SpanMap)
    """Section number → section, for present sections."""
    subsection_map: SpanSet = field(default_factory=SpanSet)
    """PFNs whose sub-section is valid (``mem_section_usage``)."""
    page_zone: SharedMap[ZoneRef] = field(default_factory=SharedMap)
    """PFN → zone of an initialised struct page."""
    page_flags: SharedMap[PageFlags] = field(default_factory=SharedMap)
    """PFN → flags, where any are set."""
    memory_blocks: SharedMap[MemoryBlock] = field(default_factory=SharedMap)
    """Block id → memory block device."""
    block_devices: dict[int, Device] = field(default_factory=dict)
    """Block id → the device of a block that somebody has looked up on its own."""
    altmaps: dict[int, VmemAltmap] = field(default_factory=dict)
    """Block id → the altmap that hosts its memmap."""
    acpi_companions: dict[int, AcpiDevice] = field(default_factory=dict)
    """Block id → the device of ACPI's namespace that it is bound to (``ACPI_COMPANION()``)."""
    pgmap_array: SpanMap[DevPagemap] = field(default_factory=SpanMap)
    """PFN → the device mapping that it belongs to (``mm/memremap.c:pgmap_array``)."""
    drvdata: dict[str, DevPagemap] = field(default_factory=dict)
    """Device → the mapping that its driver keeps, also when it is undone (``dev_get_drvdata()``)."""
    page_refs: dict[int, int] = field(default_factory=dict)
    """PFN → references beyond the first to a page of struct pages that vmemmap maps several times."""
    resv_huge_pages: dict[str, tuple[Use, int]] = field(default_factory=dict)
    """Whose → free huge pages that are promised to mappings: the use of such a free page, and how many."""
    memory_groups: dict[int, MemoryGroup] = field(default_factory=dict)
    memory_block_size: int = 0
    """Bytes of a memory block: ``memory_block_size_bytes()``."""
    max_pfn: int = 0
    """First PFN above the RAM that the kernel booted with; what hot-add makes of it, nothing here reads."""
    pgd: dict[str, Table] = field(default_factory=dict)
    """Root tables by address space; ``init_mm`` is the kernel's own."""
    vmap_areas: SharedDict[str, tuple[Span, list[Span]]] = field(default_factory=SharedDict)
    """vmalloc areas by tag: their addresses (bytes), and the pages (PFNs) behind them in order."""
    pointers: dict[str, int] = field(default_factory=dict)
    """Variables of the kernel that hold an address which one CPU stores for others to use, by name."""
    memory_notifiers: list[Notifier] = field(default_factory=list)
    node_notifiers: list[NodeNotifier] = field(default_factory=list)
    pm_notifiers: list[PmNotifier] = field(default_factory=list)
    dpm_list: list[PmDevice] = field(default_factory=list)
    """Devices in the order in which they were registered (``drivers/base/power/main.c``)."""
    pxm_to_node_map: dict[int, int] = field(default_factory=dict)
    """Proximity domains of ACPI's SRAT → nodes (``drivers/acpi/numa/srat.c``)."""
    online_page_callback: OnlinePageCallback | None = None
    """The driver's own way of giving pages to the buddy (``set_online_page_callback()``); None for the usual way."""
    auto_online_blocks: OnlineType = "offline"
    """``/sys/devices/system/memory/auto_online_blocks``: ``mhp_default_online_type``."""
    zone_limits: dict[ZoneType, int] = field(default_factory=dict)
    """First PFN above each zone that boot memory is divided into (``arch_zone_limits_init``)."""
    slab_is_available: bool = False
    """Whether memory comes from the page allocator (True) or still from memblock."""
    initmem_freed: bool = False
    """Whether ``__init`` code is gone."""
    policy_zone: ZoneType = ZoneType.DMA
    """The highest zone but ZONE_MOVABLE that ever had pages (``policy_zone`` of mm/mempolicy.c)."""
    khugepaged: bool = False
    """Whether transparent huge pages are on, and with them khugepaged, which wants more memory kept free."""
    boot_memory: SpanSet = field(default_factory=SpanSet)
    """PFNs of the RAM that the kernel booted with."""
    sparsemap_buf: Span = field(default=Span(0, 0))
    """PFNs left in the buffer that boot takes a node's struct pages from (``mm/sparse.c``)."""
    vmemmap_unused: SpanSet = field(default_factory=SpanSet)
    """x86: addresses of struct pages that are marked as used by nobody (``PAGE_UNUSED``), in leaves that they share."""
    unused_pmd_start: int = 0
    """x86: from this address to the end of its PMD the mark is still to be made; 0 for none."""
    warned: set[str] = field(default_factory=set)
    """Messages that the kernel prints once and has printed: ``pr_warn_once()`` and static flags."""

    def __post_init__(self) -> None:
        self.port = self.config.port
        for name in ("page_zone", "page_flags", "memory_blocks", "vmap_areas"):
            getattr(self, name).belong(self.hw, name)

    @property
    def init_mm(self) -> Table:
        """The kernel's root table: ``init_mm.pgd``."""
        return self.pgd["init_mm"]

    @property
    def pages_per_block(self) -> int:
        """Pages of a memory block."""
        return self.memory_block_size >> self.config.page_shift

    def block_id(self, pfn: int) -> int:
        """``pfn_to_block_id()``."""
        return pfn // self.pages_per_block

    def section_nr(self, pfn: int) -> int:
        """``pfn_to_section_nr()``."""
        return pfn // self.config.pages_per_section

    def zone_of(self, pfn: int) -> Zone | None:
        """``page_zone(pfn_to_page(pfn))``; None where no struct page is initialised."""
        ref = self.page_zone.get(pfn)
        return None if ref is None else self.nodes[ref.nid].zones[ref.type]

    def zones(self) -> list[Zone]:
        """Every zone that exists, by node, then type: ``for_each_zone()``."""
        return [zone for nid in sorted(self.nodes) for _, zone in sorted(self.nodes[nid].zones.items())]
