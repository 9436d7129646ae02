"""/proc/zoneinfo: the zones of every node, as ``mm/vmstat.c:zoneinfo_show_print`` prints them. Numbers are pages."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from memhp.facts.lines import Reader

_ZONE = re.compile(r"Node (\d+), zone +(\S+)")
_NODE_STATS = re.compile(r"  per-node stats")
_PAGESETS = re.compile(r"  pagesets")
_PAGES = re.compile(r"  pages free +(\d+)")
_WATERMARK = re.compile(r"        ([a-z]+) +(\d+)")
_PROTECTION = re.compile(r"        protection: \(([-\d, ]+)\)")
_STAT = re.compile(r"      (\S+) +(\d+)")
_CPU = re.compile(r"    cpu: (\d+)")
_PAGESET = re.compile(r"              (count|high|batch|high_min|high_max): +(-?\d+)")
_THRESHOLD = re.compile(r"  vm stats threshold: (-?\d+)")
_TAIL = re.compile(r"  (node_unreclaimable|start_pfn|reserved_highatomic|free_highatomic): +(\d+)")

_WATERMARKS = ("boost", "min", "low", "high", "promo", "spanned", "present", "managed", "cma")
_NEEDED = ("spanned", "present", "managed")


@dataclass(frozen=True)
class Pageset:
    """The per-CPU page lists of a zone (``struct per_cpu_pages``); 6.12 does not print `high_min` and `high_max`."""

    cpu: int
    count: int
    high: int
    batch: int
    high_min: int | None = None
    high_max: int | None = None
    stat_threshold: int | None = None


@dataclass(frozen=True)
class ZoneInfo:
    """One zone of one node. What a kernel does not print is None or empty.

    `start_pfn`, `stats` and what follows them are printed for populated zones only (``present > 0``); a zone may be
    unpopulated and yet span pages, as ZONE_DEVICE does.
    """

    node: int
    name: str
    free: int
    spanned: int
    present: int
    managed: int
    start_pfn: int | None = None
    boost: int | None = None
    min: int | None = None
    low: int | None = None
    high: int | None = None
    promo: int | None = None
    cma: int | None = None
    protection: tuple[int, ...] = ()
    stats: Mapping[str, int] = field(default_factory=dict)
    """The zone's own counters (``NR_VM_ZONE_STAT_ITEMS``, then the NUMA events)."""
    node_stats: Mapping[str, int] = field(default_factory=dict)
    """The counters of the whole node, printed with its first populated zone."""
    pagesets: tuple[Pageset, ...] = ()
    node_unreclaimable: int | None = None
    reserved_highatomic: int | None = None
    free_highatomic: int | None = None

    @property
    def populated(self) -> bool:
        """``populated_zone()``."""
        return self.present > 0

    @property
    def reserved(self) -> int:
        """Pages that are present and that the buddy never got: ``present - managed``."""
        return self.present - self.managed

    @property
    def end_pfn(self) -> int | None:
        """``zone_end_pfn()``: the PFN behind the zone's span, where its start is printed."""
        return None if self.start_pfn is None else self.start_pfn + self.spanned


def parse(text: str, *, where: str = "/proc/zoneinfo") -> tuple[ZoneInfo, ...]:
    """Every zone, in the order of the file: node by node, lowest zone first.

    Raises :class:`BadInput` naming the line that no kernel prints, or what is missing at the end.
    """
    reader = Reader(text, where)
    zones: list[ZoneInfo] = []
    while reader.more:
        zones.append(_zone(reader))
    return tuple(zones)


def _zone(reader: Reader) -> ZoneInfo:
    head = reader.need(_ZONE, "'Node N, zone NAME'")
    what = f"of node {head[1]} zone {head[2]}"
    node_stats = _stats(reader) if reader.take(_NODE_STATS) else {}
    pages: dict[str, int | None] = {"free": int(reader.need(_PAGES, f"'  pages free' {what}")[1])}
    while match := reader.take(_WATERMARK):
        if match[1] not in _WATERMARKS or match[1] in pages:
            raise reader.wrong(f"one of {', '.join(_WATERMARKS)}, once each")
        pages[match[1]] = int(match[2])
    for name in _NEEDED:
        if name not in pages:
            raise reader.missing(f"{name!r} {what}")
    protection = reader.need(_PROTECTION, f"'protection: (...)' {what}")
    stats = _stats(reader)
    pagesets: list[Pageset] = []
    if reader.take(_PAGESETS):
        while cpu := reader.take(_CPU):
            pagesets.append(_pageset(reader, int(cpu[1]), what))
    tail: dict[str, int] = {}
    while match := reader.take(_TAIL):
        tail[match[1]] = int(match[2])
    if pages["present"] and "start_pfn" not in tail:
        raise reader.missing(f"'start_pfn' {what}")
    return ZoneInfo(
        node=int(head[1]),
        name=head[2],
        protection=tuple(int(part) for part in protection[1].split(",")),
        stats=stats,
        node_stats=node_stats,
        pagesets=tuple(pagesets),
        **pages,  # type: ignore[arg-type]
        **tail,
    )


def _stats(reader: Reader) -> dict[str, int]:
    found: dict[str, int] = {}
    while match := reader.take(_STAT):
        found[match[1]] = int(match[2])
    return found


def _pageset(reader: Reader, cpu: int, what: str) -> Pageset:
    numbers: dict[str, int] = {}
    while match := reader.take(_PAGESET):
        numbers[match[1]] = int(match[2])
    if not {"count", "high", "batch"} <= numbers.keys():
        raise reader.missing(f"'count', 'high' and 'batch' of CPU {cpu} {what}")
    threshold = reader.take(_THRESHOLD)
    return Pageset(cpu=cpu, stat_threshold=int(threshold[1]) if threshold else None, **numbers)


def render(zones: tuple[ZoneInfo, ...]) -> str:
    """The text of /proc/zoneinfo. What is None or empty is left out."""
    return "".join(f"{line}\n" for zone in zones for line in _render_zone(zone))


def _render_zone(zone: ZoneInfo) -> list[str]:
    out = [f"Node {zone.node}, zone {zone.name:>8}"]
    if zone.node_stats:
        out.append("  per-node stats")
        out += [f"      {name:<12} {value}" for name, value in zone.node_stats.items()]
    out.append(f"  pages free     {zone.free}")
    for name in _WATERMARKS:
        value = getattr(zone, name)
        if value is not None:
            out.append(f"        {name:<8} {value}")
    out.append(f"        protection: ({', '.join(map(str, zone.protection or (0,)))})")
    out += [f"      {name:<12} {value}" for name, value in zone.stats.items()]
    if zone.pagesets:
        out.append("  pagesets")
    for pageset in zone.pagesets:
        out += _render_pageset(pageset)
    for name in ("node_unreclaimable", "start_pfn", "reserved_highatomic", "free_highatomic"):
        value = getattr(zone, name)
        if value is not None:
            out.append(f"  {name + ':':<20} {value}")
    return out


def _render_pageset(pageset: Pageset) -> list[str]:
    names = ("count", "high", "batch", *(() if pageset.high_min is None else ("high_min", "high_max")))
    width = 6 if pageset.high_min is None else 9
    out = [f"    cpu: {pageset.cpu}"]
    out += [f"              {name + ':':<{width}} {getattr(pageset, name)}" for name in names]
    if pageset.stat_threshold is not None:
        out.append(f"  vm stats threshold: {pageset.stat_threshold}")
    return out
