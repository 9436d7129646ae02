"""Page tables of a real kernel in the terminal: ranges with physical addresses, a tree with sizes, differences, laws.

Each line ends without a newline; the kernel's own format is :func:`memhp.facts.ptdump.render`.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator, Sequence

from memhp.check.dump_laws import Finding
from memhp.facts.page_tables import AreaUse, Difference, MappedRange, MissingTable, SeenTables, TableChange
from memhp.hw.format import HEIGHT_NAMES
from memhp.units import exact_size, format_count, format_size

SIGNS = {"added": "+", "removed": "-", "changed": "~"}


def range_line(each: MappedRange) -> str:
    """``0xffff888100000000-0xffff888120000000     512 MiB PMD pa=0x100000000 RW PSE GLB NX``."""
    block = f" [{format_size(each.block)} blocks]" if each.block != each.leaf_size else ""
    where = f"{each.va:#018x}-{each.va + each.size:#018x} {exact_size(each.size):>11}"
    return f"{where} {each.level} pa={each.pa:#x} {each.attributes}{block}"


def range_lines(ranges: Sequence[MappedRange]) -> Iterator[str]:
    """A line a range, under a heading for each area."""
    area = ""
    for each in ranges:
        if each.area != area:
            area = each.area
            yield f"---[ {area} ]---"
        yield range_line(each)


def missing_lines(missing: Sequence[MissingTable]) -> Iterator[str]:
    """What the source lacks."""
    for each in missing:
        yield f"missing: the {each.level} table at pa={each.pa:#x}, which translates {each.va:#x} on"


def summary_lines(seen: SeenTables, areas: Sequence[AreaUse]) -> Iterator[str]:
    """A tree: each area, the leaves in it by size, the memory that its tables take."""
    fmt, info = seen.fmt, seen.source.info
    tables = sum(each.count for area in areas for each in area.tables) + 1
    release = f"{info.release}, " if info is not None else ""
    yield f"{release}{fmt.name}, root at {seen.source.root.address:#x}"
    mapped = sum(area.mapped for area in areas)
    size = exact_size(sum(area.table_bytes for area in areas) + fmt.table_size(fmt.root_height))
    yield f"{format_size(mapped)} mapped by {format_count(tables, 'table')} of {size}, the root among them"
    for i, area in enumerate(areas):
        last = i == len(areas) - 1
        yield f"{'└' if last else '├'}─ {area.name}, from {area.start:#x}: {format_size(area.mapped)} mapped"
        rows = [*_leaf_rows(area), *_table_rows(area)]
        for j, row in enumerate(rows):
            yield f"{' ' if last else '│'}  {'└' if j == len(rows) - 1 else '├'}─ {row}"


def _leaf_rows(area: AreaUse) -> Iterator[str]:
    for each in area.leaves:
        total = format_size(each.count * each.leaf_size)
        yield f"{format_count(each.count, f'{each.level} leaf')} of {format_size(each.leaf_size)}: {total}"


def _table_rows(area: AreaUse) -> Iterator[str]:
    for each in area.tables:
        size = each.table_size * each.count
        some = f"{each.empty} of them " if each.count > 1 else ""
        empty = f", {some}empty" if each.empty else ""
        yield f"{format_count(each.count, f'{each.level} table')}: {format_size(size)}{empty}"


def difference_lines(found: Sequence[Difference], tables: Sequence[TableChange]) -> Iterator[str]:
    """What was added (+), removed (-) and changed (~), by area, then how many tables came and went."""
    area = ""
    for each in found:
        if each.now.area != area:
            area = each.now.area
            yield f"---[ {area} ]---"
        yield f"{SIGNS[each.kind]} {range_line(each.now)} ({format_count(each.now.count, 'leaf')})"
        if each.was:
            yield f"    was {each.was}"
    for change in sorted(tables, key=lambda each: (each.area, -HEIGHT_NAMES.index(each.level))):
        sign = "-" if change.more < 0 else "+"
        yield f"{sign}{format_count(abs(change.more), f'{change.level} table')} in {change.area}"
    if not found and not tables:
        yield "no difference"


def law_lines(findings: Sequence[Finding]) -> Iterator[str]:
    """Each law: ✓ holds, ✗ does not, - not checked; then where, and what is worth knowing."""
    for each in findings:
        sign = "-" if each.unchecked else "✗" if each.breaches else "✓"
        yield f"{sign} {each.law}: {each.sentence}"
        if each.unchecked:
            yield f"    not checked: {each.unchecked}"
        for breach in each.breaches:
            yield f"    {breach.text}"
        for note in each.notes:
            yield f"    note: {note.text}"
