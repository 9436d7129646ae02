"""Pairs of statements of the model that stand in the order in which the kernel has them, for a reason: bench/orders.py.

What comes in another order in some kernel is a choice, and races decide it: struct pages' storage and tables freed
before their entries are cleared or flushed (free-before-flush), usage maps of sections (pfn-valid-vs-remove), the
mapping of a device (pagemap-lookup-vs-unmap), root tables entered in the list before or after the copy
(pgd-sync-new-process), and memblock (memblock-order). A new table of the direct map is linked before it is filled or
after, as the architecture and the release have it: what is not mapped yet is nobody's.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from typing import NamedTuple

from memhp.explore.order_swap import Order


class Sort(NamedTuple):
    """Orders of one sort."""

    name: str
    orders: tuple[Order, ...]


ORDERS = (
    Sort(
        "free after flush",
        (
            Order("mm.vmalloc", "vfree", "k.port.flush_tlb_kernel_range(", "free_pages("),
            Order("mm.vmalloc", "vfree", "vunmap_range_noflush(", "k.port.flush_tlb_kernel_range("),
            Order("mm.pgtable_remove", "_leaves", "with entry_lock(", "if how.free_storage is not None and"),
            Order("mm.pgtable_remove", "_free_tables", "with entry_lock(", "if how.table != 'free-then-clear'"),
            Order("mm.pgtable_remove", "_free_tables", "if how.table_flush", "how.free_table("),
            Order("arch.riscv.mm.init", "remove_pgd_mapping", "if record.end_flush", "free_gathered("),
            Order("arch.riscv.mm.pgtable", "_unlink", "_detach(", "_free("),
            Order("arch.riscv.mm.pgtable", "pud_free_pmd_page", "_detach(", "for at, n in"),
            Order("arch.arm64.mm.huge_vmap", "_free", "hw.flush_plan(", "free_tables("),
            Order("arch.x86.mm.pgtable", "pmd_free_pte_page", "_detach(", "_free("),
        ),
    ),
    Sort(
        "free after the last reader",
        (
            Order("mm.memremap", "_pgmap_array_delete", "k.statics(Memremap)", "synchronize_rcu("),
            Order("mm.memremap", "devm_memremap_pages_release", "memunmap_pages(", "kfree("),
            Order("mm.memremap", "memunmap_pages", "if drain == 'kill-and-wait'", "for range_id"),
            Order("mm.memremap", "memunmap_pages", "if drain != 'none'", "if drain == 'kill-and-wait'"),
            Order("mm.sparse", "section_deactivate", "if empty:", "if freed == 'freed-after"),
            Order(
                "drivers.virtio.virtio_mem_fake_offline", "unregister_virtio_mem_device", "with k", "synchronize_rcu("
            ),
            Order("drivers.pci.p2pdma", "pci_p2pdma_release", "p2pdma = ", "synchronize_rcu("),
            Order("drivers.pci.p2pdma", "pci_p2pdma_release", "synchronize_rcu(", "gen_pool_destroy("),
            Order("drivers.pci.p2pdma", "devres_release_all", "devm_memremap_pages_release(", "pci_p2pdma_release("),
            Order("drivers.virtio.virtio_mem", "virtio_mem_remove", "cancel_work_sync(", "kfree("),
            Order("drivers.virtio.virtio_mem", "virtio_mem_remove", "unregister_memory_notifier(", "kfree("),
            Order("drivers.pci.p2pdma", "pci_p2pdma_unmap_mappings", "kernfs_drain(", "for pfn in"),
            Order("drivers.base.memory_devices", "remove_memory_block", "k.memory_blocks.withdraw(", "unregister_"),
        ),
    ),
    Sort(
        "publish after initialise",
        (
            Order("mm.sparse", "sparse_add_section", "section_activate(", "for gap in"),
            Order("mm.memory_hotplug_add", "_add_blocks", "k.port.arch_add_memory(", "try:"),
            Order("mm.memory_hotplug_online", "online_pages_range", "online_page(", "online_mem_sections("),
            Order("mm.memory_hotplug_online", "online_pages", "move_pfn_range_to_zone(", "online_pages_range("),
            Order("arch.riscv.mm.pageattr", "_split_leaf", "hw.fill_children(", "hw.store("),
            Order("arch.x86.mm.pat.set_memory", "_split_large_page", "hw.fill_children(", "hw.store("),
            Order("arch.arm64.mm.split_kernel_leaf", "_split_leaf", "hw.store_children(", "hw.store("),
            Order("mm.pgd", "pgd_ctor", "for at, n in parts", "k.pgd[root.mm] = root"),
            Order("mm.memory_hotplug_add", "_add_under_lock", "try:", "register_memory_blocks_under_node("),
        ),
    ),
    Sort(
        "take back before what it rests on goes",
        (
            Order("mm.memory_hotplug_remove", "try_remove_memory", "if not early", "k.port.arch_remove_memory("),
            Order("mm.memremap", "_pageunmap_range", "remove_pfn_range_from_zone(", "if pgmap.type"),
        ),
    ),
    Sort(
        "get before use, put after it",
        (
            Order("mm.memremap", "pin_pages", "snapshot_page(", "put_dev_pagemap("),
            Order("mm.memremap", "pin_pages", "pgmap.pinned += nr", "put_dev_pagemap("),
            Order("mm.memremap", "unpin_pages", "snapshot_page(", "_put_pins("),
            Order("drivers.base.memory_lookup", "_count_for_block", "use_object(", "if k.config.profile.poison_"),
            Order("fs.kernfs.file", "kernfs_fop_write_iter", "if not kernfs_get_active(", "try:"),
            Order("fs.kernfs.file", "kernfs_fop_mmap", "if not kernfs_get_active(", "try:"),
            Order("mm.memremap", "_pagemap_range", "_check_range(", "k.statics(Memremap).pgmap_array.set("),
        ),
    ),
)
