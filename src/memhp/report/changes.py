"""What a step of a rehearsal changed and what it cost, in words: for every view that shows a step."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from itertools import pairwise

from memhp.scenario.result import BlockRun, Memory, StepResult, TableChange, Tables
from memhp.spans import SpanMap
from memhp.units import exact_size, format_count, format_size


def changes(step: StepResult, *, entries: bool = True) -> Iterator[tuple[str, str]]:
    """What a step changed and cost, as (name, text); with `entries`, those of page tables too where they were kept."""
    blocks = "; ".join(block_changes(step.blocks_before, step.blocks_after))
    if blocks:
        yield "blocks", blocks
    memory = memory_changes(step.memory_before, step.memory_after)
    if memory:
        yield "memory", memory
    for place, size in step.memmap_from.items():
        yield "memmap", f"{format_size(abs(size))} of struct pages {'in' if size > 0 else 'back to'} {place}"
    tables = ", ".join(filter(None, (_tables("+", step.tables_allocated), _tables("-", step.tables_freed))))
    if tables or step.entries_written:
        yield "tables", f"{tables or 'none new or freed'}; {format_count(step.entries_written, 'entry')} written"
    if entries:
        yield from ((change.level, table_change(change)) for change in step.table_changes)
    for flush in step.flushes:
        reach = "this CPU" if flush.local else "all CPUs"
        what = format_count(flush.pages, "page") if flush.pages else "everything"
        level = ", last level only" if flush.last_level else ""
        yield "flush", f"{flush.function} ×{flush.times}: {flush.operation}, {what}, {reach}{level}"


def block_changes(before: list[BlockRun], after: list[BlockRun]) -> list[str]:
    """What became of memory blocks, in words, as runs of blocks that changed alike."""
    old, new = _by_block(before), _by_block(after)
    edges = sorted({edge for start, end, _ in (*old, *new) for edge in (start, end)})
    changes: SpanMap[str] = SpanMap()
    for start, end in pairwise(edges):
        text = _block_change(old.get(start), new.get(start))
        if text:
            changes.set(start, end, text)
    return [f"{start}–{end - 1} {text}" if end - start > 1 else f"{start} {text}" for start, end, text in changes]


def _by_block(runs: list[BlockRun]) -> SpanMap[tuple[str, str, bool]]:
    return SpanMap((run.first, run.last + 1, (run.state, run.zone, run.memmap_on_memory)) for run in runs)


def _block_change(old: tuple[str, str, bool] | None, new: tuple[str, str, bool] | None) -> str:
    if old == new:
        return ""
    if new is None:
        return "gone"
    where = f" in {new[1]}" if new[0] == "online" and new[1] else ""
    hosted = ", hosting their own memmap" if new[2] and old is None else ""
    return f"{'new, ' if old is None else ''}{new[0]}{where}{hosted}"


def memory_changes(before: Memory, after: Memory) -> str:
    """How present, managed and free memory changed, in words."""
    parts = []
    for name in ("present", "managed", "free"):
        change = getattr(after, name) - getattr(before, name)
        if change:
            parts.append(f"{name} {'+' if change > 0 else '-'}{format_size(abs(change))}")
    return ", ".join(parts)


def _tables(sign: str, tables: Tables) -> str:
    counts = [(name, getattr(tables, name)) for name in ("PGD", "P4D", "PUD", "PMD", "PTE")]
    return ", ".join(f"{sign}{count} {name}" for name, count in counts if count)


def table_change(change: TableChange) -> str:
    """A run of page-table entries that a step changed alike, in words."""
    entry = "entry" if change.entries == 1 else "first entry"
    told = f"{what_changed(change)} {change.change}, {frames(change)}, {entry} {first_entry(change)}"
    return f"{change.area} {change.start:#x}–{change.end:#x}: {told}"


def what_changed(change: TableChange) -> str:
    """``1 table of 4 KiB``, ``3 leaves of 2 MiB``."""
    size = exact_size((change.end - change.start) // change.entries)
    what = {"leaf": "leaf", "table": "table", "other": "entry"}[change.what]
    return f"{format_count(change.entries, what)} of {size}"


def frames(change: TableChange) -> str:
    """The frames that the entries name."""
    last = change.frame + change.stride * (change.entries - 1)
    return f"PFN {change.frame:#x}" + (f"–{last:#x}" if change.entries > 1 else "")


def first_entry(change: TableChange) -> str:
    """The first of the entries as it stands, or stood, in memory."""
    return f"{change.old:#x} → {change.new:#x}" if change.change == "changed" else f"{change.new or change.old:#x}"
