"""How large a memory block is: ``memory_block_size_bytes()`` of drivers/base/memory.c, and what overrides it."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.linux.config import Config
from memhp.units import GiB

KERNEL_FILE = "drivers/base/memory.c"
MAX_BLOCK_SIZE = 2 * GiB
"""The largest that any architecture has (x86)."""
MEM_SIZE_FOR_LARGE_BLOCK = 64 * GiB
"""From here on machines may have larger blocks (x86)."""


def memory_block_size_bytes(config: Config, boot_mem_end: int) -> int:
    """Bytes of a memory block on a machine whose RAM ends at physical address `boot_mem_end` when it boots.

    This is also the least that can be hot-added: ``check_hotplug_memory_range()`` wants start and size aligned to it.
    """
    return config.port.memory_block_size_bytes(config, boot_mem_end)
