"""Processes and the struct pages that they map: ``include/linux/mm_types.h``.

As far as the pages may be a device's (migrate_device.py): anonymous ones, each mapped once. Virtual pages are numbers
here, other pages PFNs.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass, field
from typing import NamedTuple

from memhp.hw.marked_map import MarkedMap, MarkedSet
from memhp.linux.place import kernel_function, of_file
from memhp.linux.state import Kernel
from memhp.spans import SpanMap

KERNEL_FILE = "include/linux/mm_types.h"
GUP_PIN_COUNTING_BIAS = 1024
"""What a pin counts as among the references to a page."""


@dataclass(eq=False)
class Mm:
    """``struct mm_struct`` of one process: its anonymous pages, in RAM or on a device."""

    ptes: dict[int, int] = field(default_factory=dict)
    """Virtual page → page; a page of private memory stands in an entry that the CPU takes for none."""
    migrating: set[int] = field(default_factory=set)
    """Virtual pages whose entry is a migration entry: who touches one waits until the page is unlocked."""
    name: str = "mm"

    @property
    def mmap_lock(self) -> str:
        """Keeps the areas of the process; faults and migrations hold it shared."""
        return f"{self.name}.mmap_lock"

    @property
    def ptl(self) -> str:
        """The lock of the page table, which all entries are in."""
        return f"{self.name}.ptl"


class Mapped(NamedTuple):
    """A page where it is mapped."""

    mm: Mm
    address: int
    pfn: int


def refcount_of(pfn: int) -> str:
    """The field of a struct page with its references."""
    return f"page[{pfn:#x}]._refcount"


def locked_bit_of(pfn: int) -> str:
    """The flag of a struct page by which it is locked."""
    return f"page[{pfn:#x}].PG_locked"


@dataclass
class Rmap:
    """What struct pages of processes say: who refers to them, who maps them."""

    mms: list[Mm] = field(default_factory=list)
    """The processes that there are."""
    references: MarkedMap[int] = field(default_factory=lambda: MarkedMap(refcount_of))
    """``page->_refcount``, where there is a reference."""
    locked: MarkedSet = field(default_factory=lambda: MarkedSet(locked_bit_of))
    """``PG_locked``."""
    mapping: SpanMap[Mapped] = field(default_factory=SpanMap)
    """``page->mapping`` and ``page->index``: where the page is mapped, or is to be."""


@of_file("include/linux/mm.h")
def get_page(k: Kernel, pfn: int, references: int = 1) -> None:
    """So many references more on a page."""
    k.hw.atomic(refcount_of(pfn))
    counts = k.statics(Rmap).references
    counts.set(pfn, pfn + 1, (counts.get(pfn) or 0) + references)


@kernel_function("include/linux/mm.h:get_page_unless_zero")
def get_page_unless_zero(k: Kernel, pfn: int) -> bool:
    """One reference more, on a page that has one: whether it had."""
    k.hw.atomic(refcount_of(pfn))
    counts = k.statics(Rmap).references
    count = counts.get(pfn)
    if count:
        counts.set(pfn, pfn + 1, count + 1)
    return bool(count)


@of_file("include/linux/mm.h")
def put_page_testzero(k: Kernel, pfn: int) -> bool:
    """A reference goes: whether it was the last one."""
    k.hw.atomic(refcount_of(pfn))
    counts = k.statics(Rmap).references
    count = counts.get(pfn)
    assert count
    if count > 1:
        counts.set(pfn, pfn + 1, count - 1)
    else:
        counts.clear(pfn, pfn + 1)
    return count == 1


@of_file("include/linux/page_ref.h")
def page_ref_count(k: Kernel, pfn: int) -> int:
    """The references to a page."""
    k.hw.reads(refcount_of(pfn))
    return k.statics(Rmap).references.get(pfn) or 0


@of_file("include/linux/pagemap.h")
def trylock_page(k: Kernel, pfn: int) -> bool:
    """Lock a page that is not locked: whether it was not."""
    k.hw.atomic(locked_bit_of(pfn))
    locked = k.statics(Rmap).locked
    if pfn in locked:
        return False
    locked.add(pfn, pfn + 1)
    return True


@of_file("include/linux/pagemap.h")
def lock_page(k: Kernel, pfn: int) -> None:
    """Lock a page, once it is not locked."""
    while not trylock_page(k, pfn):
        wait_on_page_locked(k, pfn)


@kernel_function("mm/filemap.c:folio_unlock")
def unlock_page(k: Kernel, pfn: int) -> None:
    """Let a page go, and wake those who wait for that."""
    k.hw.atomic(locked_bit_of(pfn))
    k.statics(Rmap).locked.remove(pfn, pfn + 1)


@of_file("include/linux/pagemap.h")
def wait_on_page_locked(k: Kernel, pfn: int) -> None:
    """Sleep while a page is locked."""
    locked = k.statics(Rmap).locked
    k.hw.wait(lambda: pfn not in locked, f"PFN {pfn:#x} to be unlocked", on=locked_bit_of(pfn))
