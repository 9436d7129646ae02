"""The direct map translates exactly the memory that is present, to itself, as ordinary kernel data.

Of boot memory that is all but what firmware keeps from the map (NOMAP); x86-64 maps the first megabyte whatever is
there. The kernel image's alias in it may be read-only, as this protects its text.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator

import numpy as np

from memhp.check.kernel_data import broken_rules
from memhp.check.law import Breach, Law, nothing_near
from memhp.check.machine_view import Leaves, MachineView, merged, minus, pfn_text, va_text
from memhp.check.snapshot import Snapshot
from memhp.hw.format import HEIGHT_NAMES
from memhp.hw.memory import Use
from memhp.linux.mm.dev_pagemap import MemoryType, Memremap
from memhp.linux.mm.memblock import MEMBLOCK_NOMAP
from memhp.linux.port import WRITABLE
from memhp.spans import Span, SpanSet

NAME = "direct-map"


def required(look: MachineView) -> SpanSet:
    """The frames (PFNs) that the direct map must translate: those present that the CPU may reach.

    None where hardware reaches memory through a window, without page tables.
    """
    k = look.k
    if not k.port.direct_map_in_page_tables:
        return SpanSet()
    shift = k.config.page_shift
    wanted = look.present.copy()
    for start, end, region in k.memblock.memory:
        if region.flags & MEMBLOCK_NOMAP:
            wanted.remove(start >> shift, -(-end >> shift))
    for start, end, pgmap in k.statics(Memremap).pgmap_array:
        if pgmap.type is MemoryType.PRIVATE:
            wanted.remove(start, end)
    return wanted


def find(look: MachineView, before: Snapshot | None) -> Iterator[Breach]:
    """Present memory that is not mapped, mappings of what is not present or elsewhere, wrong heights and attributes."""
    k = look.k
    layout, shift = k.layout, k.config.page_shift
    leaves = look.leaves(layout.direct_map.span)
    offset = np.uint64((layout.page_offset - layout.phys_offset) & (1 << 64) - 1)
    straight = leaves.pa + offset == leaves.va
    for i in np.flatnonzero(~straight).tolist():
        vas = Span(int(leaves.va[i]), int(leaves.va[i] + leaves.size[i]))
        text = f"{va_text(vas)} translates to {int(leaves.pa[i]):#x} instead of {int(leaves.va[i] - offset):#x}"
        yield Breach(NAME, text, vas=vas)
    first = (leaves.va - offset) >> np.uint64(shift)
    mapped, _ = merged(first, first + (leaves.size >> np.uint64(shift)))
    wanted = required(look)
    for gap in minus(wanted, mapped):
        vas = _addresses(look, gap)
        yield Breach(NAME, f"present {pfn_text(gap)} is not mapped at {va_text(vas)}", pfns=gap, vas=vas)
    always = k.port.always_mapped(k.config)
    wanted.add(always.start >> shift, always.end >> shift)
    for extra in minus(mapped, wanted):
        vas = _addresses(look, extra)
        yield Breach(NAME, f"{va_text(vas)} maps {pfn_text(extra)}, which is not present", pfns=extra, vas=vas)
    yield from _heights(look, leaves)
    yield from _attributes(look, leaves)


def _addresses(look: MachineView, frames: Span) -> Span:
    shift = look.k.config.page_shift
    start = look.k.layout.phys_to_virt(frames.start << shift)
    return Span(start, start + (frames.size << shift))


def _heights(look: MachineView, leaves: Leaves) -> Iterator[Breach]:
    """Leaves where this kernel makes none: of heights that neither architecture nor configuration has."""
    config, fmt = look.k.config, look.k.hw.fmt
    legal = np.array([level.leaf and not (config.direct_map_base_pages and h) for h, level in enumerate(fmt.levels)])
    for i in np.flatnonzero(~legal[leaves.height]).tolist():
        vas = Span(int(leaves.va[i]), int(leaves.va[i] + leaves.size[i]))
        why = "where this kernel maps base pages only" if config.direct_map_base_pages else "which cannot be"
        yield Breach(NAME, f"{HEIGHT_NAMES[leaves.height[i]]} leaves at {va_text(vas)}, {why}", vas=vas)


def _attributes(look: MachineView, leaves: Leaves) -> Iterator[Breach]:
    k = look.k
    shift = k.config.page_shift
    boot = look.frames[Use.BOOT]
    mappings = k.statics(Memremap).pgmap_array
    bars = SpanSet((start, end) for start, end, pgmap in mappings if pgmap.type is MemoryType.PCI_P2PDMA)
    for rule, wrong in broken_rules(k.config.format, k.port.kernel_data_rules(k.config), leaves):
        for i in np.flatnonzero(wrong).tolist():
            frames = Span(int(leaves.pa[i]) >> shift, int(leaves.pa[i] + leaves.size[i]) >> shift)
            if rule.what == WRITABLE and boot.covered(*frames):
                continue
            if rule.memory_type and bars.covers(*frames):
                continue
            vas = Span(int(leaves.va[i]), int(leaves.va[i] + leaves.size[i]))
            text = f"{va_text(vas)} is {rule.what}: its leaves have attributes {int(leaves.bits[i]):#x}"
            yield Breach(NAME, text, pfns=frames, vas=vas)


LAW = Law(
    NAME,
    "The direct map translates exactly the present memory, to itself, as ordinary kernel data",
    find,
    still=nothing_near(find),
)
