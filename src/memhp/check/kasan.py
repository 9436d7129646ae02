"""KASAN's zero shadow: there for memory that no allocator hands out, as long as it is in use, and for nothing else.

Only the shadow that hotplug adds and removes is looked at: that of boot memory, and of memory that allocators hand out,
is not made here.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator

from memhp.check.law import Breach, Law
from memhp.check.machine_view import MachineView, merged, minus, va_text
from memhp.check.snapshot import Snapshot
from memhp.linux.mm.dev_pagemap import MemoryType, Memremap
from memhp.linux.mm.kasan.init import KASAN_SHADOW_SCALE_SHIFT, kasan_mem_to_shadow
from memhp.spans import Span, SpanSet

NAME = "kasan-shadow"


def wanted(look: MachineView) -> SpanSet:
    """The shadow (bytes) of self-hosted struct pages of blocks that are online, and of devices that the CPU reaches."""
    k = look.k
    found = SpanSet()
    for first, last, block in k.memory_blocks:
        for each in range(first, last) if block.altmap and block.state == "online" else ():
            start = each * k.pages_per_block
            found.add(*_shadow(look, Span(start, start + k.altmaps[each].free)))
    for start, end, pgmap in k.statics(Memremap).pgmap_array:
        if pgmap.type is not MemoryType.PRIVATE:
            found.add(*_shadow(look, Span(start, end)))
    return found


def _shadow(look: MachineView, pages: Span) -> Span:
    k = look.k
    start = kasan_mem_to_shadow(k, k.layout.phys_to_virt(pages.start << k.config.page_shift))
    return Span(start, start + (pages.size << k.config.page_shift - KASAN_SHADOW_SCALE_SHIFT))


def find(look: MachineView, before: Snapshot | None) -> Iterator[Breach]:
    """Shadow that is missing, and shadow that is left."""
    area = look.k.layout.kasan
    if area is None:
        return
    leaves = look.leaves(area.span)
    mapped, _ = merged(leaves.va, leaves.va + leaves.size)
    needed = wanted(look)
    for span in minus(needed, mapped):
        yield Breach(NAME, f"the shadow at {va_text(span)} is not mapped", vas=span)
    for span in minus(mapped, needed):
        yield Breach(NAME, f"the shadow at {va_text(span)} is of nothing that is in use", vas=span)


LAW = Law(NAME, "KASAN's zero shadow is there for memory that no allocator hands out, and for nothing else", find)
