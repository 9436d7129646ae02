"""The kernel's whole state: what its global variables hold. Kernel functions take it as their first argument, `k`."""
# SPDX-License-Identifier: GPL-2.0-or-later

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Protocol, TypeGuard, TypeVar

from memhp.hw.machine import Machine
from memhp.hw.marked_map import MarkedMap, MarkedSet
from memhp.hw.shared import SharedFlags, SharedMap, marked
from memhp.hw.tlb import Table
from memhp.linux.config import Config, OnlineType
from memhp.linux.drivers.base.node import NodeStates
from memhp.linux.kernel.resource import Resource
from memhp.linux.layout import Layout
from memhp.linux.mm.memblock import Memblock
from memhp.linux.mmzone import (
    MemoryBlock,
    MemoryGroup,
    Node,
    PageFlags,
    Section,
    Zone,
    ZoneRef,
    section_field,
    subsection_map_field,
)
from memhp.spans import SpanSet

if TYPE_CHECKING:
    from memhp.linux.mm.altmap import VmemAltmap
    from memhp.linux.port import Port

MEMORY_GROUPS, WARNED = "memory_groups", "__already_done"
"""What goes by these names at the doors: the array of groups, which changes under a lock of its own (``xa_alloc()``,
``xa_erase()``), and what is said once."""

R = TypeVar("R")


class Shared(Protocol):
    """State that announces accesses to it (:mod:`memhp.hw.shared`)."""

    @property
    def is_heard(self) -> bool:
        """Whether it announces them to the stepper of a machine."""

    def belong(self, machine: Machine, name: str) -> None:
        """From now on to the stepper of `machine`, under `name`."""


@cache
def _announces(kind: type) -> bool:
    return hasattr(kind, "is_heard") and hasattr(kind, "belong")


def prefix_of(record: type) -> str:
    """What the fields of a record of variables go by before their names: the kernel's own have each a name of its own,
    and others may have the same as they.
    """
    return "" if record.__module__.startswith("memhp.") else f"{record.__qualname__.rpartition('<locals>.')[2]}."


def is_shared(value: object) -> TypeGuard[Shared]:
    """Whether a value announces accesses to it: what ``isinstance()`` of a protocol would say, once for each type."""
    kind: type = type(value)
    return _announces(kind)


@dataclass
class Kernel:
    """One running kernel. PFN-keyed maps hold runs; nothing here is kept page by page.

    Here are the variables that many files of the kernel use; those of one file are in a record there (:meth:`statics`).
    """

    hw: Machine
    config: Config
    layout: Layout
    memblock: Memblock
    iomem_resource: Resource
    node_states: NodeStates
    port: Port = field(init=False)
    """What the architecture does on its own: that of `config`."""
    nodes: dict[int, Node] = field(default_factory=dict)
    mem_section: MarkedMap[Section] = field(default_factory=lambda: MarkedMap(section_field))
    """Section number → section, for present sections."""
    subsection_map: MarkedSet = field(default_factory=lambda: MarkedSet(subsection_map_field))
    """PFNs whose sub-section is valid (``mem_section_usage``)."""
    page_zone: SharedMap[ZoneRef] = field(default_factory=SharedMap)
    """PFN → zone of an initialised struct page."""
    page_flags: SharedFlags[PageFlags] = field(default_factory=SharedFlags)
    """PFN → flags, where any are set."""
    memory_blocks: SharedMap[MemoryBlock] = field(default_factory=SharedMap)
    """Block id → memory block device."""
    altmaps: dict[int, VmemAltmap] = field(default_factory=dict)
    """Block id → the altmap that hosts its memmap."""
    memory_groups: dict[int, MemoryGroup] = field(default_factory=dict, metadata=marked(MEMORY_GROUPS))
    pointers: dict[str, object] = field(default_factory=dict)
    """Variables of a race that has no record of its own for them (:meth:`statics`), by name."""
    memory_block_size: int = 0
    """Bytes of a memory block: ``memory_block_size_bytes()``."""
    max_pfn: int = 0
    """First PFN above RAM: all that the kernel booted with, and what its architecture made of it as memory came."""
    pgd: dict[str, Table] = field(default_factory=dict)
    """Root tables by address space; ``init_mm`` is the kernel's own."""
    auto_online_blocks: OnlineType = "offline"
    """``/sys/devices/system/memory/auto_online_blocks``: ``mhp_default_online_type``."""
    slab_is_available: bool = False
    """Whether memory comes from the page allocator (True) or still from memblock."""
    initmem_freed: bool = False
    """Whether ``__init`` code is gone."""
    boot_memory: SpanSet = field(default_factory=SpanSet)
    """PFNs of the RAM that the kernel booted with."""
    warned: set[str] = field(default_factory=set, metadata=marked(WARNED))
    """Messages that the kernel prints once and has printed: ``pr_warn_once()`` and static flags (:meth:`warn_once`)."""
    _statics: dict[type, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.port = self.config.port
        self._announce(self)
        self.subsection_map.parts.unit = self.config.pages_per_section

    def _announce(self, record: object) -> None:
        """Have the state in a record that announces accesses do so to this machine's stepper, by the fields' names."""
        prefix = prefix_of(type(record))
        for name, value in vars(record).items():
            if is_shared(value):
                value.belong(self.hw, prefix + name)

    def reads_zones(self, zones: Iterable[Zone], *names: str) -> None:
        """Fields of zones, by the names that they have at the doors, are about to be read in one step."""
        if self.hw.is_watched:
            self.hw.reads(*(zone.field(name) for zone in zones for name in names))

    def warn_once(self, message: str) -> bool:
        """Whether a message that is printed once has not been yet; from now on it has: ``DO_ONCE_LITE_IF()``."""
        self.hw.atomic(WARNED)
        first = message not in self.warned
        self.warned.add(message)
        return first

    def statics(self, record: type[R]) -> R:
        """The variables of one file of the kernel, as the record that the file declares for them.

        There is one of each type; it is made, with its fields' default values, when it is first asked for.
        """
        found = self._statics.get(record)
        if found is None:
            found = self._statics[record] = record()
            self._announce(found)
        return found  # type: ignore[return-value]

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
        """Every zone that exists, by node, then type, for who looks on: kernels go by ``for_each_zone()``."""
        return [zone for nid in sorted(self.nodes) for _, zone in sorted(self.nodes[nid].zones.items())]
