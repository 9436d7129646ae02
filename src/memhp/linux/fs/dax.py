"""Files whose pages are a device's own memory: ``fs/dax.c``, as far as a page that DMA holds concerns it.

A block of such a file is a page of the device. Before a file system gives a block to another file it takes the page out
of all page tables and waits until it is idle, which means that nobody has a reference. That is what
``MEMORY_DEVICE_FS_DAX`` wakes somebody up for. PFNs throughout.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass, field

from memhp.hw.shared import marked
from memhp.linux.kernel.panic import warn
from memhp.linux.kernel.sched.wait_bit import wait_var_event
from memhp.linux.mm.dev_pagemap import PAGE_REFCOUNT, DevPagemap
from memhp.linux.mm.memremap import free_zone_device_folio
from memhp.linux.place import kernel_function
from memhp.linux.state import Kernel

KERNEL_FILE = "fs/dax.c"
INVALIDATE_LOCK = "mapping.invalidate_lock"
"""Who faults a page of the file in holds it shared, who takes blocks away exclusively."""
PTE = "pte of a DAX file"
I_PAGES = "mapping.i_pages"


@dataclass(eq=False)
class DaxMapping:
    """``struct address_space`` of one file: its blocks, and who has them."""

    pgmap: DevPagemap
    i_pages: set[int] = field(default_factory=set, metadata=marked(I_PAGES))
    """The file's pages, of the device's."""
    mapped: set[int] = field(default_factory=set, metadata=marked(PTE))
    """Pages that are in a process's page tables."""
    references: dict[int, int] = field(default_factory=dict, metadata=marked(PAGE_REFCOUNT))
    """Page → references to it beside those of page tables (kernels before 6.15 count one more, idle or not)."""


@dataclass
class Inodes:
    """``inode->i_mapping`` by the file's name."""

    i_mapping: dict[str, DaxMapping] = field(default_factory=dict)


@kernel_function(None)
def dax_page_is_idle(k: Kernel, mapping: DaxMapping, pfn: int) -> bool:
    """Whether nobody holds a page (include/linux/dax.h)."""
    k.hw.atomic(PAGE_REFCOUNT)
    return not mapping.references.get(pfn)


def dax_layout_busy_page(k: Kernel, mapping: DaxMapping) -> int | None:
    """Take a file's pages out of all page tables, then find one that somebody still holds; None if there is none.

    Whoever takes a reference does so while the page is mapped, so that no new ones come once it is not.
    """
    for pfn in sorted(mapping.mapped):
        k.hw.atomic(PTE)
        mapping.mapped.discard(pfn)
    return next((pfn for pfn in sorted(mapping.i_pages) if not dax_page_is_idle(k, mapping, pfn)), None)


def dax_break_layout(k: Kernel, mapping: DaxMapping) -> None:
    """Wait until no page of a file is held; INVALIDATE_LOCK, which the caller holds, is let go of meanwhile.

    Kernels before 6.15 have the loop in each file system (fs/ext4/inode.c:ext4_break_layouts). KernelBug when a page
    is never let go.
    """
    while (pfn := dax_layout_busy_page(k, mapping)) is not None:
        _wait_page_idle(k, mapping, pfn, INVALIDATE_LOCK)


def _wait_page_idle(k: Kernel, mapping: DaxMapping, pfn: int, lock: str = "") -> None:
    why = f"PFN {pfn:#x} of a DAX file to become idle"
    wait_var_event(k, pfn, lambda: dax_page_is_idle(k, mapping, pfn), why, lock)


@kernel_function("fs/ext4/inode.c:ext4_evict_inode")
def evict_inode(k: Kernel, mapping: DaxMapping) -> None:
    """The file leaves memory, as at unmount, when no process has it open or mapped any more.

    A page that DMA still holds is waited for (``dax_break_layout_final()``), or the kernel warns and goes on:
    ``Profile.dax_evict``.
    """
    if k.config.profile.dax_evict == "waits":
        while (pfn := dax_layout_busy_page(k, mapping)) is not None:
            _wait_page_idle(k, mapping, pfn)
    elif dax_layout_busy_page(k, mapping) is not None:
        warn(k, f"{KERNEL_FILE}:dax_disassociate_entry", once=True)
    dax_delete_mapping_range(k, mapping)


def dax_delete_mapping_range(k: Kernel, mapping: DaxMapping) -> None:
    """The file has no pages any more; its blocks are the file system's to give to another."""
    k.hw.writes(I_PAGES)
    mapping.i_pages.clear()


# References --------------------------------------------------------------------------------------------------


@kernel_function("mm/gup.c:gup_fast_pte_range")
def gup_fast(k: Kernel, mapping: DaxMapping, pfn: int) -> bool:
    """Take a reference on a page that a process maps, without a lock: whether it was had.

    The entry is looked at again once the reference is there: if it has gone, so does the reference.
    """
    k.hw.atomic(PTE)
    if pfn not in mapping.mapped:
        return False
    k.hw.atomic(PAGE_REFCOUNT)
    mapping.references[pfn] = mapping.references.get(pfn, 0) + 1
    k.hw.atomic(PTE)
    if pfn in mapping.mapped:
        return True
    put_page(k, mapping, pfn)
    return False


@kernel_function("mm/swap.c:__folio_put")
def put_page(k: Kernel, mapping: DaxMapping, pfn: int) -> None:
    """A reference on a page goes; after the last one it is idle."""
    k.hw.atomic(PAGE_REFCOUNT)
    mapping.references[pfn] -= 1
    if not mapping.references[pfn]:
        free_zone_device_folio(k, mapping.pgmap, pfn)
