"""``/sys/devices/system/memory/probe``: somebody tells the kernel of memory: drivers/base/memory.c."""
# SPDX-License-Identifier: GPL-2.0-or-later

from errno import EINVAL

from memhp.errors import KernelError
from memhp.linux.mm.memory_hotplug_add import __add_memory
from memhp.linux.mm.numa_memblks import memory_add_physaddr_to_nid
from memhp.linux.place import here
from memhp.linux.state import Kernel
from memhp.units import is_aligned

KERNEL_FILE = "drivers/base/memory.c"


def probe_store(k: Kernel, phys_addr: int) -> None:
    """Add the memory block at a physical address, on the node that firmware named for it at boot.

    Raises EINVAL for an address at which no block begins, and what ``__add_memory()`` raises.
    """
    if not is_aligned(phys_addr, k.memory_block_size):
        raise KernelError(EINVAL, f"no memory block begins at {phys_addr:#x}", place=here())
    with k.hw.locked("device_hotplug_lock"):
        __add_memory(k, memory_add_physaddr_to_nid(k, phys_addr), phys_addr, k.memory_block_size)
