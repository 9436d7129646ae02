"""What a kernel developer calls what a step touches: entries and their addresses, frames, flushes."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.explore.engine.trace import Value
from memhp.hw.decode import attribute_text
from memhp.hw.format import HEIGHT_NAMES
from memhp.hw.tlb import ALL_ADDRESSES, Table
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import exact_size


def entry_name(table: Table, index: int) -> str:
    """``PMD 0xbfffc[48]``: level, frame of the table, index."""
    return f"{HEIGHT_NAMES[table.height]} {table.frame:#x}[{index}]"


def entry_span(k: Kernel, table: Table, index: int, count: int = 1) -> Span:
    """The addresses that entries translate."""
    size = k.hw.fmt.levels[table.height].size
    start = table.va + index * size
    return Span(start, start + count * size)


def entry_about(k: Kernel, table: Table, index: int) -> str:
    """``translates 0xffff8d8000000000 (2 MiB), vmemmap: struct pages of PFN 0x200000-0x207fff``."""
    span = entry_span(k, table, index)
    tree = "" if table.mm == "init_mm" else f" in the page tables of {table.mm}"
    return f"translates {span.start:#x} ({exact_size(span.size)}){tree}{area(k, span, ', ')}"


def area(k: Kernel, span: Span, before: str = "") -> str:
    """Which part of the kernel's address space a range is in, and what of physical memory it is about."""
    layout = k.layout
    if layout.vmemmap_usable.covers(span):
        first, last = layout.page_to_pfn(span.start), layout.page_to_pfn(span.end) - 1
        return f"{before}vmemmap: struct pages of {pfns(Span(first, last + 1))}"
    if span.start in layout.direct_map and span.end <= layout.direct_map.end:
        shift = k.config.page_shift
        first, last = layout.virt_to_phys(span.start) >> shift, layout.virt_to_phys(span.end - 1) >> shift
        return f"{before}direct map of {pfns(Span(first, last + 1))}"
    for part in (layout.vmalloc, layout.modules, layout.kernel, layout.fixmap):
        if span.start in part:
            return f"{before}{part.name}"
    return ""


def entry_value(k: Kernel, entry: int, height: int) -> Value:
    """An entry with what it says: empty, a table and where, a leaf with its frames and attributes."""
    fmt = k.hw.fmt
    if not entry:
        return Value(0, "empty")
    if fmt.is_table(entry, height):
        return Value(entry, f"table in frame {fmt.table_pfn(entry):#x}")
    if fmt.is_leaf(entry, height):
        first, pages = int(fmt.leaf_pfn(entry, height)), fmt.pages_at(height)
        size, frames = exact_size(fmt.levels[height].size), pfns(Span(first, first + pages))
        return Value(entry, f"{size} leaf: {frames} {attribute_text(fmt, entry, height)}")
    return Value(entry, "not valid")


def pfns(span: Span) -> str:
    """``PFN 0x82200-0x823ff``, both ends included as the kernel prints ranges; ``PFN 0x82200`` for one."""
    return f"PFN {span.start:#x}" + (f"-{span.end - 1:#x}" if span.size > 1 else "")


def frames_about(k: Kernel, frames: Span) -> str:
    """How much memory frames are, and at which address."""
    shift = k.config.page_shift
    return f"{exact_size(frames.size << shift)} at {frames.start << shift:#x}"


def flushed(k: Kernel, span: Span) -> str:
    """What a flush reaches."""
    if span == ALL_ADDRESSES:
        return "every translation"
    return f"translations of {span.start:#x}-{span.end - 1:#x}{area(k, span, ', ')}"


def cpus(mask: int, all_cpus: int) -> str:
    """``CPU 0, 2``, ``every CPU``."""
    if mask == all_cpus:
        return "every CPU"
    return "CPU " + ", ".join(str(cpu) for cpu in range(mask.bit_length()) if mask >> cpu & 1)
