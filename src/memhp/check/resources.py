"""The resource tree is sound, and ``System RAM`` in it is what memory blocks stand for."""
# SPDX-License-Identifier: GPL-2.0-or-later

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import repeat, starmap
from operator import attrgetter, is_, le, lt

from memhp.check.law import Breach, Law
from memhp.check.machine_view import MachineView, minus
from memhp.check.snapshot import Snapshot
from memhp.linux.kernel.resource import BUSY_SYSTEM_RAM, Resource
from memhp.linux.mm.dev_pagemap import Memremap
from memhp.linux.mm.memblock import MEMBLOCK_NOMAP
from memhp.spans import Span, SpanSet

NAME = "resources"
_START, _END, _PARENT, _CHILDREN = map(attrgetter, ("start", "end", "parent", "children"))


def find(look: MachineView, before: Snapshot | None) -> Iterator[Breach]:
    """Resources outside their parents or over their neighbours; RAM without a block, blocks without RAM.

    Not for RAM at boot that the kernel left, where ``/proc/iomem`` shows it all the same.
    """
    yield from _tree(look.k.iomem_resource)
    yield from _ram(look)


def _tree(parent: Resource) -> Iterator[Breach]:
    last: Resource | None = None
    for child in parent.children:
        if child.parent is not parent:
            yield Breach(NAME, f"{child} is listed below {parent}, but its parent is {child.parent}")
        if child.end < child.start:
            yield Breach(NAME, f"{child} ends before it starts")
        if not parent.start <= child.start <= child.end <= parent.end:
            yield Breach(NAME, f"{child} is not inside its parent {parent}")
        if last is not None and child.start <= last.end:
            yield Breach(NAME, f"{child} does not lie behind {last}, the resource before it")
        last = child
        yield from _tree(child)


def _sound(parent: Resource, first: int = 0, last: int | None = None) -> bool:
    """What :func:`_tree` finds nothing against among the children ``[first, last)``, neighbours included."""
    children = parent.children[first:last]
    if not children:
        return True
    starts, ends = [*map(_START, children)], [*map(_END, children)]
    return (
        parent.start <= starts[0]
        and ends[-1] <= parent.end
        and all(map(lt, ends, starts[1:]))
        and all(map(le, starts, ends))
        and all(map(is_, map(_PARENT, children), repeat(parent)))
        and all(map(_sound, filter(_CHILDREN, children)))
    )


def _still(look: MachineView, near: MachineView) -> bool:
    """Whether nothing is to be found where resources, blocks or RAM changed."""
    assert near.near is not None
    return all(starmap(_sound, near.near.resources)) and next(_ram(near), None) is None


def system_ram(root: Resource) -> SpanSet:
    """Bytes of all System RAM in the tree, driver-managed too; not of a region that its driver adds RAM below."""
    return SpanSet.joined(sorted(_system_ram(root)))


def _system_ram_in(root: Resource, spans: Iterable[Span]) -> SpanSet:
    """The part of it that lies in spans of bytes, of a tree whose neighbours are in order."""
    found = []
    for span in spans:
        first = bisect_left(root.children, span.start, key=lambda child: child.end)
        last = bisect_left(root.children, span.end, key=lambda child: child.start)
        found += [ram.clip(span) for ram in _system_ram(root, first, last) if ram.overlaps(span)]
    return SpanSet.joined(sorted(found))


def _system_ram(root: Resource, first: int = 0, last: int | None = None) -> Iterator[Span]:
    for child in root.children[first:last]:
        if child.flags & BUSY_SYSTEM_RAM == BUSY_SYSTEM_RAM:
            yield Span(child.start, child.end + 1)
        elif child.children:
            yield from _system_ram(child)


def _ram(look: MachineView) -> Iterator[Breach]:
    k = look.k
    size, shift = k.memory_block_size, k.config.page_shift
    near = look.near
    ram = (
        system_ram(k.iomem_resource)
        if near is None
        else _system_ram_in(k.iomem_resource, (span.scaled(shift) for span in near.pfns))
    )
    if k.port.iomem_of_boot == "firmware":
        ram.remove(k.layout.boot_limit, max(k.layout.boot_limit, k.iomem_resource.end + 1))
    blocks = SpanSet.joined(span.scaled(shift) for span in look.block_frames)
    for bare in minus(ram, blocks):
        yield Breach(NAME, f"System RAM [mem {bare.start:#010x}-{bare.end - 1:#010x}] has no memory block")
    devices = SpanSet(Span(start, end).scaled(shift) for start, end, _ in k.statics(Memremap).pgmap_array)
    for section in look.hot_sections:
        for block in blocks.runs(*section.scaled(shift)):
            for gap in minus(SpanSet(ram.gaps(*block)), devices):
                text = f"memory{gap.start // size} has [mem {gap.start:#010x}-{gap.end - 1:#010x}] without System RAM"
                yield Breach(NAME, text, pfns=Span(gap.start >> shift, gap.end >> shift))
    for bare in minus(_whole(size, _usable(look)), _whole(size, ram)):
        first, last = bare.start // size, bare.end // size - 1
        name = f"memory{first}" if first == last else f"memory{first} to memory{last}"
        text = f"{name} came at boot, but has no System RAM"
        yield Breach(NAME, text, pfns=Span(bare.start >> shift, bare.end >> shift))


def _usable(look: MachineView) -> Iterator[Span]:
    """Bytes of boot memory that is still there and was not firmware's own (NOMAP)."""
    k = look.k
    shift = k.config.page_shift
    for section in look.early_sections:
        for part in k.boot_memory.runs(*section):
            for start, end, region in k.memblock.memory.runs(part.start << shift, part.end << shift):
                if not region.flags & MEMBLOCK_NOMAP:
                    yield Span(start, end)


def _whole(size: int, spans: Iterable[Span]) -> SpanSet:
    """Spans rounded out to whole units of `size`."""
    return SpanSet.joined(sorted((span.start // size * size, -(-span.end // size) * size) for span in spans))


LAW = Law(
    NAME,
    "Resources nest and do not overlap, and System RAM is what the memory blocks stand for",
    find,
    still=_still,
)
