"""Emptying a page that may go bad soon, before it does: the second half of ``mm/memory-failure.c``. PFNs throughout.

Nobody is killed and nothing is lost: what is on the page moves elsewhere, and the page is never used again.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from errno import EBUSY, EIO, ENOMEM, ENXIO

from memhp.errors import KernelError
from memhp.hw.memory import Use
from memhp.linux.drivers.base.memory_lookup import num_poisoned_pages_inc
from memhp.linux.mm.hugetlb import HUGE_USES, POOLS, huge_pages
from memhp.linux.mm.memory_failure import MF_MUTEX, __page_handle_poison, get_hwpoison_page
from memhp.linux.mm.migrate import MOVABLE_USES, migrate_range
from memhp.linux.mm.page_alloc import free_pages
from memhp.linux.mm.sparse import pfn_to_online_page, pfn_valid
from memhp.linux.mmzone import PageFlags
from memhp.linux.place import here
from memhp.linux.state import Kernel
from memhp.spans import Span

KERNEL_FILE = "mm/memory-failure.c"
UNUSED = frozenset({Use.FREE, *POOLS.values()})
"""Uses of pages that nobody has: the buddy's, and free huge pages of a pool."""


def soft_offline_page(k: Kernel, pfn: int) -> None:
    """Move what is on a page elsewhere, and never use the page again; one that is poisoned stays as it is.

    Raises ENXIO where there is no memory, EIO for memory that is offline and for a page of which the kernel cannot say
    what it is, EBUSY for one that somebody holds, ENOMEM without room elsewhere. What the log says is in the words of
    kernels since 6.11.
    """
    if not pfn_valid(k, pfn):
        raise KernelError(ENXIO, f"PFN {pfn:#x} is no memory", place=here())
    if not pfn_to_online_page(k, pfn):
        raise KernelError(EIO, f"PFN {pfn:#x} is not online", place=here())
    with k.hw.locked(MF_MUTEX):
        if PageFlags.HWPOISON in (k.page_flags.get(pfn) or PageFlags.NONE):
            k.hw.log(f"Soft offline: {pfn:#x}: page already poisoned", "info")
            return
        with k.hw.locked("mem_hotplug_lock", write=False):
            use = get_hwpoison_page(k, pfn).use
        if use in MOVABLE_USES:
            soft_offline_in_use_page(k, pfn)
        elif use not in UNUSED:
            k.hw.log(f"Memory failure: {pfn:#x}: unhandlable page.", "err")
            raise KernelError(EIO, "unhandlable page", place=here(), advice=f"{use} memory cannot be moved")
        elif not page_handle_poison(k, pfn):
            raise KernelError(EBUSY, "the page could not be taken", place=here())


def soft_offline_in_use_page(k: Kernel, pfn: int) -> None:
    """Move the page, of huge ones all of it. Raises EBUSY and ENOMEM.

    A clean page of a file that no process has mapped is dropped instead, which is what pages of ``guest_memfd`` are to
    the kernel.
    """
    owner = k.hw.owners.get(pfn)
    assert owner is not None
    page = next(huge_pages(k, pfn, pfn + 1, owner.use)) if owner.use in HUGE_USES else Span(pfn, pfn + 1)
    if owner.use is Use.GUEST_MEMFD:
        k.hw.log(f"Soft offline: {pfn:#x}: invalidated", "info")
        free_pages(k, [page], here())
    elif stuck := migrate_range(k, *page, leave_node=False).stuck:
        starved = stuck[0].errno == ENOMEM
        kind = "page" if page.size == 1 else "hugepage"
        k.hw.log(f"Soft offline: {pfn:#x}: {kind} migration failed {-ENOMEM if starved else 1}", "info")
        raise KernelError(stuck[0].errno, f"{kind} migration failed", place=here(), advice=f"{owner} keeps the page")
    if not page_handle_poison(k, pfn):
        raise KernelError(EBUSY, "the page was used again", place=here())


def page_handle_poison(k: Kernel, pfn: int) -> bool:
    """Mark a page that nobody uses as poisoned, of a huge one this page only: whether it could be taken."""
    if not __page_handle_poison(k, pfn):
        return False
    k.page_flags.set_flags(pfn, pfn + 1, PageFlags.HWPOISON)
    num_poisoned_pages_inc(k, pfn)
    return True
