"""Which regions of dax devices a machine shows, and the driver that each has: from ``/proc/iomem`` and the DAX bus."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from memhp.facts import iomem
from memhp.facts.observed import Facts
from memhp.linux.drivers.nvdimm.pfn_devs import PfnMode
from memhp.scenario import schema
from memhp.spans import Span

REGION = re.compile(r"(?:namespace|dax)(\d+\.\d+)")
"""Resources that drivers of such regions claim."""


class Shown(NamedTuple):
    """A region (physical bytes) and what is bound to it."""

    span: Span
    mode: schema.DaxMode
    namespace: bool = True
    map: PfnMode = "mem"
    align: int = 0
    memmap_on_memory: bool = False
    node: int = 0
    pagemap: bool = True
    """Whether the block driver gives it struct pages."""
    ranges: tuple[Span, ...] = ()
    """Of a device with several, its ranges."""


def dax_steps(before: Facts, after: Facts) -> Iterator[schema.Dax]:
    """The steps that bring every region from what it was to what it is."""
    then, now = shown(before), shown(after)
    for name in sorted(now):
        region, old = now[name], then.get(name)
        if old is not None and _bound(old) == _bound(region):
            if old.memmap_on_memory != region.memmap_on_memory:
                yield schema.Dax(device=name, memmap_on_memory=region.memmap_on_memory)
            continue
        at, size = (None, None) if old else (region.span.start, region.span.size)
        if old is None and region.mode in ("kmem", "none") and _was_mapped(after, region.node):
            yield schema.Dax(device=name, mode="raw", node=region.node, at=at, size=size)
            at = size = None
        yield schema.Dax(
            device=name,
            at=at,
            size=size,
            node=region.node,
            mode=region.mode,
            namespace=region.namespace,
            map=region.map,
            align=region.align or None,
            memmap_on_memory=region.memmap_on_memory,
            pagemap=region.pagemap,
            ranges=[schema.Memory(size=each.size, start=each.start) for each in region.ranges] or None,
        )


def _was_mapped(facts: Facts, node: int) -> bool:
    """Whether memory was in ZONE_DEVICE before, which never shrinks."""
    return any(zone.spanned for zone in facts.zones if zone.node == node and zone.name == "Device")


def _bound(region: Shown) -> Shown:
    """The region as far as a driver cares: an attribute that waits for the next binding does not count."""
    return region if region.mode == "kmem" else region._replace(memmap_on_memory=False)


def shown(facts: Facts) -> dict[str, Shown]:
    """Every region by the name of its dax device."""
    found: dict[str, dict[str, list[iomem.Resource]]] = {}
    for _, res in iomem.walk(facts.iomem):
        if match := REGION.fullmatch(res.name):
            found.setdefault(match[1], {}).setdefault(res.name.rstrip("0123456789."), []).append(res)
    devices = {dax.name: dax for dax in facts.dax}
    regions = {}
    for number, parts in found.items():
        name = f"dax{number}"
        dev, meta, data = devices.get(name), next(iter(parts.get("namespace", ())), None), parts.get("dax", [])
        ranges = (dev.mappings if dev is not None else ()) or tuple(each.span for each in data)
        span = dev.span if dev is not None and (dev.span or not data) else _hull(ranges)
        if span is None:
            if meta is not None:
                regions[name] = Shown(meta.span, "raw", pagemap=_was_mapped(facts, 0))
            continue
        mode = _mode(data)
        whole = Span(meta.start, span.end) if meta is not None else span
        regions[name] = Shown(
            whole,
            mode,
            meta is not None,
            "dev" if dev is not None and dev.mode == "pmem" else "mem",
            dev.align or 0 if dev is not None else 0,
            bool(dev is not None and dev.memmap_on_memory),
            (dev.target_node or 0) if dev is not None else 0,
            ranges=ranges if len(ranges) > 1 else (),
        )
    return regions


def _hull(ranges: Sequence[Span]) -> Span | None:
    """From the first to the last of some ranges."""
    return Span(min(each.start for each in ranges), max(each.end for each in ranges)) if ranges else None


def _mode(data: list[iomem.Resource]) -> schema.DaxMode:
    if not data:
        return "none"
    return "kmem" if any(iomem.is_system_ram(child) for each in data for child in each.children) else "devdax"
