"""The memory blocks of a machine, merged to ranges: state, zones, nodes, who added them, what their pages are.

Everything is read from files, and only from those that the machine lets one read: what it does not show is None.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from memhp.errors import BadInput
from memhp.facts import cmdline, iomem, memory_blocks, params, zoneinfo
from memhp.facts.hidden_addresses import hides_addresses, page_size_of
from memhp.facts.memory_blocks import MemoryBlock, MemoryBlocks
from memhp.facts.source import ACPI_DEVICES, ACPI_MEMORY, OSRELEASE, SYS_MEMORY, Source
from memhp.facts.zoneinfo import ZoneInfo
from memhp.spans import Span, SpanMap

if TYPE_CHECKING:
    from memhp.facts.kpageflags import PageRun
    from memhp.facts.table_source import TableSource

STRUCT_PAGE = 64
"""Bytes of a ``struct page`` on 64-bit kernels as distributions build them."""
SCLP_MEMORY = "/sys/firmware/memory"
"""s390: standby memory, a folder a block (``drivers/s390/char/sclp_mem.c``)."""
BOOT = "boot"
DIMM = "acpi_memhotplug"
BY_DRIVER = {"System RAM (kmem)": "kmem", "System RAM (virtio_mem)": "virtio_mem"}
"""Who adds memory under a name of its own in ``/proc/iomem``."""
SELF_HOSTING = frozenset({DIMM, "kmem"})
"""Drivers that ask for MHP_MEMMAP_ON_MEMORY."""


class BlockRange(msgspec.Struct, frozen=True, kw_only=True):
    """Blocks `first` to `last`, all alike. `start` and `size` are bytes.

    `zones` are those that the range is in, or may go to while it is offline, the default first; ``["none"]`` where a
    block spans several. `removable` is what the file says: from 5.8 on whether the kernel can take memory out at all,
    before that whether pages of the block could move.
    """

    first: int
    last: int
    start: int
    size: int
    state: Literal["online", "going-offline", "offline"]
    zones: list[str] | None
    nodes: list[int]
    removable: bool | None
    added_by: str | None
    """``boot``, or a driver and its device: ``virtio_mem virtio0``, ``acpi_memhotplug PNP0C80:00``."""
    memmap_on_memory: bool | None
    """Whether the struct pages of each block lie in the block itself."""
    use: dict[str, int] | None = None
    """Bytes of pages of each kind (:data:`memhp.facts.kpageflags.Kind`), and of those that are ``pinned``; ``memmap``
    are struct pages, the range's own or those of other memory."""

    @property
    def count(self) -> int:
        """How many blocks these are."""
        return self.last - self.first + 1

    @property
    def driver(self) -> str:
        """Who added them, without the device; "" where nothing tells."""
        return (self.added_by or "").partition(" ")[0]


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What decides how added memory goes online; None where the kernel does not show it."""

    auto_online_blocks: str | None
    memhp_default_state: str | None
    """Of the command line."""
    memmap_on_memory: str | None
    online_policy: str | None
    auto_movable_ratio: int | None
    """Per cent of MOVABLE to KERNEL memory."""
    auto_movable_numa_aware: bool | None


class ZoneTotal(msgspec.Struct, frozen=True, kw_only=True):
    """A zone of a node; sizes are bytes."""

    node: int
    zone: str
    present: int
    managed: int
    free: int


class BlocksDocument(msgspec.Struct, frozen=True, kw_only=True):
    """``memhp blocks --json``. Sizes are bytes."""

    schema: Literal[1] = 1
    verdict: Literal["listed"] = "listed"
    source: str
    kernel: str | None
    block_size: int
    page_size: int | None
    ranges: list[BlockRange]
    policy: Policy
    zones: list[ZoneTotal]
    movable_ratio: int | None
    """Per cent of ZONE_MOVABLE to all other memory, as the auto-movable policy counts."""
    memmap: int | None
    """Bytes of struct pages of all memory that zones have present."""
    unseen: list[str]
    """What could not be read, and what would show it."""

    def blocks(self, state: str) -> int:
        """How many blocks are in a state."""
        return sum(each.count for each in self.ranges if each.state == state)


class _Told(NamedTuple):
    """What is known of a block besides its own files."""

    added_by: str | None
    memmap_on_memory: bool | None
    use: Mapping[str, int] | None


class _Pages(NamedTuple):
    """What the pages of a block show: bytes of each kind, whether some hold its own struct pages; None: nothing."""

    kinds: Mapping[str, int] | None = None
    self_hosted: bool | None = None


def read_blocks(source: Source, *, use: bool = False, kernel_memory: "TableSource | None" = None) -> BlocksDocument:
    """The blocks of a machine; with `use` also what their pages are, from ``/proc/kpageflags`` (8 bytes a page).

    Which of them DMA holds is seen in `kernel_memory`, a dump of the machine or its RAM, or in this host's
    ``/proc/kcore``. Raises :class:`BadInput` for a machine without memory blocks, for files that no kernel shows, and
    for a `kernel_memory` that cannot be read.
    """
    memory = memory_blocks.read(source)
    text = source.get("/proc/zoneinfo")
    zones = zoneinfo.parse(text, where=source.where("/proc/zoneinfo")) if text else ()
    page = page_size_of(zones, memory) if zones else None
    parameters, unseen = params.read(source), list[str]()
    owners = owners_of(source, memory, unseen)
    pages = _use(source, memory, page, kernel_memory, unseen) if use else {}
    hosting = _hosting(source, memory, parameters.memmap_on_memory, owners)
    told = {
        block.index: _Told(owners.get(block.index), hosting(block) if hosts is None else hosts, kinds)
        for block in memory.blocks
        for kinds, hosts in (pages.get(block.index, _Pages()),)
    }
    line = source.get("/proc/cmdline")
    release = source.get(OSRELEASE)
    return BlocksDocument(
        source=source.name,
        kernel=release.strip() if release else None,
        block_size=memory.block_size,
        page_size=page,
        ranges=_ranges(memory, told),
        policy=Policy(
            auto_online_blocks=memory.auto_online,
            memhp_default_state=cmdline.parse(line).get("memhp_default_state") if line else None,
            memmap_on_memory=parameters.memmap_on_memory,
            online_policy=parameters.online_policy,
            auto_movable_ratio=parameters.auto_movable_ratio,
            auto_movable_numa_aware=parameters.auto_movable_numa_aware,
        ),
        zones=[_total(zone, page) for zone in zones if zone.present] if page else [],
        movable_ratio=movable_ratio(zones),
        memmap=sum(zone.present for zone in zones) * STRUCT_PAGE if zones else None,
        unseen=unseen,
    )


def movable_ratio(zones: Iterable[ZoneInfo]) -> int | None:
    """Per cent of pages present in ZONE_MOVABLE to those in kernel zones; None where there are no kernel zones."""
    movable = kernel = 0
    for zone in zones:
        if zone.name == "Movable":
            movable += zone.present
        elif zone.name != "Device":
            kernel += zone.present
    return movable * 100 // kernel if kernel else None


def _total(zone: ZoneInfo, size: int) -> ZoneTotal:
    return ZoneTotal(
        node=zone.node, zone=zone.name, present=zone.present * size, managed=zone.managed * size, free=zone.free * size
    )


def _ranges(memory: MemoryBlocks, told: Mapping[int, _Told]) -> list[BlockRange]:
    """Neighbours that are alike in everything but the use of their pages, joined."""
    found: list[list[MemoryBlock]] = []
    for block in memory.blocks:
        if found and _alike(found[-1][-1], block, told):
            found[-1].append(block)
        else:
            found.append([block])
    return [_range(memory, blocks, told) for blocks in found]


def _alike(before: MemoryBlock, block: MemoryBlock, told: Mapping[int, _Told]) -> bool:
    return (
        before.index + 1 == block.index
        and (before.state, before.valid_zones, before.removable, before.nodes)
        == (block.state, block.valid_zones, block.removable, block.nodes)
        and told[before.index][:2] == told[block.index][:2]
    )


def _range(memory: MemoryBlocks, blocks: list[MemoryBlock], told: Mapping[int, _Told]) -> BlockRange:
    first, known = blocks[0], told[blocks[0].index]
    uses: dict[str, int] | None = None
    for block in blocks:
        for kind, size in (told[block.index].use or {}).items():
            uses = uses or {}
            uses[kind] = uses.get(kind, 0) + size
    return BlockRange(
        first=first.index,
        last=blocks[-1].index,
        start=first.index * memory.block_size,
        size=len(blocks) * memory.block_size,
        state=first.state,
        zones=None if first.valid_zones is None else list(first.valid_zones),
        nodes=list(first.nodes),
        removable=first.removable,
        added_by=known.added_by,
        memmap_on_memory=known.memmap_on_memory,
        use=uses,
    )


def owners_of(source: Source, memory: MemoryBlocks, unseen: list[str]) -> dict[int, str]:
    """Who added each block, as far as ``/proc/iomem``, links to ACPI devices and the log of the boot tell."""
    found = _acpi(source, memory)
    text = source.get("/proc/iomem")
    if text is None or hides_addresses(text):
        why = "shows no addresses" if text is not None else "cannot be read"
        unseen.append(f"who added memory: /proc/iomem {why}; root sees it")
        return found
    spans: SpanMap[str] = SpanMap()
    for parent, res in _with_parents(iomem.parse(text, where=source.where("/proc/iomem"))):
        if iomem.is_system_ram(res):
            driver = BY_DRIVER.get(res.name, "")
            spans.set(res.start, res.end + 1, f"{driver} {parent}".strip() if driver else "")
    boot = _boot_ranges(source)
    for block in memory.blocks:
        names = {name for *_, name in spans.runs(*memory.span(block))}
        if len(names) == 1 and (name := names.pop()):
            found[block.index] = name
        elif boot is not None and block.index not in found and any(span.overlaps(memory.span(block)) for span in boot):
            found[block.index] = BOOT
    return found


def _with_parents(resources: Iterable[iomem.Resource], parent: str = "") -> Iterable[tuple[str, iomem.Resource]]:
    for res in resources:
        yield parent, res
        yield from _with_parents(res.children, res.name)


def _acpi(source: Source, memory: MemoryBlocks) -> dict[int, str]:
    """Blocks that ACPI's memory devices brought: each is bound to its device (``acpi_bind_memory_blocks()``).

    Which one: the one of the same ``path`` in ACPI's namespace (``drivers/acpi/device_sysfs.c:path_show``).
    """
    devices = [name for name in source.entries(ACPI_DEVICES) if name.startswith(ACPI_MEMORY)]
    if not devices:
        return {}
    named = {source.get(f"{ACPI_DEVICES}/{name}/path"): f"{DIMM} {name}" for name in devices}
    names = [block.name for block in memory.blocks]
    paths = source.rows(SYS_MEMORY, names, ("firmware_node/path",))
    found = dict[int, str]()
    for block, (path,) in zip(memory.blocks, paths, strict=True):
        if path is not None:
            found[block.index] = named.get(path, DIMM)
        elif "firmware_node" in source.entries(f"{SYS_MEMORY}/{block.name}"):
            found[block.index] = DIMM
    return found


def _boot_ranges(source: Source) -> list[Span] | None:
    """The memory that boot had, where the log of it is there; None where not."""
    from memhp.facts import dmesg

    text = source.boot_log()
    ranges = dmesg.parse(text).early_node_ranges if text else ()
    return [each.span for each in ranges] or None


def _hosting(
    source: Source, memory: MemoryBlocks, parameter: str | None, owners: Mapping[int, str]
) -> Callable[[MemoryBlock], bool | None]:
    """Whether a block hosts its own struct pages: s390 shows it, else the parameter and the driver may rule it out."""
    sclp = set(source.entries(SCLP_MEMORY))
    shown: dict[str, bool] = {}
    for block in memory.blocks:
        if block.name in sclp and (bit := source.number(f"{SCLP_MEMORY}/{block.name}/memmap_on_memory")) is not None:
            shown[block.name] = bit == 1

    def hosts(block: MemoryBlock) -> bool | None:
        if block.name in shown:
            return shown[block.name]
        owner = owners.get(block.index)
        if parameter == "N" or (owner is not None and owner.partition(" ")[0] not in SELF_HOSTING):
            return False
        return None

    return hosts


def _use(
    source: Source, memory: MemoryBlocks, page: int | None, kernel_memory: "TableSource | None", unseen: list[str]
) -> dict[int, _Pages]:
    """What the pages of each block show."""
    from memhp.facts import counters, kpageflags
    from memhp.operate.kernel_memory import KernelMemory, pins_unseen, use_of

    if page is None:
        raise BadInput("nothing tells the page size", where=source.where("/proc/zoneinfo"), fix="leave out --use")
    runs: dict[int, list[PageRun]] = {}
    for run in kpageflags.read(source, memory, page):
        runs.setdefault(run.block, []).append(run)
    kernel = KernelMemory(source, kernel_memory)
    if not runs:
        unseen.append("what pages are: /proc/kpageflags cannot be read; root can")
    elif missing := pins_unseen(kernel, counters.parse_vmstat(source.get("/proc/vmstat") or "")):
        unseen.append(missing)
    found: dict[int, _Pages] = {}
    for block in memory.blocks if runs or not kernel.missing else ():
        start, end = memory.span(block)
        pfns, mine = Span(start // page, end // page), runs.get(block.index, [])
        kinds = use_of(source, kernel, mine, pfns, page)
        own = any(run.kind == "memmap" for run in mine) or kernel.self_hosted(pfns)
        found[block.index] = _Pages(kinds or None, own)
    return found
