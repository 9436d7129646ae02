"""Pages of processes move to a device's private memory and back: ``mm/migrate_device.c``.

A page that is away leaves an entry in the process's page table that says where it is and that the CPU cannot reach it:
who touches it faults, and the device's driver brings it back. While a page moves it is locked, and a migration entry
stands where it is mapped; it moves only if nobody else refers to it, and stays where it is locked already.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable
from errno import EFAULT
from typing import NamedTuple

from memhp.errors import KernelError
from memhp.hw.memory import Owner, Use
from memhp.hw.stepper import any_of
from memhp.linux.mm.dev_pagemap import DevPagemap, MemoryType, page_pgmap
from memhp.linux.mm.memremap import free_zone_device_folio
from memhp.linux.mm.mm_types import (
    GUP_PIN_COUNTING_BIAS,
    Mapped,
    Mm,
    Rmap,
    get_page,
    get_page_unless_zero,
    locked_bit_of,
    page_ref_count,
    put_page_testzero,
    refcount_of,
    trylock_page,
    unlock_page,
    wait_on_page_locked,
)
from memhp.linux.mm.page_alloc import alloc_pages, free_pages
from memhp.linux.mmzone import ZoneType
from memhp.linux.place import here, kernel_function
from memhp.linux.state import Kernel
from memhp.spans import Span

KERNEL_FILE = "mm/migrate_device.c"
GFP_HIGHUSER_MOVABLE = Owner(Use.MOVABLE, "anonymous")


class Move(NamedTuple):
    """A page that is to move, and the page that it is copied to; both are locked."""

    source: Mapped
    to: int
    moved: bool = False


def device_private_pgmap(k: Kernel, pfn: int) -> DevPagemap | None:
    """The mapping that a page of private memory belongs to; None for any other page: ``is_device_private_page()``."""
    zone = k.page_zone.get(pfn)
    if zone is None or zone.type is not ZoneType.DEVICE:
        return None
    pgmap = page_pgmap(k, pfn)
    return pgmap if pgmap.type is MemoryType.PRIVATE else None


@kernel_function("mm/memory.c:do_anonymous_page")
def do_anonymous_page(k: Kernel, mm: Mm, address: int) -> int:
    """A process touches a page for the first time: it gets one of RAM. Raises ENOMEM."""
    processes = k.statics(Rmap)
    if mm not in processes.mms:
        mm.name = f"mm{len(processes.mms)}"
        processes.mms.append(mm)
    page = alloc_movable(k)
    with k.hw.locked(mm.ptl):
        there = mm.ptes.get(address)
        if there is None:
            _map(k, Mapped(mm, address, page))
            return page
    folio_put(k, page)
    return there


def _map(k: Kernel, mapped: Mapped) -> None:
    """The entry leads to the page, which knows that."""
    k.statics(Rmap).mapping.set(mapped.pfn, mapped.pfn + 1, mapped)
    mapped.mm.ptes[mapped.address] = mapped.pfn


def alloc_movable(k: Kernel) -> int:
    """``alloc_page(GFP_HIGHUSER_MOVABLE)``: the page has one reference. Raises ENOMEM."""
    (page,) = alloc_pages(k, 0, 0, movable=True, owner=GFP_HIGHUSER_MOVABLE, where=f"{KERNEL_FILE}:migrate_vma_pages")
    get_page(k, page.start)
    return page.start


@kernel_function("mm/swap.c:__folio_put")
def folio_put(k: Kernel, pfn: int) -> None:
    """A reference goes; with the last one the page, to the buddy or to its device's driver."""
    if not put_page_testzero(k, pfn):
        return
    k.statics(Rmap).mapping.clear(pfn, pfn + 1)
    pgmap = device_private_pgmap(k, pfn)
    if pgmap is not None:
        free_zone_device_folio(k, pgmap, pfn)
    else:
        free_pages(k, [Span(pfn, pfn + 1)], here())


# Migration ---------------------------------------------------------------------------------------------------


def migrate_vma_setup(
    k: Kernel,
    mm: Mm,
    addresses: Iterable[int],
    pgmap_owner: str,
    *,
    from_device: bool,
    fault_page: int | None = None,
) -> list[Mapped]:
    """The pages that move: of RAM (``MIGRATE_VMA_SELECT_SYSTEM``), or private ones of `pgmap_owner`'s alone. They are
    locked, and migration entries stand for them. The caller holds ``mmap_lock``.

    `fault_page`: the one that the CPU has touched, to which the fault holds a reference.
    """
    found = []
    with k.hw.locked(mm.ptl):
        for address in addresses:
            pfn = mm.ptes.get(address)
            if pfn is None or address in mm.migrating or not _selected(k, pfn, pgmap_owner, from_device):
                continue
            get_page(k, pfn)
            if _is_locked_by_fault(k, pfn, fault_page) or trylock_page(k, pfn):
                mm.migrating.add(address)
                found.append(Mapped(mm, address, pfn))
            folio_put(k, pfn)
    return _migrate_device_unmap(k, found, fault_page)


def _selected(k: Kernel, pfn: int, pgmap_owner: str, from_device: bool) -> bool:
    pgmap = device_private_pgmap(k, pfn)
    return not from_device if pgmap is None else from_device and pgmap.owner == pgmap_owner


def _is_locked_by_fault(k: Kernel, pfn: int, fault_page: int | None) -> bool:
    """Whether the fault that a migration is for has locked the page."""
    return pfn == fault_page and k.config.profile.device_fault != "reference"


def migrate_device_range(k: Kernel, pages: Span) -> list[Mapped]:
    """The pages of a device that move off it, wherever they are mapped; one that somebody has locked stays."""
    k.hw.reads(any_of(refcount_of(0)))
    runs = [Span(start, end).clip(pages) for start, end, _ in k.statics(Rmap).references]
    found = []
    for pfn in (pfn for run in runs for pfn in range(*run)):
        if not get_page_unless_zero(k, pfn):
            continue
        if not trylock_page(k, pfn):
            folio_put(k, pfn)
            continue
        mapped = _try_to_migrate(k, pfn)
        if mapped is not None:
            found.append(mapped)
            continue
        unlock_page(k, pfn)
        folio_put(k, pfn)
    return _migrate_device_unmap(k, found, None)


@kernel_function("mm/rmap.c:try_to_migrate")
def _try_to_migrate(k: Kernel, pfn: int) -> Mapped | None:
    """Put a migration entry where a page is mapped, which is locked; None if it is mapped nowhere (any more)."""
    mapped = k.statics(Rmap).mapping.get(pfn)
    if mapped is None:
        return None
    with k.hw.locked(mapped.mm.ptl):
        if mapped.mm.ptes[mapped.address] != pfn:
            return None
        mapped.mm.migrating.add(mapped.address)
    folio_put(k, pfn)
    return mapped


@kernel_function(f"{KERNEL_FILE}:migrate_device_unmap")
def _migrate_device_unmap(k: Kernel, found: list[Mapped], fault_page: int | None) -> list[Mapped]:
    """Leave out pages that somebody else holds: ``migrate_vma_check_page()``."""
    kept = []
    for each in found:
        expected = 1 + (each.pfn == fault_page) + (device_private_pgmap(k, each.pfn) is not None)
        if page_ref_count(k, each.pfn) > expected:
            _end(k, each, each.pfn, fault_page)
        else:
            kept.append(each)
    return kept


def migrate_vma_pages(k: Kernel, moves: Iterable[Move], fault_page: int | None = None) -> list[Move]:
    """Which of the pages move: ``folio_migrate_mapping()`` looks at the references once more."""
    tried = []
    for move in moves:
        source, to, _ = move
        alone = page_ref_count(k, source.pfn) == 1 + (source.pfn == fault_page)
        if alone:
            k.statics(Rmap).mapping.set(to, to + 1, source._replace(pfn=to))
        tried.append(move._replace(moved=alone))
    return tried


def migrate_vma_finalize(k: Kernel, moves: Iterable[Move], fault_page: int | None = None) -> None:
    """Where migration entries are, entries lead to where the pages were copied to, or to themselves if they stay; all
    are unlocked, and nobody refers to those that have moved.
    """
    for source, to, moved in moves:
        if not moved:
            unlock_page(k, to)
            folio_put(k, to)
        _end(k, source, to if moved else source.pfn, fault_page)
        if moved:
            unlock_page(k, to)
            folio_put(k, to)


def _end(k: Kernel, source: Mapped, target: int, fault_page: int | None) -> None:
    """A page's migration is over: the entry leads to `target`."""
    _remove_migration_ptes(k, source, target)
    if not _is_locked_by_fault(k, source.pfn, fault_page):
        unlock_page(k, source.pfn)
    folio_put(k, source.pfn)


@kernel_function("mm/migrate.c:remove_migration_ptes")
def _remove_migration_ptes(k: Kernel, source: Mapped, target: int) -> None:
    with k.hw.locked(source.mm.ptl):
        get_page(k, target)
        source.mm.migrating.discard(source.address)
        source.mm.ptes[source.address] = target


# The CPU -----------------------------------------------------------------------------------------------------


@kernel_function("mm/memory.c:do_swap_page")
def do_swap_page(k: Kernel, mm: Mm, address: int) -> int:
    """A process touches a page that may be away, again and again until ``migrate_to_ram`` of its driver has brought it
    back: the page in RAM. Raises EFAULT where DMA has pinned it, for which the process would fault for ever.

    What it does about others who are at the page: ``Profile.device_fault``.
    """
    before = None
    while True:
        with k.hw.locked(mm.mmap_lock, write=False):
            with k.hw.locked(mm.ptl):
                pfn, moving = mm.ptes[address], address in mm.migrating
                pgmap = device_private_pgmap(k, pfn)
                if pgmap is None and not moving:
                    return pfn
                if pfn == before and page_ref_count(k, pfn) > GUP_PIN_COUNTING_BIAS:
                    raise KernelError(EFAULT, "the driver did not bring the page back", place=here())
                mine = not moving and _hold_for_fault(k, pfn)
            if mine:
                assert pgmap is not None
                _migrate_to_ram(k, pgmap, Mapped(mm, address, pfn))
                before = pfn
                continue
            if moving or k.config.profile.device_fault == "trylock-or-wait":
                wait_on_page_locked(k, pfn)
                continue
        _fault_again(k, pfn)


@kernel_function("mm/memory.c:do_swap_page")
def _hold_for_fault(k: Kernel, pfn: int) -> bool:
    """A fault takes its reference, once it has locked the page in kernels that do so: whether it could."""
    mine = k.config.profile.device_fault == "reference" or trylock_page(k, pfn)
    if mine:
        get_page(k, pfn)
    return mine


@kernel_function("mm/memory.c:do_swap_page")
def _migrate_to_ram(k: Kernel, pgmap: DevPagemap, fault: Mapped) -> None:
    assert pgmap.ops is not None and pgmap.ops.migrate_to_ram is not None
    pgmap.ops.migrate_to_ram(k, fault)
    if k.config.profile.device_fault != "reference":
        unlock_page(k, fault.pfn)
    folio_put(k, fault.pfn)


@kernel_function("mm/memory.c:do_swap_page")
def _fault_again(k: Kernel, pfn: int) -> None:
    """The CPU faults over and over, and does nothing else, until the page is not locked."""
    locked = k.statics(Rmap).locked
    k.hw.spin(lambda: pfn not in locked, f"PFN {pfn:#x} to be unlocked", on=locked_bit_of(pfn))


@kernel_function("mm/gup.c:pin_user_pages")
def pin_user_pages(k: Kernel, mm: Mm, address: int) -> int:
    """Take a reference on a process's page for DMA: what is private comes back first, as its entry is not present."""
    while True:
        pfn = do_swap_page(k, mm, address)
        with k.hw.locked(mm.ptl):
            if mm.ptes[address] == pfn and address not in mm.migrating:
                hold(k, pfn)
                return pfn


@kernel_function("mm/gup.c:try_grab_folio")
def hold(k: Kernel, pfn: int) -> None:
    """DMA pins a page."""
    get_page(k, pfn, GUP_PIN_COUNTING_BIAS)


@kernel_function("mm/hmm.c:hmm_range_fault")
def hmm_range_fault(k: Kernel, mm: Mm, address: int, dev_private_owner: str, *, fault: bool) -> int | None:
    """Where a device finds a process's page: its own private memory, or RAM.

    A page in another owner's memory is brought back if the device asked for it (`fault`), else it gets nothing.
    """
    with k.hw.locked(mm.ptl):
        pfn, moving = mm.ptes[address], address in mm.migrating
        pgmap = device_private_pgmap(k, pfn)
        if not moving and (pgmap is None or pgmap.owner == dev_private_owner):
            return pfn
    return do_swap_page(k, mm, address) if fault else None
