"""Altmaps: each belongs to a memory block that hosts its memmap, or to a device; accounts agree with page tables."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator

from memhp.check.law import Breach, Law
from memhp.check.machine_view import MachineView, pfn_text
from memhp.check.snapshot import Snapshot
from memhp.linux.mm.altmap import VmemAltmap
from memhp.linux.mm.dev_pagemap import Memremap
from memhp.spans import Span, SpanSet

NAME = "altmaps"


def room(altmap: VmemAltmap) -> Span:
    """The frames (PFNs) that an altmap hands out."""
    start = altmap.base_pfn + altmap.reserve
    return Span(start, start + altmap.free)


def find(look: MachineView, before: Snapshot | None) -> Iterator[Breach]:
    """Altmaps without a block, blocks without their altmap, and accounts that do not add up."""
    yield from _blocks(look)
    yield from _devices(look, look.storage[0])


def _blocks(look: MachineView) -> Iterator[Breach]:
    """Altmaps of memory blocks; where the look is confined, of those blocks in it and of those that are gone."""
    k = look.k
    for first, last, device in look.memory_blocks:
        for block in range(first, last) if device.altmap else ():
            if block not in k.altmaps:
                yield Breach(NAME, f"memory{block} hosts its memmap, but has no altmap")
    mapped, _ = look.storage
    per = k.pages_per_block
    for block, altmap in sorted(k.altmaps.items()):
        if look.near is not None and block * per not in look.near.pfns:
            continue
        host = k.memory_blocks.get(block)
        frames = Span(block * k.pages_per_block, (block + 1) * k.pages_per_block)
        if host is None or not host.altmap:
            there = "is gone" if host is None else "does not host its memmap"
            yield Breach(NAME, f"the altmap of memory{block} is left, but the block {there}", pfns=room(altmap))
            continue
        if not frames.covers(room(altmap)):
            text = f"the altmap of memory{block} has {pfn_text(room(altmap))}, outside the block"
            yield Breach(NAME, text, pfns=room(altmap))
        if altmap.alloc + altmap.align > altmap.free:
            text = f"the altmap of memory{block} gave {altmap.alloc} + {altmap.align} pages of {altmap.free}"
            yield Breach(NAME, text, pfns=room(altmap))
        used = mapped.covered(*room(altmap))
        if used != altmap.alloc:
            text = f"the altmap of memory{block} has {altmap.alloc} pages handed out, but vmemmap maps {used} of them"
            yield Breach(NAME, text, pfns=room(altmap))


def _devices(look: MachineView, mapped: SpanSet) -> Iterator[Breach]:
    """Altmaps of devices whose accounts do not add up."""
    for pgmap in {id(pgmap): pgmap for _, _, pgmap in look.k.statics(Memremap).pgmap_array}.values():
        if pgmap.altmap is None:
            continue
        altmap = pgmap.altmap
        used = mapped.covered(*room(altmap))
        if used != altmap.alloc:
            text = f"the device at PFN {altmap.base_pfn:#x} has {altmap.alloc} altmap pages out, vmemmap maps {used}"
            yield Breach(NAME, text, pfns=room(altmap))


LAW = Law(
    NAME,
    "Every altmap belongs to a device or a block that hosts its memmap; its accounts agree with vmemmap",
    find,
    still=lambda look, near: not any(_blocks(near)) and not any(_devices(look, look.storage[0])),
)
