"""The page-table dump's walk: ``mm/ptdump.c:ptdump_walk_pgd`` and below it ``mm/pagewalk.c:walk_pgd_range``.

What it prints is read from entries in :mod:`memhp.facts`; here is how it gets at them while the machine runs.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from contextlib import nullcontext

from memhp.hw.tlb import Table
from memhp.linux.mm.pagewalk import PAGEWALK
from memhp.linux.mm.vmap import MMAP_LOCK
from memhp.linux.place import each_level
from memhp.linux.state import Kernel
from memhp.spans import Span

KERNEL_FILE = "mm/ptdump.c"


def ptdump_walk_pgd(k: Kernel, *ranges: Span) -> int:
    """Walk the kernel's page tables over `ranges` (bytes), one after the other; how many entries were shown.

    Hotplug is kept out by ``get_online_mems()`` where the kernel does so (``ArchProfile.ptdump_lock``), and whoever
    takes init_mm's mmap lock by that (``Profile.ptdump_mmap_lock``). The kernel reads an entry up to three times
    (``ptdump_pmd_entry()``, ``pmd_leaf()``, ``pte_offset_kernel()``), here it is read once.
    """
    kept_out = k.config.choices.ptdump_lock == "mem_hotplug_lock"
    lock = k.config.profile.ptdump_mmap_lock
    with (
        k.hw.locked("mem_hotplug_lock", write=False) if kept_out else nullcontext(),
        nullcontext() if lock == "none" else k.hw.locked(MMAP_LOCK, write=lock == "write"),
    ):
        return sum(walk_range(k, k.init_mm, span) for span in ranges)


@each_level(PAGEWALK)
def walk_range(k: Kernel, table: Table, span: Span) -> int:
    """Entries of one table and below it, one after the other; tables are descended into as they are met."""
    hw = k.hw
    size = hw.fmt.levels[table.height].size
    first = (span.start - table.va) // size
    last = -(-(span.end - table.va) // size)
    shown = 0
    for at, n in hw.batches(first, last):
        for index, entry in enumerate(hw.load_run(table, at, n).tolist(), at):
            if table.height == 0 or not hw.fmt.is_table(entry, table.height):
                shown += 1
                continue
            start = table.va + index * size
            child = hw.child(table, index, hw.fmt.table_pfn(entry))
            shown += walk_range(k, child, Span(max(span.start, start), min(span.end, start + size)))
    return shown
