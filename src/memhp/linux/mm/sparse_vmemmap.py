"""Populating the vmemmap, with base pages or PMD leaves: ``mm/sparse-vmemmap.c``.

The architecture's ``vmemmap_populate()`` chooses between the two functions here and says in a :class:`VmemmapBuilder`
what its entries look like. Both work on whole tables at a time, in the order of the kernel's loop: the tables on the
way to an entry first, then its storage, then the next.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from errno import ENOMEM

import numpy as np

from memhp.errors import KernelError
from memhp.hw.format import U64
from memhp.hw.memory import Owner, Use
from memhp.hw.runs import frame_spans
from memhp.hw.tlb import Table
from memhp.linux.mm.altmap import VmemAltmap
from memhp.linux.mm.memblock import NUMA_NO_NODE
from memhp.linux.mm.pgtable_populate import Builder, RootLock, ensure_table, entry_lock
from memhp.linux.mm.vmemmap_alloc import plenty, vmemmap_alloc_block, vmemmap_alloc_block_buf
from memhp.linux.place import LEVELS, Descent, by_height, here
from memhp.linux.state import Kernel
from memhp.spans import Span

KERNEL_FILE = "mm/sparse-vmemmap.c"
TABLES = Descent(fill=by_height(KERNEL_FILE, *(f"vmemmap_{level}_populate" for level in LEVELS)))
OFFNODE = f"{KERNEL_FILE}:vmemmap_verify"


class VmemmapPopulateError(KernelError):
    """``-ENOMEM`` while the vmemmap is populated: all below `address` is in place, nothing from there on is."""

    def __init__(self, address: int, what: str, place: str) -> None:
        super().__init__(
            ENOMEM, f"no memory for {what}", place=place, advice="free memory, or add less memory at a time"
        )
        self.address = address


@dataclass(frozen=True)
class VmemmapBuilder:
    """What an architecture's vmemmap entries look like, and what it does on the way."""

    page_prot: int
    """Attribute bits of a base-page leaf: ``PAGE_KERNEL``."""
    pmd_prot: int
    """Attribute bits of a PMD leaf: riscv ``PAGE_KERNEL``, arm64 ``PROT_SECT_NORMAL``, x86 ``PAGE_KERNEL_LARGE``."""
    table_bits: int
    """What an entry that points to a table carries besides the frame number."""
    check_pmd: Callable[[int, Span], bool]
    """``vmemmap_check_pmd()``: given an entry that is there already and the addresses wanted of it, whether it will do
    (``vmemmap_verify()`` looks at it then). If not, base pages are populated under it."""
    set_pmd: Callable[[Span], None] | None = None
    """Told the addresses that new PMD leaves are wanted for, which may be less than they map (x86 notes the unused
    part); at most the first and the last of them are in part."""
    root: RootLock | None = None
    """How entries of the root table are written, where that takes more than a store (arm64)."""
    root_bits: Callable[[int], int] | None = None
    """What the root entry for an address carries, where that is not always `table_bits` (arm64)."""
    root_linked: Callable[[int], None] | None = None
    """Told the address for which a root entry was written: ``arch_sync_kernel_mappings()``, where the kernel calls it
    for each (x86)."""


def vmemmap_populate_hugepages(
    k: Kernel, start: int, end: int, nid: int, altmap: VmemAltmap | None, how: VmemmapBuilder
) -> None:
    """Map the struct pages at ``[start, end)`` (addresses) with PMD leaves.

    A chunk that cannot be had is replaced by base pages, or is an error, as ``ArchProfile.vmemmap_fallback`` says.
    Raises :class:`VmemmapPopulateError`.
    """
    level = k.hw.fmt.levels[1]
    for table, va, stop in vmemmap_tables(k, start, end, 1, nid, how):
        first = k.hw.fmt.index(va, 1)
        last = first + ((stop - 1 >> level.shift) - (va >> level.shift)) + 1
        for at, n in k.hw.batches(first, last):
            entries = k.hw.load_run(table, at, n)
            for lo, hi, empty in _runs(np.asarray(k.hw.fmt.is_none(entries, table.height))):
                wanted = Span(
                    max(va, _address(k, table, at + lo)),
                    min(stop, _address(k, table, at + hi - 1) + level.size),
                )
                if empty:
                    _new_leaves(k, table, at + lo, wanted, nid, altmap, how)
                    continue
                for entry, part in zip(entries[lo:hi].tolist(), _parts(wanted, level.size), strict=True):
                    if how.check_pmd(entry, part):
                        vmemmap_verify(k, k.hw.fmt.leaf_pfn(np.array([entry], np.uint64), 1), part.start, nid, part.end)
                    else:
                        vmemmap_populate_basepages(k, part.start, part.end, nid, altmap, how)


def _new_leaves(
    k: Kernel, table: Table, index: int, wanted: Span, nid: int, altmap: VmemAltmap | None, how: VmemmapBuilder
) -> None:
    """Fill empty PMD entries from `index` on, which map the addresses `wanted`."""
    fmt = k.hw.fmt
    size = fmt.levels[1].size
    order = fmt.levels[1].shift - fmt.page_shift
    while wanted:
        count = -(-wanted.end // size) - wanted.start // size
        blocks = vmemmap_alloc_block_buf(k, order, nid, altmap, count, wanted.start)
        if len(blocks):
            with _written(k, table, len(blocks), how):
                k.hw.store_run(table, index, fmt.leaf_entry(blocks, 1, how.pmd_prot), here())
            mapped = Span(wanted.start, min(wanted.end, (wanted.start // size + len(blocks)) * size))
            if how.set_pmd is not None:
                how.set_pmd(mapped)
            index += len(blocks)
            wanted = Span(mapped.end, wanted.end)
        if len(blocks) < count:
            fallback = k.config.choices.vmemmap_fallback
            if fallback == "none" or (fallback == "base-unless-altmap" and altmap is not None):
                raise VmemmapPopulateError(wanted.start, "a PMD-sized chunk of struct pages", here())
            chunk = next(_parts(wanted, size))
            vmemmap_populate_basepages(k, chunk.start, chunk.end, nid, altmap, how)
            index += 1
            wanted = Span(chunk.end, wanted.end)


def vmemmap_populate_basepages(
    k: Kernel, start: int, end: int, nid: int, altmap: VmemAltmap | None, how: VmemmapBuilder
) -> None:
    """Map the struct pages at ``[start, end)`` (addresses) with base pages. Raises :class:`VmemmapPopulateError`.

    As in the kernel's loop, the page that holds `start` is the first and one follows for each page size on to `end`: of
    a range that starts within a page, the last page may stay unmapped.
    """
    fmt = k.hw.fmt
    page = fmt.page_size
    low = start - start % page
    high = low + -(-(end - start) // page) * page
    if k.hw.whole_tables and k.hw.faults is None and altmap is None:
        low = _whole_tables(k, low, high, nid, how)
    for table, va, stop in vmemmap_tables(k, low, high, 0, nid, how):
        first = fmt.index(va, 0)
        for at, n in k.hw.batches(first, first + (stop - va) // page):
            entries = k.hw.load_run(table, at, n)
            for lo, hi, empty in _runs(np.asarray(k.hw.fmt.is_none(entries, table.height))):
                if empty:
                    _new_pages(k, table, at + lo, hi - lo, nid, altmap, how)
                else:
                    vmemmap_verify(k, fmt.leaf_pfn(entries[lo:hi], 0), _address(k, table, at + lo), nid)


def _whole_tables(k: Kernel, start: int, end: int, nid: int, how: VmemmapBuilder) -> int:
    """Populate as much of ``[start, end)`` as new tables filled whole can, many at once; the address reached.

    The same tables and pages, only not taken in turns. It stops at the first entry that is not empty, and before memory
    gets so short that the order of taking would matter.
    """
    fmt = k.hw.fmt
    size = fmt.levels[1].size
    entries = fmt.levels[0].entries
    at = start
    if start % size:
        return start
    for table, va, stop in vmemmap_tables(k, start, end // size * size, 1, nid, how):
        index = fmt.index(va, 1)
        old = k.hw.load_run(table, index, (stop - va) // size)
        held = np.flatnonzero(~np.asarray(fmt.is_none(old, 1)))
        count = int(held[0]) if len(held) else len(old)
        if not count or not plenty(k, nid, 2 * count * (entries + 1)):
            return at
        tables = vmemmap_alloc_block(k, 0, nid, count, Owner(Use.TABLE))
        blocks = vmemmap_alloc_block_buf(k, 0, nid, None, count * entries, va)
        k.hw.ledger.tables_allocated[0] += count
        with _written(k, table, count, how):
            k.hw.store_run(table, index, fmt.encode_pfn(tables) | np.uint64(how.table_bits), here())
        leaves = fmt.leaf_entry(blocks, 0, how.page_prot).reshape(count, entries)
        k.hw.store_children(table, frame_spans(tables), leaves)
        vmemmap_verify(k, blocks, va, nid)
        at = va + count * size
        if count < len(old):
            return at
    return at


def _new_pages(
    k: Kernel, table: Table, index: int, count: int, nid: int, altmap: VmemAltmap | None, how: VmemmapBuilder
) -> None:
    """Fill empty base-page entries from `index` on."""
    blocks = vmemmap_alloc_block_buf(k, 0, nid, altmap, count, _address(k, table, index))
    k.hw.store_run(table, index, k.hw.fmt.leaf_entry(blocks, 0, how.page_prot), here())
    vmemmap_verify(k, blocks, _address(k, table, index), nid)
    if len(blocks) < count:
        raise VmemmapPopulateError(_address(k, table, index + len(blocks)), "a page of struct pages", here())


def vmemmap_verify(k: Kernel, frames: U64, va: int, nid: int, end: int | None = None) -> None:
    """Warn, once, of struct pages for node `nid` that lie on another: by ``early_pfn_to_nid()``.

    That asks memblock, and takes the first node online for what memblock does not know: all memory plugged since boot
    on a kernel that forgets memblock (x86). `frames` hold the struct pages at `va` and after it, base pages, or are one
    leaf that is wanted up to `end`.
    """
    if OFFNODE in k.warned:
        return
    nids = k.memblock.memblock_search_pfn_nids(frames)
    nids[nids == NUMA_NO_NODE] = min(k.node_states.online)
    off = np.flatnonzero(nids != nid)
    if len(off):
        at = va + int(off[0]) * k.hw.fmt.page_size
        stop = at + k.hw.fmt.page_size if end is None else end
        if k.warn_once(OFFNODE):
            k.hw.log(f"[{at:x}-{stop - 1:x}] potential offnode page_structs", "warn")


def vmemmap_tables(
    k: Kernel, start: int, end: int, height: int, nid: int, how: VmemmapBuilder
) -> Iterator[tuple[Table, int, int]]:
    """Each table of `height` under ``[start, end)``, made if it is missing, and the part of the range it translates."""
    fmt = k.hw.fmt
    reach = fmt.levels[height].size * fmt.levels[height].entries
    va = start
    while va < end:
        table = ensure_table(k.hw, k.init_mm, va, height, _table_builder(k, va, nid, how))
        stop = min(end, (va // reach + 1) * reach)
        if table is not None:
            yield table, va, stop
        va = stop


def _table_builder(k: Kernel, va: int, nid: int, how: VmemmapBuilder) -> Builder:
    """``vmemmap_p?d_populate()``: tables come from where struct pages come from, but never from an altmap."""

    def new_table(height: int, _wanted: int) -> list[Span]:
        block = vmemmap_alloc_block(k, 0, nid, 1, Owner(Use.TABLE))
        if not len(block):
            raise VmemmapPopulateError(va, "a page table", f"{KERNEL_FILE}:vmemmap_alloc_block_zero")
        frames = frame_spans(block)
        k.hw.blank_tables(frames, height)
        return frames

    return Builder(
        leaves=frozenset(),
        new_table=new_table,
        link="after-fill",
        occupied="keep",
        table_bits=how.table_bits,
        root=how.root,
        root_linked=how.root_linked,
        root_bits=how.root_bits,
        names=TABLES,
        where=f"{KERNEL_FILE}:vmemmap_populate_address",
    )


def _written(k: Kernel, table: Table, count: int, how: VmemmapBuilder) -> AbstractContextManager[None]:
    """What stores to `count` entries of a table happen under."""
    return entry_lock(k.hw, "", how.root if table.height == k.init_mm.height else None, count)


def _address(k: Kernel, table: Table, index: int) -> int:
    return table.va + index * k.hw.fmt.levels[table.height].size


def _parts(span: Span, size: int) -> Iterator[Span]:
    """The span cut at multiples of `size`."""
    at = span.start
    while at < span.end:
        stop = min(span.end, (at // size + 1) * size)
        yield Span(at, stop)
        at = stop


def _runs(flags: "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]") -> list[tuple[int, int, bool]]:
    """The runs of equal values in a boolean vector, as (start, end, value)."""
    cuts = [0, *(np.flatnonzero(np.diff(flags)) + 1).tolist(), len(flags)]
    return [(a, b, bool(flags[a])) for a, b in itertools.pairwise(cuts) if b > a]
