"""Pages of processes move to a device's private memory and back: ``mm/migrate_device.c``.

A page that is away leaves an entry in the process's page table that says where it is and that the CPU cannot reach it:
who touches it faults, and the device's driver brings it back. Virtual pages are numbers here, other pages PFNs.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from errno import EFAULT
from typing import NamedTuple

from memhp.errors import KernelError
from memhp.hw.memory import Owner, Use
from memhp.linux.mm.dev_pagemap import DevPagemap, MemoryType, Memremap
from memhp.linux.mm.memremap import free_zone_device_folio
from memhp.linux.mm.page_alloc import alloc_pages, free_pages
from memhp.linux.place import here, kernel_function
from memhp.linux.state import Kernel
from memhp.spans import Span

KERNEL_FILE = "mm/migrate_device.c"
GFP_HIGHUSER_MOVABLE = Owner(Use.MOVABLE, "anonymous")


@dataclass(eq=False)
class Mm:
    """``struct mm_struct`` of one process: its anonymous pages, in RAM or on a device."""

    ptes: dict[int, int] = field(default_factory=dict)
    """Virtual page → page."""


@dataclass
class Rmap:
    """What there is to know of the pages of processes: who maps them, and who holds them beside that."""

    mms: list[Mm] = field(default_factory=list)
    references: dict[int, int] = field(default_factory=dict)
    """Page → references beside that of its page table entry."""


class Mapped(NamedTuple):
    """A page where it is mapped."""

    mm: Mm
    address: int
    pfn: int


def device_private_pgmap(k: Kernel, pfn: int) -> DevPagemap | None:
    """The mapping that a page of private memory belongs to; None for any other page: ``is_device_private_page()``."""
    pgmap = k.statics(Memremap).pgmap_array.get(pfn)
    return pgmap if pgmap is not None and pgmap.type is MemoryType.PRIVATE else None


@kernel_function("mm/memory.c:do_anonymous_page")
def do_anonymous_page(k: Kernel, mm: Mm, address: int) -> int:
    """A process touches a page for the first time: it gets one of RAM. Raises ENOMEM."""
    rmap = k.statics(Rmap)
    if mm not in rmap.mms:
        rmap.mms.append(mm)
    mm.ptes[address] = alloc_movable(k)
    return mm.ptes[address]


def alloc_movable(k: Kernel) -> int:
    """``alloc_page(GFP_HIGHUSER_MOVABLE)``. Raises ENOMEM."""
    (page,) = alloc_pages(k, 0, 0, movable=True, owner=GFP_HIGHUSER_MOVABLE, where=f"{KERNEL_FILE}:migrate_vma_pages")
    return page.start


# Migration ---------------------------------------------------------------------------------------------------


def migrate_vma_setup(
    k: Kernel, mm: Mm, addresses: Iterable[int], pgmap_owner: str, *, from_device: bool
) -> list[Mapped]:
    """The pages that may be moved: of RAM (``MIGRATE_VMA_SELECT_SYSTEM``), or private ones of `pgmap_owner`'s alone.

    One that is held by somebody else stays: ``migrate_vma_check_page()``.
    """
    found = []
    for address in addresses:
        pfn = mm.ptes[address]
        pgmap = device_private_pgmap(k, pfn)
        selected = pgmap.owner == pgmap_owner if pgmap is not None else not from_device
        if (pgmap is not None) is from_device and selected and not k.statics(Rmap).references.get(pfn):
            found.append(Mapped(mm, address, pfn))
    return found


def migrate_device_range(k: Kernel, pages: Span) -> list[Mapped]:
    """The pages of a device that may be moved off it, wherever they are mapped."""
    held = k.statics(Rmap).references
    return [each for each in rmap_walk(k) if each.pfn in pages and not held.get(each.pfn)]


@kernel_function("mm/rmap.c:rmap_walk")
def rmap_walk(k: Kernel) -> Iterator[Mapped]:
    """Every page of every process."""
    for mm in k.statics(Rmap).mms:
        for address, pfn in list(mm.ptes.items()):
            yield Mapped(mm, address, pfn)


def migrate_vma_pages(moves: Iterable[tuple[Mapped, int]]) -> None:
    """Have the entries lead to where the pages were copied to, PFNs."""
    for mapped, to in moves:
        mapped.mm.ptes[mapped.address] = to


def migrate_vma_finalize(k: Kernel, moved: Iterable[Mapped]) -> None:
    """Nobody maps the pages that were moved any more: they are freed, to the buddy or to their device's driver."""
    for mapped in moved:
        pgmap = device_private_pgmap(k, mapped.pfn)
        if pgmap is not None:
            free_zone_device_folio(k, pgmap, mapped.pfn)
        else:
            free_pages(k, [Span(mapped.pfn, mapped.pfn + 1)], here())


# The CPU -----------------------------------------------------------------------------------------------------


@kernel_function("mm/memory.c:do_swap_page")
def do_swap_page(k: Kernel, mm: Mm, address: int) -> int:
    """A process touches a page that may be away: ``migrate_to_ram`` of its driver brings it back. The page in RAM.

    Raises EFAULT where the driver does not (``VM_FAULT_SIGBUS``).
    """
    pgmap = device_private_pgmap(k, mm.ptes[address])
    if pgmap is not None:
        assert pgmap.ops is not None and pgmap.ops.migrate_to_ram is not None
        pgmap.ops.migrate_to_ram(k, mm.ptes[address])
        if device_private_pgmap(k, mm.ptes[address]) is not None:
            raise KernelError(EFAULT, "the driver did not bring the page back", place=here())
    return mm.ptes[address]


@kernel_function("mm/gup.c:pin_user_pages")
def pin_user_pages(k: Kernel, mm: Mm, address: int) -> int:
    """Take a reference on a process's page for DMA: what is private comes back first, as its entry is not present."""
    pfn = do_swap_page(k, mm, address)
    hold(k, pfn)
    return pfn


@kernel_function("include/linux/mm.h:get_page")
def hold(k: Kernel, pfn: int) -> None:
    """One more reference on a page."""
    held = k.statics(Rmap).references
    held[pfn] = held.get(pfn, 0) + 1


@kernel_function("mm/hmm.c:hmm_range_fault")
def hmm_range_fault(k: Kernel, mm: Mm, address: int, dev_private_owner: str, *, fault: bool) -> int | None:
    """Where a device finds a process's page: its own private memory, or RAM.

    A page in another owner's memory is brought back if the device asked for it (`fault`), else it gets nothing.
    """
    pgmap = device_private_pgmap(k, mm.ptes[address])
    if pgmap is None or pgmap.owner == dev_private_owner:
        return mm.ptes[address]
    return do_swap_page(k, mm, address) if fault else None
