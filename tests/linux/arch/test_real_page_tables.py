"""What hot-add and hot-remove do to the kernel's page tables, held against the tables of real guests entry by entry.

Of storage and tables only the frame numbers differ, which the guests' allocators chose.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest

from memhp.hw.format import Format
from memhp.hw.reader import TableReader
from memhp.hw.walker import leaves, tables, walk
from memhp.linux.state import Kernel
from memhp.spans import Span
from ptcore_guests import Guest, guests

GUESTS = guests()
each_guest = pytest.mark.parametrize("guest", GUESTS, ids=lambda guest: guest.name)


class Region(NamedTuple):
    """Tables and leaves that translate a range of addresses."""

    tables: list[tuple[int, int, bool]]
    """(height, first address, empty)."""
    leaves: list[tuple[int, int, int, int]]
    """Runs of alike leaves: (first address, number, height, attribute bits)."""
    frames: list[int]
    """The first physical address of each of these runs."""


def region(reader: TableReader, fmt: Format, root: int, span: Span) -> Region:
    found = tables(reader, fmt, root, va_start=span.start, va_end=span.end)
    rows = sorted(zip(found.height.tolist(), found.va.tolist(), found.empty.tolist(), strict=True))
    leaf = leaves(reader, fmt, root, va_start=span.start, va_end=span.end)
    bits = np.zeros(len(leaf.va), dtype=np.uint64)
    for height in range(len(fmt.levels)):
        bits[leaf.height == height] = fmt.attributes(leaf.entry[leaf.height == height], height)
    changes = (np.diff(leaf.height) != 0) | (np.diff(bits) != 0)
    cuts = [0, *(np.flatnonzero(changes) + 1).tolist(), len(bits)] if len(bits) else []
    runs = [(int(leaf.va[a]), b - a, int(leaf.height[a]), int(bits[a])) for a, b in pairwise(cuts)]
    return Region(rows, runs, [int(leaf.pa[a]) for a in cuts[:-1]])


def both_regions(k: Kernel, guest: Guest, step: str) -> list[tuple[Region, Region]]:
    """Direct map and vmemmap of what is plugged: the model's and the guest's."""
    shift = k.config.page_shift
    va = k.layout.phys_to_virt(guest.hot.start)
    spans = [Span(va, va + guest.hot.size), k.layout.memmap(guest.hot.start >> shift, guest.hot.end >> shift)]
    core = guest.core(step)
    root = core.root()
    return [
        (region(k.hw.memory, k.hw.fmt, k.init_mm.frame, span), region(core, root.fmt, root.pfn, span)) for span in spans
    ]


def compare(k: Kernel, guest: Guest, step: str, *, plugged: bool = False) -> None:
    linear, vmemmap = both_regions(k, guest, step)
    mapped = sum(count * k.hw.fmt.levels[height].size for _, count, height, _ in linear[1].leaves)
    assert mapped == (guest.hot.size if plugged else 0)
    assert linear[0] == linear[1]
    assert vmemmap[0][:2] == vmemmap[1][:2]


@each_guest
def test_direct_map_and_vmemmap_of_the_hot_range_are_the_guests(guest: Guest) -> None:
    k = guest.boot()
    ops = k.port
    compare(k, guest, guest.before)
    for start, size in guest.blocks():
        ops.arch_add_memory(k, 0, start, size)
    compare(k, guest, guest.plugged, plugged=True)
    for start, size in guest.blocks():
        ops.arch_remove_memory(k, start, size)
    compare(k, guest, guest.after)
    assert not k.hw.violations


@each_guest
def test_entries_on_the_way_to_the_hot_range_carry_the_guests_bits(guest: Guest) -> None:
    k = guest.boot()
    for start, size in guest.blocks():
        k.port.arch_add_memory(k, 0, start, size)
    core, shift = guest.core(guest.plugged), k.config.page_shift
    fmt, root = core.root().fmt, core.root().pfn
    assert fmt == k.hw.fmt
    for va in (k.layout.phys_to_virt(guest.hot.start), k.layout.pfn_to_page(guest.hot.start >> shift)):
        mine, real = walk(k.hw.memory, fmt, k.init_mm.frame, va), walk(core, fmt, root, va)
        assert [(s.height, s.entry & ~fmt.pfn_mask) for s in mine.steps[:-1]] == [
            (s.height, s.entry & ~fmt.pfn_mask) for s in real.steps[:-1]
        ]


@each_guest
def test_boot_fills_the_root_entries_that_the_guest_had(guest: Guest) -> None:
    """All but those of areas that are not built here: the image, fixmap, PCI and the CPU entry area."""
    k = guest.boot()
    entries = k.hw.load_run(k.init_mm, 0, k.hw.fmt.levels[-1].entries)
    mine, real = set(np.flatnonzero(entries).tolist()), set(guest.noted["root_entries"])
    size = k.hw.fmt.levels[-1].size
    layout = k.layout
    others = [layout.kernel.span, layout.fixmap.span, Span((1 << 64) - (4 << 39), 1 << 64), layout.vmalloc.span]
    if layout.pci_io is not None:
        others.append(layout.pci_io.span)
    left_out = {
        (va - k.init_mm.va) // size for span in others for va in range(span.start, span.end, min(size, span.size))
    }
    assert mine <= real
    assert real - mine <= left_out
