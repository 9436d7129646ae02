"""What a model is told of where a real machine's struct pages and page tables lie: its page tables show it.

Which free pages the allocator hands out depends on all that was allocated and freed before, which stands in no facts.
It decides what can go later: a sub-block of a virtio-mem device, or a block, that holds struct pages of other memory
stays. So the model, which does the same step, takes the pages for them where the kernel took them, as far as it has
them free at that moment or can move what is there, and its own choice where not.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable, Iterator

from memhp.conform.tables import added_memory
from memhp.facts.observed import Facts
from memhp.hw.memory import Use
from memhp.hw.reader import TableReader
from memhp.hw.walker import leaves, tables
from memhp.linux.port import Root
from memhp.linux.state import Kernel
from memhp.scenario.schema import Dax, StepKind
from memhp.spans import Span
from memhp.target.model.target import ModelTarget
from memhp.target.target import Done, Memory
from memhp.units import parse_size

Places = dict[tuple[Use, int], list[Span]]
"""Blocks of frames (PFNs) by use and order, in the order in which they were taken."""


def tell_places(model: ModelTarget, memory: Memory, shown: Facts, steps: Iterable[StepKind]) -> None:
    """Before the model does what a real machine has done: tell where that has the struct pages and tables of added
    memory, unless the model has them there already.
    """
    k = model.session.k
    hot = list(added(model, shown, steps))
    theirs, mine = (
        places(k, reader, root, hot) for reader, root in ((memory, memory.root()), (k.hw.memory, own_root(k)))
    )
    k.hw.told = {}
    for kind, spans in theirs.items():
        have = set(mine.get(kind, ()))
        if new := [span for span in spans if span not in have]:
            k.hw.told[kind] = new
    model.make_room([span for spans in k.hw.told.values() for span in spans])


def tell_pinned(model: ModelTarget, done: Done) -> None:
    """Before the model has memory pinned: tell where a real machine has it, which decides what can go offline."""
    k = model.session.k
    shift = k.config.page_shift
    spans = [Span(start >> shift, end >> shift) for start, end in done.places]
    if spans:
        model.make_room(spans)
        k.hw.told[Use.MOVABLE, 0] = [Span(pfn, pfn + 1) for span in spans for pfn in range(*span)]


def own_root(k: Kernel) -> Root:
    """The model's own page tables."""
    return Root(k.hw.fmt, k.init_mm.frame, 0)


def added(model: ModelTarget, shown: Facts, steps: Iterable[StepKind]) -> Iterator[Span]:
    """Physical ranges (bytes) that came after boot: memory blocks, and regions of persistent memory."""
    found = added_memory(model.session.k, (block.index for block in shown.memory.blocks))
    for region in model.session.regions.values():
        found.add(*region.span)
    for step in steps:
        if isinstance(step, Dax) and step.at is not None and step.size is not None:
            start = parse_size(step.at)
            found.add(start, start + parse_size(step.size))
    return iter(found)


def places(k: Kernel, reader: TableReader, root: Root, hot: Iterable[Span]) -> Places:
    """Where the struct pages of ranges (bytes) lie, ascending by address, and the tables that map these and the ranges,
    those of the direct map first, each before those below it.
    """
    found: Places = {}
    shift = k.config.page_shift
    below: list[list[tuple[int, int, int]]] = [[], []]
    for span in hot:
        start = k.layout.phys_to_virt(span.start)
        memmap = k.layout.memmap(span.start >> shift, span.end >> shift)
        for number, area in enumerate((Span(start, start + span.size), memmap)):
            within = {"va_start": area.start, "va_end": area.end, "root_index": root.index}
            each = tables(reader, root.fmt, root.pfn, **within)
            rows = zip(each.va.tolist(), each.height.tolist(), each.frame.tolist(), strict=True)
            below[number] += [(va, -height, frame) for va, height, frame in rows if height < root.fmt.root_height]
        leaf = leaves(reader, root.fmt, root.pfn, va_start=memmap.start, va_end=memmap.end, root_index=root.index)
        for pa, height in zip(leaf.pa.tolist(), leaf.height.tolist(), strict=True):
            order = root.fmt.levels[height].shift - root.fmt.page_shift
            at = pa >> shift
            found.setdefault((Use.MEMMAP, order), []).append(Span(at, at + (1 << order)))
    frames = dict.fromkeys(frame for part in below for _, _, frame in sorted(part))
    if frames:
        found[Use.TABLE, 0] = [Span(frame, frame + 1) for frame in frames]
    return found
