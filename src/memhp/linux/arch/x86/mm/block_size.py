"""x86-64: how large a memory block is: ``memory_block_size_bytes()`` of ``arch/x86/mm/init_64.c``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.linux.arch.x86.choices import x86
from memhp.linux.config import Config
from memhp.linux.drivers.base.block_size import MAX_BLOCK_SIZE, MEM_SIZE_FOR_LARGE_BLOCK
from memhp.units import is_aligned

KERNEL_FILE = "arch/x86/mm/init_64.c"


def probe_memory_block_size(config: Config, boot_mem_end: int) -> int:
    """x86: one section below 64 GiB, the largest that the end of RAM allows in a guest, 2 GiB on bare metal.

    Firmware's advice caps it, where the kernel asks for it; then bare metal too looks at the end of RAM.
    """
    if boot_mem_end < MEM_SIZE_FOR_LARGE_BLOCK:
        return config.section_size
    size = MAX_BLOCK_SIZE
    if x86(config).block_size_advice and config.memory_block_advice:
        size = max(min(config.memory_block_advice, MAX_BLOCK_SIZE), config.section_size)
    elif not config.hypervisor:
        return size
    while size > config.section_size and not is_aligned(boot_mem_end, size):
        size >>= 1
    return size
