"""What each of the kernel's locks is, as it is defined in the file that has it."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Mapping
from types import MappingProxyType

from memhp.hw.locks import LockKind

LOCK_KINDS: Mapping[str, LockKind] = MappingProxyType({
    "lock": LockKind.SPIN,  # struct zone, struct dmirror_device; setup_per_zone_wmarks(), __build_all_zonelists()
    "page_table_lock": LockKind.SPIN,  # struct mm_struct
    "pgd_lock": LockKind.SPIN,  # arch/x86/mm/fault.c
    "cpa_lock": LockKind.SPIN,  # arch/x86/mm/pat/set_memory.c
    "swapper_pgdir_lock": LockKind.SPIN,  # arch/arm64/mm/mmu.c
    "free_vmap_area_lock": LockKind.SPIN,  # mm/vmalloc.c
    "hugetlb_lock": LockKind.SPIN,  # mm/hugetlb.c
    "percpu_ref_switch_lock": LockKind.SPIN,  # lib/percpu-refcount.c
    "map_entries_lock": LockKind.SPIN,  # drivers/firmware/memmap.c
    "removal_lock": LockKind.SPIN,  # struct virtio_mem
    "ha_lock": LockKind.SPIN,  # drivers/hv/hv_balloon.c
    "ptl": LockKind.SPIN,  # of a page table: struct ptdesc
    "zonelist_update_seq": LockKind.SEQ,  # mm/page_alloc.c
    "resource_lock": LockKind.RWLOCK,  # kernel/resource.c
    "fixmap_lock": LockKind.MUTEX,  # arch/arm64/mm/mmu.c
    "pgtable_split_lock": LockKind.MUTEX,  # arch/arm64/mm/mmu.c
    "pcp_batch_high_lock": LockKind.MUTEX,  # mm/page_alloc.c
    "pcpu_drain_mutex": LockKind.MUTEX,  # mm/page_alloc.c
    "pcp_lock": LockKind.SPIN,  # struct per_cpu_pages
    "khugepaged_mutex": LockKind.MUTEX,  # mm/khugepaged.c
    "online_page_callback_lock": LockKind.MUTEX,  # mm/memory_hotplug.c
    "mf_mutex": LockKind.MUTEX,  # mm/memory-failure.c
    "device_lock": LockKind.MUTEX,  # struct device
    "device_hotplug_lock": LockKind.MUTEX,  # drivers/base/core.c
    "dpm_list_mtx": LockKind.MUTEX,  # drivers/base/power/main.c
    "list_lock": LockKind.MUTEX,  # drivers/xen/unpopulated-alloc.c
    "balloon_mutex": LockKind.MUTEX,  # drivers/xen/balloon.c
    "devmem_lock": LockKind.MUTEX,  # lib/test_hmm.c
    "acpi_scan_lock": LockKind.MUTEX,  # drivers/acpi/scan.c
    "hotplug_mutex": LockKind.MUTEX,  # struct virtio_mem
    "virtio_mem_mutex": LockKind.MUTEX,  # drivers/virtio/virtio_mem.c
    "mmap_lock": LockKind.RWSEM,  # struct mm_struct
    "invalidate_lock": LockKind.RWSEM,  # struct address_space
    "rwsem": LockKind.RWSEM,  # struct blocking_notifier_head
    "dax_region_rwsem": LockKind.RWSEM,  # drivers/dax/bus.c
    "dax_dev_rwsem": LockKind.RWSEM,  # drivers/dax/bus.c
    "mem_hotplug_lock": LockKind.PERCPU_RWSEM,  # mm/memory_hotplug.c
    "cpu_hotplug_lock": LockKind.PERCPU_RWSEM,  # kernel/cpu.c
})  # fmt: skip
"""By the last part of the name under which a lock is taken: ``zone0/Normal.lock`` is a ``lock``."""


def lock_kind(name: str) -> LockKind:
    """The kind of a lock, by the name under which it is taken; of one that is no kernel's nothing is known."""
    return LOCK_KINDS.get(name.rpartition(".")[2], LockKind.UNKNOWN)
