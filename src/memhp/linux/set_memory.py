"""Changing how the direct map maps single pages: ``include/linux/set_memory.h``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.linux.arch.arm64.mm import pageattr as arm64
from memhp.linux.arch.riscv.mm import pageattr as riscv
from memhp.linux.arch.x86.mm.pat import set_memory as x86
from memhp.linux.state import Kernel

INVALID = {
    "riscv64": riscv.set_direct_map_invalid_noflush,
    "arm64": arm64.set_direct_map_invalid_noflush,
    "x86_64": x86.set_direct_map_invalid_noflush,
}
DEFAULT = {
    "riscv64": riscv.set_direct_map_default_noflush,
    "arm64": arm64.set_direct_map_default_noflush,
    "x86_64": x86.set_direct_map_default_noflush,
}


def set_direct_map_invalid_noflush(k: Kernel, pfn: int) -> None:
    """Take a page out of the direct map; the caller flushes. Raises ENOMEM where a leaf cannot be split for it."""
    INVALID[k.config.arch](k, pfn)


def set_direct_map_default_noflush(k: Kernel, pfn: int) -> None:
    """Put a page back into the direct map with its ordinary attributes. Raises as the other one does."""
    DEFAULT[k.config.arch](k, pfn)
