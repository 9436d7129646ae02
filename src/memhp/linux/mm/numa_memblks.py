"""Which node an address belongs to, by what firmware said at boot: mm/numa_memblks.c (first in arch/x86/mm/numa.c)."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.linux.state import Kernel

KERNEL_FILE = "mm/numa_memblks.c"


def memory_add_physaddr_to_nid(k: Kernel, start: int) -> int:
    """The node of boot memory at an address, else that of the first boot memory there is."""
    pfn = start >> k.config.page_shift
    first = next(iter(k.boot_memory)).start
    ref = k.page_zone.get(pfn if pfn in k.boot_memory else first)
    return 0 if ref is None else ref.nid
