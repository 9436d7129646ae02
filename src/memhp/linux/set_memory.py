"""Changing how the direct map maps single pages: ``include/linux/set_memory.h``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.linux.place import kernel_function
from memhp.linux.state import Kernel


@kernel_function(None)
def set_direct_map_invalid_noflush(k: Kernel, pfn: int) -> None:
    """Take a page out of the direct map; the caller flushes. Raises ENOMEM where a leaf cannot be split for it."""
    k.port.set_direct_map_invalid_noflush(k, pfn)


@kernel_function(None)
def set_direct_map_valid_noflush(k: Kernel, pfn: int, nr: int, *, valid: bool) -> None:
    """Take `nr` pages out of the direct map, or put them back. Raises as for one page."""
    k.port.set_direct_map_valid_noflush(k, pfn, nr, valid=valid)


@kernel_function(None)
def set_direct_map_default_noflush(k: Kernel, pfn: int) -> None:
    """Put a page back into the direct map with its ordinary attributes. Raises as the other one does."""
    k.port.set_direct_map_default_noflush(k, pfn)
