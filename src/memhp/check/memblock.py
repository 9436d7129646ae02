"""memblock, where the architecture keeps it after boot, knows exactly the memory that is present.

``CONFIG_ARCH_KEEP_MEMBLOCK``: ``add_memory_resource()`` adds to it, ``try_remove_memory()`` takes away.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator

from memhp.check.law import Breach, Law, nothing_near
from memhp.check.machine_view import MachineView, minus
from memhp.check.snapshot import Snapshot
from memhp.linux.mmzone import ZoneType
from memhp.spans import Span, SpanSet

NAME = "memblock"


def find(look: MachineView, before: Snapshot | None) -> Iterator[Breach]:
    """Memory that memblock lacks or still has. Device memory it is not told of; that has no memory blocks, but may lie
    in the last one of boot memory.
    """
    if not look.k.config.has_memblock:
        return
    shift = look.k.config.page_shift
    memory = SpanSet.joined((start >> shift, end >> shift) for start, end, _ in look.k.memblock.memory)
    known = SpanSet.joined(look.spans(memory))
    device = SpanSet(part for ref, pages in look.zone_pages.items() if ref.type is ZoneType.DEVICE for part in pages)
    present = SpanSet(part for span in look.present for part in look.block_frames.runs(*span))
    system = SpanSet(minus(present, device))
    for gap in minus(system, known):
        yield Breach(NAME, f"memblock does not know {_bytes(gap, shift)}, which is present", pfns=gap)
    for left in minus(known, system):
        yield Breach(NAME, f"memblock still has {_bytes(left, shift)}, which is not present", pfns=left)


def _bytes(span: Span, shift: int) -> str:
    """Frames as memblock prints ranges: ``[mem 0x…-0x…]``."""
    return f"[mem {span.start << shift:#018x}-{(span.end << shift) - 1:#018x}]"


LAW = Law(
    NAME,
    "memblock knows the memory that is present, and no other",
    find,
    still=nothing_near(find),
)
