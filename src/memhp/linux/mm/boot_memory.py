"""Boot memory that may not go offline: what a port refuses by a notifier of its own, and by a repair every port."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.linux.drivers.base.notify import register_memory_notifier
from memhp.linux.mm.sparse import early_section
from memhp.linux.place import kernel_function
from memhp.linux.state import Kernel

KERNEL_FILE = "mm/memory_hotplug.c"
ACTIONS = ("MEM_GOING_OFFLINE", "MEM_OFFLINE")


@kernel_function(None)
def keep_boot_memory_online(k: Kernel) -> None:
    """Register the notifier in a kernel that is so repaired (``Profile.bootmem_offline``)."""
    if k.config.profile.bootmem_offline == "refused":
        register_memory_notifier(k, prevent_bootmem_remove_notifier)


@kernel_function(None)
def prevent_bootmem_remove_notifier(k: Kernel, action: str, start_pfn: int, nr_pages: int) -> str:
    """Why the pages may not go offline, or nothing: the kernel does not heed an answer once they have gone."""
    if action not in ACTIONS:
        return ""
    per = k.config.pages_per_section
    for pfn in range(start_pfn, start_pfn + nr_pages, per):
        if early_section(k, pfn):
            start = pfn << k.config.page_shift
            span = f"Boot memory [{start:x} {start + k.config.section_size:x}]"
            if action == "MEM_OFFLINE":
                k.hw.log(f"{span} offlined", "err")
                return ""
            k.hw.log(f"{span} offlining attempted", "warn")
            return f"{span} offlining attempted"
    return ""
