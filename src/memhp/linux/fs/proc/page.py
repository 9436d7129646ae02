"""``/proc/kpagecount`` and its like, whose readers have the kernel look at any struct page: ``fs/proc/page.c``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from contextlib import nullcontext

from memhp.linux.mm.sparse import pfn_to_online_page, pfn_valid
from memhp.linux.mm.util import pf_poisoned_check, snapshot_page
from memhp.linux.place import here, kernel_function
from memhp.linux.release import between, first
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import align_up

KERNEL_FILE = "fs/proc/page.c"
KPF_NOPAGE = 20
NO_PAGE = first(1 << KPF_NOPAGE), between("6.12", "7.2", 0, "fs/proc/page: refactoring to reduce code duplication")


def kpagecount_read(k: Kernel, pfns: Span) -> int:
    """Read the counts of some pages: how many of them have a struct page that is online. Others read as 0.

    Behind the section in which ``max_pfn`` lies the file ends.

    No kernel keeps hotplug out meanwhile; with ``Profile.pfn_walk_lock`` it holds ``get_online_mems()`` for each page.
    Raises :class:`KernelBug` when a struct page is not there any more.
    """
    kept_out = k.config.profile.pfn_walk_lock == "mem_hotplug_lock"
    online = 0
    end = min(pfns.end, align_up(k.max_pfn, k.config.pages_per_section))
    for pfn in range(pfns.start, end):
        with k.hw.locked("mem_hotplug_lock", write=False) if kept_out else nullcontext():
            if k.config.profile.proc_page == "valid":
                if pfn_valid(k, pfn):
                    pf_poisoned_check(k, pfn, here())
                    online += 1
            elif pfn_to_online_page(k, pfn):
                snapshot_page(k, pfn, here())
                online += 1
    return online


@kernel_function("fs/proc/page.c:kpageflags_read")
def flags_of_no_page(k: Kernel) -> int:
    """What ``/proc/kpageflags`` has for a page that is not online: a flag of its own, or none, as others have."""
    flags: int = k.config.value_since(NO_PAGE)
    return flags
