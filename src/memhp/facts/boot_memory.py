"""The RAM that a kernel log tells of: what memblock held, and what ``/proc/iomem`` called System RAM at boot.

On x86 the resource is as long as firmware's E820 entry, to the byte; memblock has whole pages of it
(``arch/x86/kernel/e820.c``). Elsewhere it is what memblock has without what the device tree marks ``nomap``.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re

from memhp.facts.dmesg import Dmesg, NodeRange
from memhp.facts.iomem import Resource
from memhp.spans import Span, SpanMap, SpanSet
from memhp.units import align_down, align_up

_MEM = r"\[mem (0x[0-9a-f]+)-(0x[0-9a-f]+)\]"
_RAM = "(?:usable|System RAM)"
_E820 = re.compile(rf"BIOS-e820: {_MEM} +(.+)")
_USER = re.compile(rf"user: {_MEM} +(.+)")
_IS_RAM = re.compile(rf"{_RAM}\b.*")
_TAKEN = re.compile(rf"e820: (?:update {_MEM} {_RAM} ==> .+|remove {_MEM} {_RAM})")
_NOMAP = re.compile(r"OF: reserved mem: (0x[0-9a-f]+)\.\.(0x[0-9a-f]+) \(.*\) nomap .*")


def _span(first: str, last: str) -> Span:
    return Span(int(first, 16), int(last, 16) + 1)


def e820(log: Dmesg) -> SpanSet:
    """What firmware said is usable, less what the kernel took off again; ``mem=`` and ``memmap=`` count
    (``e820__print_table("user")``). Nothing where the log has no such lines.
    """
    usable = SpanSet()
    listed = _USER if any(_USER.fullmatch(line.text) for line in log.lines) else _E820
    for line in log.lines:
        if (entry := listed.fullmatch(line.text)) is not None and _IS_RAM.fullmatch(entry[3]):
            usable.add(*_span(entry[1], entry[2]))
        elif (gone := _TAKEN.fullmatch(line.text)) is not None:
            usable.remove(*_span(gone[1] or gone[3], gone[2] or gone[4]))
    return usable


def system_ram(log: Dmesg, page_size: int) -> tuple[Resource, ...]:
    """The resources that the kernel made of RAM at boot; none where the log does not tell of memory."""
    usable = e820(log)
    if not usable:
        usable = SpanSet(each.span for each in log.early_node_ranges)
        for line in log.lines:
            if (match := _NOMAP.fullmatch(line.text)) is not None:
                usable.remove(*_span(match[1], match[2]))
    whole = (span for span in usable if align_up(span.start, page_size) < align_down(span.end, page_size))
    return tuple(Resource(start, end - 1, "System RAM") for start, end in whole)


def memblock(log: Dmesg, page_size: int) -> tuple[NodeRange, ...]:
    """What memblock held, node by node: as the kernel printed it, or where that is lost as E820 and SRAT have it."""
    if log.early_node_ranges:
        return log.early_node_ranges
    nodes: SpanMap[int] = SpanMap()
    for affinity in log.srat:
        nodes.set(*affinity.span, affinity.nid)
    found = []
    for start, end in e820(log):
        whole = Span(align_up(start, page_size), align_down(end, page_size))
        parts = [NodeRange(nid, Span(first, last)) for first, last, nid in nodes.runs(*whole)] if whole.size > 0 else []
        parts += [NodeRange(0, gap) for gap in nodes.gaps(*whole)] if whole.size > 0 else []
        found += sorted(parts, key=lambda part: part.span)
    return tuple(found)
