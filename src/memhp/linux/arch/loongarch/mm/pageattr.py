"""LoongArch: attributes of single pages of the direct map: ``arch/loongarch/mm/pageattr.c``.

Below ``vm_map_base`` there are no page tables to change, and memory is reached through the window below it: all of
these succeed and do nothing.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.linux.state import Kernel

KERNEL_FILE = "arch/loongarch/mm/pageattr.c"


def set_direct_map_invalid_noflush(k: Kernel, pfn: int) -> None:
    """Nothing: the window shows the page as before."""


def set_direct_map_default_noflush(k: Kernel, pfn: int) -> None:
    """Nothing."""
