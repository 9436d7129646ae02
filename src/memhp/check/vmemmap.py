"""vmemmap: struct pages are there for exactly the present sections.

A section that is there since boot has all of its memmap, one added later that of its sub-sections. A leaf, of a base
page or huge, may reach beyond: what it describes there is what shares the leaf.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator

import numpy as np

from memhp.check.kernel_data import broken_rules
from memhp.check.law import Breach, Law, nothing_near
from memhp.check.machine_view import Leaves, MachineView, merged, minus, va_text
from memhp.check.snapshot import Snapshot
from memhp.hw.format import HEIGHT_NAMES
from memhp.spans import Span, SpanSet
from memhp.units import exact_size

NAME = "vmemmap"


def required(look: MachineView) -> SpanSet:
    """The addresses (bytes) of every struct page that must be mapped, rounded out to whole pages."""
    k = look.k
    size = k.config.page_size
    found = SpanSet()
    parts = [*look.early_sections]
    parts += [part for span in look.hot_sections for part in k.subsection_map.runs(*span)]
    for part in parts:
        memmap = k.layout.memmap(*part)
        found.add(memmap.start // size * size, -(-memmap.end // size) * size)
    return found


def find(look: MachineView, before: Snapshot | None) -> Iterator[Breach]:
    """Struct pages without a mapping, mappings without a section, attributes that are not a memmap's."""
    k = look.k
    wanted = required(look)
    leaves = look.leaves(k.layout.vmemmap_usable)
    mapped, _ = merged(leaves.va, leaves.va + leaves.size)
    for gap in minus(wanted, mapped):
        first, last = k.layout.page_to_pfn(gap.start), k.layout.page_to_pfn(gap.end - 1)
        text = f"the struct pages of present PFN {first:#x}-{last:#x} are not mapped at {va_text(gap)}"
        yield Breach(NAME, text, pfns=Span(first, last + 1), vas=gap)
    for extra in minus(mapped, wanted):
        yield from _stray(look, leaves, extra, wanted)
    yield from _shape(look, leaves)


def _stray(look: MachineView, leaves: Leaves, extra: Span, wanted: SpanSet) -> Iterator[Breach]:
    """The parts of `extra` that no leaf shares with a struct page that must be there."""
    k = look.k
    first = np.flatnonzero((leaves.va < extra.end) & (leaves.va + leaves.size > extra.start))
    for i in first.tolist():
        size = k.hw.fmt.levels[leaves.height[i]].size
        part = Span(int(leaves.va[i]), int(leaves.va[i] + leaves.size[i])).clip(extra)
        start, end = part.start // size * size, -(-part.end // size) * size
        lo = start + size if wanted.covered(start, start + size) else start
        hi = end - size if wanted.covered(end - size, end) else end
        left = Span(max(part.start, lo), min(part.end, hi))
        if left:
            low, high = k.layout.page_to_pfn(left.start), k.layout.page_to_pfn(left.end - 1)
            whose = f"struct pages of PFN {low:#x}-{high:#x}, which no present section has"
            text = f"{va_text(left)} maps {whose}: {exact_size(left.size)} stay taken"
            yield Breach(NAME, text, pfns=Span(low, high + 1), vas=left)


def _shape(look: MachineView, leaves: Leaves) -> Iterator[Breach]:
    """Leaves of a height that this kernel does not use here, or that are not kernel data."""
    highest = 1 if look.k.config.vmemmap_huge else 0
    for i in np.flatnonzero(leaves.height > highest).tolist():
        vas = Span(int(leaves.va[i]), int(leaves.va[i] + leaves.size[i]))
        text = f"{HEIGHT_NAMES[leaves.height[i]]} leaves at {va_text(vas)}, where this kernel makes none"
        yield Breach(NAME, text, vas=vas)
    config = look.k.config
    for rule, wrong in broken_rules(config.format, config.port.kernel_data_rules(config), leaves):
        for i in np.flatnonzero(wrong).tolist():
            vas = Span(int(leaves.va[i]), int(leaves.va[i] + leaves.size[i]))
            text = f"{va_text(vas)} is {rule.what}: its leaves have attributes {int(leaves.bits[i]):#x}"
            yield Breach(NAME, text, vas=vas)


LAW = Law(
    NAME,
    "vmemmap maps the struct pages of exactly the present sections, as ordinary kernel data",
    find,
    still=nothing_near(find),
)
