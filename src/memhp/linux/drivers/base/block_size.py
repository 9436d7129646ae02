"""How large a memory block is: one section, but for x86 machines with much RAM.

``memory_block_size_bytes()`` of drivers/base/memory.c and its override in arch/x86/mm/init_64.c.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.linux.config import Config
from memhp.units import GiB, is_aligned

MAX_BLOCK_SIZE = 2 * GiB
MEM_SIZE_FOR_LARGE_BLOCK = 64 * GiB


def memory_block_size_bytes(config: Config, boot_mem_end: int) -> int:
    """Bytes of a memory block on a machine whose RAM ends at physical address `boot_mem_end` when it boots.

    This is also the least that can be hot-added: ``check_hotplug_memory_range()`` wants start and size aligned to it.
    """
    if config.arch == "x86_64":
        return probe_memory_block_size(config, boot_mem_end)
    return config.section_size


def probe_memory_block_size(config: Config, boot_mem_end: int) -> int:
    """x86: one section below 64 GiB, the largest that the end of RAM allows in a guest, 2 GiB on bare metal.

    Firmware's advice caps it, where the kernel asks for it; then bare metal too looks at the end of RAM.
    """
    if boot_mem_end < MEM_SIZE_FOR_LARGE_BLOCK:
        return config.section_size
    size = MAX_BLOCK_SIZE
    if config.x86.block_size_advice and config.memory_block_advice:
        size = max(min(config.memory_block_advice, MAX_BLOCK_SIZE), config.section_size)
    elif not config.hypervisor:
        return size
    while size > config.section_size and not is_aligned(boot_mem_end, size):
        size >>= 1
    return size
