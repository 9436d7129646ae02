"""Booting: from a description of a machine to a running kernel, in the order of ``init/main.c:start_kernel``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from memhp.errors import BadInput
from memhp.hw.machine import Machine
from memhp.hw.memory import Owner, Use
from memhp.linux.amount import check_mapped
from memhp.linux.config import Config
from memhp.linux.drivers.acpi.numa.srat import Srat, acpi_map_pxm_to_node
from memhp.linux.drivers.base.memory_devices import memory_dev_init
from memhp.linux.drivers.base.node import NodeStates
from memhp.linux.drivers.base.node_init import node_dev_init
from memhp.linux.kernel.dma.contiguous import cma_activate_area, dma_contiguous_reserve
from memhp.linux.kernel.dma.swiotlb import swiotlb_init
from memhp.linux.kernel.resource import (
    IORESOURCE_BUSY,
    IORESOURCE_MEM,
    IORESOURCE_SYSTEM_RAM,
    Resource,
    insert_resource,
    iomem_root,
    iter_resources,
)
from memhp.linux.layout import layout
from memhp.linux.lock_kinds import lock_kind
from memhp.linux.mm.boot_memory import keep_boot_memory_online
from memhp.linux.mm.memblock import MEMBLOCK_NOMAP, MEMBLOCK_NONE, Memblock
from memhp.linux.mm.memory_hotplug_memmap import set_memmap_mode
from memhp.linux.mm.mirror import deferred_init_memmap
from memhp.linux.mm.mm_init import free_area_init
from memhp.linux.mm.page_alloc import build_all_zonelists_init, free_pages_core, free_reserved
from memhp.linux.mm.sparse import sparse_init
from memhp.linux.mm.watermarks import hugepage_init, init_per_zone_wmark_min
from memhp.linux.mmzone import PageFlags, ZoneType
from memhp.linux.place import here, of_file
from memhp.linux.state import Kernel
from memhp.spans import Span, SpanSet
from memhp.units import GiB, MiB, align_up, format_size, is_aligned

KERNEL_FILE = "init/main.c"


class Ram(NamedTuple):
    """A range of RAM that firmware reports, in bytes; `nomap` memory is firmware's and has no direct map."""

    start: int
    size: int
    nid: int = 0
    nomap: bool = False

    @property
    def span(self) -> Span:
        """The range in bytes."""
        return Span(self.start, self.start + self.size)


class DevicePlace(NamedTuple):
    """Where the platform puts the first memory device: behind RAM, at `start` or above, aligned; bytes."""

    start: int = 0
    align: int = 1 * GiB
    """As in QEMU's machines (``hw/i386/pc.c:pc_get_device_memory_range``, ``hw/arm/virt.c``)."""


QEMU_DEVICES = DevicePlace()


class IomemEntry(NamedTuple):
    """A line of ``/proc/iomem`` that stands there from boot: bytes, end exclusive, nested by `depth`.

    What is not `busy` may have children that drivers add later: virtio-mem devices, dax devices under kmem.
    """

    start: int
    end: int
    name: str
    depth: int = 0
    busy: bool = True


@dataclass(frozen=True)
class MachineSpec:
    """A machine before it boots."""

    name: str
    config: Config
    ram: tuple[Ram, ...]
    image_size: int = 32 * MiB
    image_start: int | None = None
    """Physical address of the kernel image, where it is known."""
    reserved: int = 0
    """Bytes that early boot keeps for good besides kernel image, struct pages and page tables."""
    managed: Mapping[tuple[int, ZoneType], int] = field(default_factory=dict)
    """Managed pages by (node, zone) where they are known from a real boot; what is above them stays reserved."""
    given_back: Mapping[tuple[int, ZoneType], int] = field(default_factory=dict)
    """How many of these pages boot gave back only after it had set the watermarks: ``__init`` sections, initial
    ramdisk."""
    init: tuple[Span, ...] = ()
    """Bytes of the kernel image that only boot needed: some or all of them are given back."""
    untouched: tuple[Span, ...] = ()
    """Bytes in which boot is known to have kept nothing."""
    hotpluggable: tuple[Span, ...] = ()
    """Bytes of RAM that firmware says may go (SRAT)."""
    mirrored: tuple[Span, ...] = ()
    """Bytes of RAM that firmware keeps twice (``EFI_MEMORY_MORE_RELIABLE``)."""
    cma: tuple[Span, ...] = ()
    """Bytes kept for the contiguous memory allocator."""
    iomem: tuple[IomemEntry, ...] = ()
    """Resources known from a real machine; without them there is one ``System RAM`` for each range."""
    max_memory: int | None = None
    """End of what firmware says may ever be plugged (SRAT), bytes."""
    slots: int | None = None
    """How many DIMMs the platform has room for."""
    device_memory: int | None = None
    """How much memory the platform's devices may have together, bytes."""
    device_place: DevicePlace = QEMU_DEVICES
    """Where these begin."""
    nodes: tuple[int, ...] = (0,)
    """Possible nodes."""
    cpus: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    """CPUs by node, all on the first node where nobody says."""
    srat: tuple[int, ...] | None = None
    """Proximity domains in the order in which firmware's SRAT first names them, () without a SRAT; by default domain N
    is node N."""

    def validate(self) -> "MachineSpec":
        """The same description, if it can boot. Raises :class:`BadInput`."""
        self.config.validate()
        if not any(ram.size for ram in self.ram):
            raise BadInput("a machine needs RAM to boot", where="memory", fix="write a size such as 2G")
        seen = SpanSet()
        for ram in self.ram:
            if not is_aligned(ram.start, self.config.page_size) or not is_aligned(ram.size, self.config.page_size):
                raise BadInput(
                    f"RAM [{ram.start:#x}-{ram.start + ram.size:#x}) is not made of whole pages",
                    where="memory",
                    fix=f"pages are {self.config.page_size} bytes",
                )
            if ram.nid not in self.nodes:
                have = ", ".join(map(str, self.nodes))
                raise BadInput(f"RAM on node {ram.nid}, which cannot exist", where="memory", fix=f"possible: {have}")
            if seen.covered(*ram.span):
                raise BadInput(
                    f"RAM [{ram.start:#x}-{ram.start + ram.size:#x}) overlaps other RAM",
                    where="memory",
                    fix="move or shrink one of them",
                )
            seen.add(*ram.span)
        return self


def start_kernel(spec: MachineSpec) -> Kernel:
    """Boot: memory map, page tables, memmap, zones, buddy, memory block devices. Raises :class:`BadInput`."""
    spec.validate()
    config = spec.config
    whole = Span(min(ram.start for ram in spec.ram), max(ram.span.end for ram in spec.ram))
    hw = Machine(config.format, nr_cpus=config.nr_cpus)
    hw.kind_of = lock_kind
    k = Kernel(
        hw=hw,
        config=config,
        layout=layout(config, whole, spec.image_size),
        memblock=Memblock(config.page_size),
        iomem_resource=iomem_root(),
        node_states=NodeStates(
            possible=set(spec.nodes), cpus=dict(spec.cpus) or {spec.nodes[0]: tuple(range(config.nr_cpus))}
        ),
    )
    if spec.srat is None:
        k.statics(Srat).pxm_to_node_map = {nid: nid for nid in spec.nodes}
    for pxm in spec.srat or ():
        acpi_map_pxm_to_node(k, pxm)
    _setup_memory(k, spec)
    check_mapped(config, k.boot_memory.size << config.page_shift, "memory")
    _reserve_image(k, spec)
    _mark_hotpluggable(k, spec)
    efi_find_mirror(k, spec.mirrored)
    cma = spec.cma if config.cma is None else ()
    for area in (*cma, *spec.untouched):
        k.memblock.memblock_reserve(area.start, area.size)
    k.port.paging_init(k)
    memmap_first = config.value_since(k.port.memmap_before_cma)
    if not memmap_first:
        cma = (*cma, *_dma_memory(k))
    sparse_init(k)
    if memmap_first:
        cma = (*cma, *_dma_memory(k))
    free_area_init(k)
    build_all_zonelists_init(k)
    late = _reserve_early(k, spec, cma)
    for area in spec.untouched:
        k.memblock.memblock_phys_free(area.start, area.size)
    memblock_free_all(k)
    k.slab_is_available = True
    k.port.mem_init(k)
    _setup_iomem(k, spec)
    k.auto_online_blocks = config.memhp_default_state
    memory_dev_init(k)
    node_dev_init(k)
    keep_boot_memory_online(k)
    set_memmap_mode(k)
    for area in cma:
        cma_activate_area(k, area)
    hugepage_init(k, init_per_zone_wmark_min(k))
    free_reserved(k, late, "mm/page_alloc.c:free_reserved_area")
    k.initmem_freed = True
    return k


def _setup_memory(k: Kernel, spec: MachineSpec) -> None:
    """Tell memblock of the RAM: ``setup_arch()``."""
    shift = k.config.page_shift
    for ram in spec.ram:
        usable = min(ram.span.end, k.layout.boot_limit)
        if usable < ram.span.end and k.port.boot_limit_is_the_cpus:
            raise BadInput(
                f"RAM up to {ram.span.end - 1:#x} is beyond the last physical address of {k.config.arch}, "
                f"{k.layout.boot_limit - 1:#x}",
                where="memory",
                fix="write less",
            )
        if usable <= ram.start:
            continue
        frames = Span(ram.start >> shift, usable >> shift)
        k.hw.plug(frames, Owner(Use.BOOT))
        flags = MEMBLOCK_NOMAP if ram.nomap else MEMBLOCK_NONE
        k.memblock.memblock_add_node(ram.start, usable - ram.start, ram.nid, flags)
        k.boot_memory.add(*frames)
        if ram.nomap:
            k.memblock.memblock_reserve(ram.start, usable - ram.start)
        k.node_states.online.add(ram.nid)
    k.node_states.nr_online_nodes = len(k.node_states.online)
    if not k.boot_memory:
        raise BadInput("no RAM that the kernel can map", where="memory", fix="start it at a lower address")
    k.max_pfn = max(span.end for span in k.boot_memory)


def _reserve_image(k: Kernel, spec: MachineSpec) -> None:
    """Keep the kernel image: where it is known to lie, or at the first 2 MiB boundary with room for it from
    where images may be loaded.
    """
    lowest = k.port.image_start
    for ram in sorted(spec.ram):
        start = align_up(max(ram.start, lowest), 2 * MiB) if spec.image_start is None else spec.image_start
        image = Span(start, start + spec.image_size)
        if not ram.nomap and Span(ram.start, min(ram.span.end, k.layout.boot_limit)).covers(image):
            k.memblock.memblock_reserve(image.start, image.size)
            return
    raise BadInput(
        f"no range of RAM holds a kernel image of {spec.image_size >> 20} MiB",
        where="memory",
        fix="boot with more memory",
    )


def _dma_memory(k: Kernel) -> tuple[Span, ...]:
    """The area that boot reserves for CMA, if it is to and can, behind bounce buffers where those come first."""
    k.memblock.bottom_up = k.port.dma_memory_from_below
    if k.port.dma_memory_from_below:
        swiotlb_init(k)
    area = None if k.config.cma is None else dma_contiguous_reserve(k, k.config.cma)
    k.memblock.bottom_up = False
    return () if area is None else (area,)


def _mark_hotpluggable(k: Kernel, spec: MachineSpec) -> None:
    """What firmware says may go, but on nodes that the kernel is on: ``mm/numa_memblks.c:numa_register_meminfo``."""
    k.memblock.movable_node = k.config.movable_node
    kept = {
        region.nid
        for low, high, _ in k.memblock.reserved
        for _, _, region in k.memblock.memory.runs(low, high)
        if not region.flags & MEMBLOCK_NOMAP
    }
    for ram in spec.ram:
        for span in spec.hotpluggable if ram.nid not in kept else ():
            if part := span.clip(ram.span):
                k.memblock.memblock_mark_hotplug(part.start, part.size)


@of_file("drivers/firmware/efi/efi.c")
def efi_find_mirror(k: Kernel, mirrored: tuple[Span, ...]) -> None:
    """Tell memblock what firmware mirrors, which matters under ``kernelcore=mirror`` alone."""
    for span in mirrored if k.config.mirrored_kernelcore else ():
        k.memblock.memblock_mark_mirror(span.start, span.size)
    if mirrored:
        total = k.memblock.memblock_phys_mem_size()
        k.hw.log(f"efi: Memory: {sum(span.size for span in mirrored) >> 20}M/{total >> 20}M mirrored memory")


def _reserve_early(k: Kernel, spec: MachineSpec, cma: tuple[Span, ...]) -> list[Span]:
    """Keep what early boot allocates: so much in each zone that managed pages are as known, or a lump sum.

    Gives the PFNs of what boot gives back once it has set the watermarks.
    """
    size = k.config.page_size
    if not spec.managed and spec.reserved and k.memblock.memblock_phys_alloc(spec.reserved, size) is None:
        raise BadInput(
            f"{format_size(spec.reserved)} cannot be reserved in the RAM there is",
            where="reserved",
            fix="reserve less, or boot with more memory",
        )
    late: list[Span] = []
    for (nid, kind), managed in spec.managed.items():
        zone = k.nodes[nid].zone(kind)
        span = Span(zone.start_pfn * size, zone.end_pfn * size)
        lent = sum(area.clip(span).size for area in (*cma, *spec.untouched) if area.overlaps(span))
        back = spec.given_back.get((nid, kind), 0)
        surplus = k.memblock.free_size(span.start, span.end) + lent - (managed - back) * size
        kept = _reserve_from_top(k, span, surplus)
        init = [area.clip(span) for area in spec.init if area.overlaps(span)]
        if surplus < 0:
            init = list(_free_init(k, init, -surplus))
        late += _pages([*init, *kept], back, k.config.page_shift)
    return late


def _free_init(k: Kernel, init: list[Span], nbytes: int) -> Iterator[Span]:
    """Give so many bytes of what only boot needed back to memblock: the rest of it."""
    for area in init:
        piece = min(area.size, nbytes)
        k.memblock.memblock_phys_free(area.start, piece)
        nbytes -= piece
        if piece < area.size:
            yield Span(area.start + piece, area.end)


def _pages(areas: list[Span], count: int, shift: int) -> list[Span]:
    """The first `count` pages of some areas of bytes, as PFNs."""
    found = []
    for area in areas:
        first, end = -(-area.start >> shift), area.end >> shift
        taken = min(max(end - first, 0), count)
        if taken:
            found.append(Span(first, first + taken))
        count -= taken
    return found


def _reserve_from_top(k: Kernel, span: Span, nbytes: int) -> list[Span]:
    """Reserve the topmost free bytes of a range, in pieces where it is already cut up."""
    pieces: list[Span] = []
    for free in reversed(list(k.memblock.free_ranges(span.start, span.end))):
        piece = min(free.size, nbytes)
        if piece <= 0:
            break
        k.memblock.memblock_reserve(free.end - piece, piece)
        pieces.append(Span(free.end - piece, free.end))
        nbytes -= piece
    return pieces


@of_file("mm/memblock.c")
def memblock_free_all(k: Kernel) -> None:
    """Hand all free boot memory to the buddy; the rest of the boot memory is ``PG_reserved`` for good.

    mm/memblock.c:memblock_free_all.
    """
    shift = k.config.page_shift
    k.memblock.memblock_clear_hotplug(0, 1 << 64)
    lost = deferred_init_memmap(k)
    for span in k.boot_memory:
        k.page_flags.set(*span, PageFlags.RESERVED)
        for free in k.memblock.free_ranges(span.start << shift, span.end << shift):
            start, end = -(-free.start >> shift), free.end >> shift
            for part in lost.gaps(start, end):
                k.page_flags.clear(*part)
                free_pages_core(k, part.start, part.size, here())


def _setup_iomem(k: Kernel, spec: MachineSpec) -> None:
    """Build the resource tree: the lines of a real machine, or ``System RAM`` for each range."""
    limit = k.iomem_resource.end + 1 if k.port.iomem_of_boot == "firmware" else k.layout.boot_limit
    entries = spec.iomem or tuple(
        IomemEntry(ram.start, min(ram.span.end, limit), "System RAM")
        for ram in spec.ram
        if not ram.nomap and ram.start < limit
    )
    parents = [k.iomem_resource]
    for entry in entries:
        flags = IORESOURCE_SYSTEM_RAM if entry.name == "System RAM" else IORESOURCE_MEM
        res = Resource(entry.start, entry.end - 1, entry.name, flags | (IORESOURCE_BUSY if entry.busy else 0))
        del parents[entry.depth + 1 :]
        insert_resource(parents[-1], res)
        parents.append(res)


def ram_lines(k: Kernel) -> list[str]:
    """The lines of ``/proc/iomem`` as they stand now, indented by depth."""
    return [
        f"{'  ' * depth}{res.start:08x}-{res.end:08x} : {res.name}" for depth, res in iter_resources(k.iomem_resource)
    ]
