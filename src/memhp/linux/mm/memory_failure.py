"""A page that memory errors have taken: ``mm/memory-failure.c``. One page at a time; PFNs throughout."""
# SPDX-License-Identifier: GPL-2.0-or-later

from contextlib import nullcontext
from dataclasses import dataclass, field
from errno import EBUSY, ENXIO
from typing import Literal, NamedTuple, get_args

from memhp.errors import KernelBug, KernelError
from memhp.hw.memory import Owner, Use
from memhp.linux.drivers.base.memory_lookup import num_poisoned_pages_inc
from memhp.linux.drivers.base.memory_state import EHWPOISON
from memhp.linux.mm.dev_pagemap import DevPagemap, MemoryType, get_dev_pagemap, put_dev_pagemap
from memhp.linux.mm.hugetlb import (
    HUGE_USES,
    HUGETLB_LOCK,
    POOLS,
    HugePage,
    clear_migratable,
    dissolve_free_hugetlb_folio,
    free_huge_folio,
    hugetlb_folio,
    is_migratable,
)
from memhp.linux.mm.memremap import pfn_first, pgmap_pfn_valid
from memhp.linux.mm.page_alloc import take_pages_off_buddy
from memhp.linux.mm.pcplists import PCP_BATCH_HIGH_LOCK
from memhp.linux.mm.sparse import pfn_to_online_page, pfn_valid
from memhp.linux.mm.util import pf_poisoned_check, snapshot_page
from memhp.linux.mmzone import PageFlags
from memhp.linux.place import here, kernel_function
from memhp.linux.state import Kernel
from memhp.spans import Span

KERNEL_FILE = "mm/memory-failure.c"
POISONED = Owner(Use.HWPOISON)
UNPLUGGED = Owner(Use.OFFLINE)
"""Whose a page of an online block is that has no memory behind it: a driver's, which keeps its struct page."""


Result = Literal["Ignored", "Failed", "Delayed", "Recovered"]


@dataclass
class MemoryFailureStats:
    """``NODE_DATA(nid)->mf_stats``: how many pages of a node came to what; a node that goes keeps them."""

    by_node: dict[int, dict[Result, int]] = field(default_factory=dict)


class Action(NamedTuple):
    """What the kernel does about a page: what it calls it, and what comes of it."""

    page: str
    result: Result


ACTIONS = {
    Use.FREE: Action("free buddy page", "Recovered"),
    Use.MOVABLE: Action("dirty LRU page", "Recovered"),
    Use.PINNED: Action("dirty LRU page", "Failed"),
    Use.SECRETMEM: Action("clean unevictable LRU page", "Recovered"),
    Use.GUEST_MEMFD: Action("clean unevictable LRU page", "Failed"),
    Use.HUGETLB: Action("huge page", "Recovered"),
    Use.GIGANTIC: Action("huge page", "Recovered"),
    Use.HUGETLB_FREE: Action("free huge page", "Recovered"),
    Use.GIGANTIC_FREE: Action("free huge page", "Recovered"),
}
"""By the use of a page; of any other the kernel can do nothing but remember that it is bad. Huge pages and others that
can be recovered are anonymous memory: the processes that map them are killed."""

DAX_PAGE = Action("dax page", "Recovered")
ALREADY = Action("already poisoned page", "Failed")
"""Not counted a second time."""
UNHANDLABLE = Action("get hwpoison page", "Ignored")

STAYS = frozenset({Use.BALLOON, Use.BALLOON_FIXED, Use.OFFLINE, Use.SLAB, Use.FROZEN, *HUGE_USES})
"""Uses that a bad page stays in: it is the driver that must let go of it, or all of the compound page."""

MF_MUTEX = "mf_mutex"
"""What keeps callers of memory_failure() apart, and nobody else."""

UNBEARABLE = {
    Use.BOOT: "the kernel's own image and data",
    Use.TABLE: "a page table",
    Use.MEMMAP: "struct pages",
}
"""Uses whose loss no machine survives, as the CPU reads them the next moment."""


def memory_failure(k: Kernel, pfn: int) -> None:
    """A page has gone bad: take it out of use, if that can be done, and never use it again.

    A bad page does not keep its memory block online, whoever still uses it. Raises EHWPOISON for a page known to be
    bad, ENXIO outside online memory, EBUSY for one that somebody goes on using, :class:`KernelBug` for one that no
    kernel can do without, or whose struct page goes meanwhile: no lock of hotplug is held. For a device's page see
    :func:`memory_failure_dev_pagemap`.
    """
    with k.hw.locked(MF_MUTEX):
        _memory_failure(k, pfn)


def _memory_failure(k: Kernel, pfn: int) -> None:
    by_valid = k.config.profile.poisoned_page == "valid"
    if by_valid or not pfn_to_online_page(k, pfn):
        pgmap = get_dev_pagemap(k, pfn)
        if pgmap is not None:
            memory_failure_dev_pagemap(k, pfn, pgmap)
            return
    if not (pfn_valid if by_valid else pfn_to_online_page)(k, pfn):
        k.hw.log(f"Memory failure: {pfn:#x}: memory outside kernel control", "err")
        raise KernelError(ENXIO, f"PFN {pfn:#x} is outside kernel control", place=here())
    if by_valid:
        pf_poisoned_check(k, pfn, here())
    else:
        snapshot_page(k, pfn, here())
    owner = k.hw.owners.get(pfn) or UNPLUGGED
    if owner.use in UNBEARABLE:
        raise KernelBug(f"machine check: uncorrected error in {UNBEARABLE[owner.use]}", place=here())
    owner, action = _take_out_of_use(k, pfn)
    if owner.use is Use.FREE and action.result == "Failed":  # it was allocated meanwhile: once more
        k.page_flags.clear_flags(pfn, pfn + 1, PageFlags.HWPOISON)
        owner, action = _take_out_of_use(k, pfn)
    if action is UNHANDLABLE:
        k.hw.log(f"Memory failure: {pfn:#x}: unhandlable page.", "err")
    if owner.use is Use.PINNED:
        k.hw.log(f"Memory failure: {pfn:#x}: {action.page} still referenced by 1 users", "err")
    _action_result(k, pfn, action)
    if action.result != "Recovered":
        text = f"recovery action for {action.page}: {action.result}"
        advice = f"{owner} goes on using the page"
        advice += "" if owner.use in STAYS else ", though its memory block may go offline now"
        raise KernelError(EBUSY, text, place=here(), advice=advice)


def _take_out_of_use(k: Kernel, pfn: int) -> tuple[Owner, Action]:
    """Mark a page as poisoned, and only then look at whose it is and what can be done. EHWPOISON: it was marked."""
    huge = try_memory_failure_hugetlb(k, pfn)
    if huge is not None:
        return huge
    if k.page_flags.test_set_flag(pfn, PageFlags.HWPOISON):
        raise _poisoned_already(k, pfn)
    owner = get_hwpoison_page(k, pfn)
    while not _kept(k, pfn, owner):
        owner = get_hwpoison_page(k, pfn)
    action = _action(owner)
    if owner.use is Use.FREE and not take_pages_off_buddy(k, Span(pfn, pfn + 1), POISONED, here(), isolated=True):
        action = action._replace(result="Failed")
    return owner, action


def _action(owner: Owner) -> Action:
    return UNHANDLABLE if owner.use in HUGE_USES else ACTIONS.get(owner.use, UNHANDLABLE)


def get_hwpoison_page(k: Kernel, pfn: int) -> Owner:
    """Whose a page is, as it is while no free page is in a list of a CPU."""
    with k.hw.locked(PCP_BATCH_HIGH_LOCK):
        return k.hw.owners.get(pfn) or UNPLUGGED


@kernel_function(f"{KERNEL_FILE}:get_hwpoison_page")
def _kept(k: Kernel, pfn: int, owner: Owner) -> bool:
    """Have a page not be freed any more by who uses it, as a reference does; False: it has just been."""
    if owner.use is Use.FREE or owner.use in STAYS:
        return True
    holder = "" if _action(owner).result == "Recovered" else owner.tag or str(owner.use)
    return k.hw.retag_from(pfn, owner, POISONED._replace(tag=holder))


def _poisoned_already(k: Kernel, pfn: int) -> KernelError:
    _action_result(k, pfn, ALREADY)
    return KernelError(EHWPOISON, f"PFN {pfn:#x} is poisoned already", place=here())


def memory_failure_dev_pagemap(k: Kernel, pfn: int, pgmap: DevPagemap) -> None:
    """A page of a device's own has gone bad: whoever maps it is killed.

    Raises ENXIO for what holds the device's struct pages, or is another device's to look after, and EBUSY for a page
    that no process and no file has mapped, which cannot be locked (``fs/dax.c:dax_lock_folio``).
    """
    try:
        if k.config.profile.dax_metadata == "unchecked":
            pf_poisoned_check(k, pfn, "fs/dax.c:dax_lock_page")
        elif not pgmap_pfn_valid(k, pgmap, pfn):
            raise KernelError(ENXIO, "metadata of the device is lost", place=here())
        if pfn - pfn_first(k, pgmap, 0) >= pgmap.pinned:
            raise KernelError(EBUSY, "no file has the page mapped", place=here())
        if pgmap.type in (MemoryType.PRIVATE, MemoryType.COHERENT):
            raise KernelError(ENXIO, "a page of device memory, which its driver must look after", place=here())
        k.page_flags.set_flags(pfn, pfn + 1, PageFlags.HWPOISON)
    except KernelError:
        _action_result(k, pfn, DAX_PAGE._replace(result="Failed"))
        raise
    finally:
        put_dev_pagemap(k, pgmap)
    _action_result(k, pfn, DAX_PAGE)


def try_memory_failure_hugetlb(k: Kernel, pfn: int) -> tuple[Owner, Action] | None:
    """Dissolve a huge page, unmapped first if it is in use, so that only the bad page of it is lost: whose it was, and
    what came of it. None: the page is not part of a huge one. Raises EHWPOISON for one that is known to be bad.
    """
    found = get_huge_page_for_hwpoison(k, pfn, retry=True)
    if found == "retry":
        found = get_huge_page_for_hwpoison(k, pfn, retry=False)
    if found is None:
        return None
    if found == "poisoned":
        raise _poisoned_already(k, pfn)
    if isinstance(found, str):
        return POISONED, UNHANDLABLE
    page, owner = found
    if owner.use in POOLS:
        free_huge_folio(k, page, owner.use, pool=Owner(POOLS[owner.use]))
    action = ACTIONS[owner.use]
    return owner, action if __page_handle_poison(k, pfn) else action._replace(result="Failed")


def get_huge_page_for_hwpoison(
    k: Kernel, pfn: int, *, retry: bool
) -> HugePage | Literal["poisoned", "moved", "retry"] | None:
    """Mark a page of a huge one as poisoned, and have nobody else move that; None: the page is not part of a huge one.

    A huge page that somebody moves or recovers is only marked; with `retry` it is not, so as to look once more. All of
    it is under ``hugetlb_lock``, whatever the page is.
    """
    with k.hw.locked(HUGETLB_LOCK):
        found = hugetlb_folio(k, pfn)
        if found is None:
            return None
        in_use = found.owner.use in POOLS
        moved = in_use and not is_migratable(k, found.page)
        if moved and retry:
            return "retry"
        if k.page_flags.test_set_flag(pfn, PageFlags.HWPOISON):
            return "poisoned"
        if moved:
            return "moved"
        if in_use:
            clear_migratable(k, found.page)
    return found


def __page_handle_poison(k: Kernel, pfn: int) -> bool:
    """Have nobody use a page that is free, of a huge page this page only: whether that could be done.

    A page that is marked as poisoned is put aside when the huge page is dissolved, by whomever that is.
    """
    with nullcontext() if k.config.profile.poison_pcp_lock == "none" else k.hw.locked(PCP_BATCH_HIGH_LOCK):
        return _dissolve_and_take(k, pfn)


def _dissolve_and_take(k: Kernel, pfn: int) -> bool:
    try:
        dissolve_free_hugetlb_folio(k, pfn)
    except KernelError:
        return False
    taken = take_pages_off_buddy(k, Span(pfn, pfn + 1), POISONED, here(), isolated=True)
    return taken or k.hw.owners.get(pfn) == POISONED


def update_per_node_mf_stats(k: Kernel, pfn: int, result: Result) -> None:
    """One page more of its node came to this."""
    zone = k.zone_of(pfn)
    if zone is not None:
        counts = k.statics(MemoryFailureStats).by_node.setdefault(zone.nid, dict.fromkeys(get_args(Result), 0))
        counts[result] += 1


def memory_failure_stats(k: Kernel, nid: int) -> dict[str, int]:
    """What the files of ``nodeN/memory_failure`` show; nothing where kernels have no such folder."""
    if not (k.port.has_memory_failure and k.config.profile.node_poison_counts):
        return {}
    counts = k.statics(MemoryFailureStats).by_node.get(nid, {})
    by_result = {result.lower(): counts.get(result, 0) for result in get_args(Result)}
    return {"total": sum(by_result.values()), **by_result}


def _action_result(k: Kernel, pfn: int, action: Action) -> None:
    if action is not ALREADY:
        num_poisoned_pages_inc(k, pfn)
        if k.config.profile.node_poison_counts:
            update_per_node_mf_stats(k, pfn, action.result)
    k.hw.log(f"Memory failure: {pfn:#x}: recovery action for {action.page}: {action.result}", "err")
