"""arm64: what the laws know of its page tables: what a leaf for kernel data says, which tables removal leaves."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.linux.arch.arm64.choices import arm64
from memhp.linux.arch.arm64.include.asm.pgtable_prot import MT_NORMAL, MT_NORMAL_TAGGED
from memhp.linux.areas import Area
from memhp.linux.config import Config
from memhp.linux.layout import Layout
from memhp.linux.port import WRITABLE, LeafRule
from memhp.spans import Span

KERNEL_DATA = (
    LeafRule(WRITABLE, "AP", (0, 1)),
    LeafRule("open to user space", "AP", (0, 2)),
    LeafRule("executable", "PXN", (1,)),
    LeafRule("executable by user space", "UXN", (1,)),
    LeafRule("without access flag", "AF", (1,)),
    LeafRule("not inner shareable", "SH", (3,)),
)
"""Whatever the kernel's version. AP forbids the kernel to write in its upper bit, AP[2], and lets user space in with
its lower, AP[1]."""


def kernel_data_rules(config: Config) -> tuple[LeafRule, ...]:
    """The rules for a kernel: which number Normal memory has in MAIR_EL1 depends on its version."""
    version = arm64(config).kernel_prot
    normal = (MT_NORMAL[version],) if version == "5.2" else (MT_NORMAL[version], MT_NORMAL_TAGGED)
    return (*KERNEL_DATA, LeafRule("not Normal memory", "AttrIndx", normal, memory_type=True))


def table_may_stay(layout: Layout, area: Area, height: int, va: int) -> bool:
    """Tables of the vmemmap where ``free_empty_tables`` says so, and what reaches outside of the area.

    ``free_empty_pte_table()`` of arch/arm64/mm/mmu.c and its kin, with their floor and ceiling.
    """
    config = layout.config
    policy = arm64(config).free_empty_tables
    if area.name == layout.vmemmap.name and (
        policy == "never" or (policy == "if-no-vmalloc-overlap" and layout.vmalloc_vmemmap_overlap)
    ):
        return True
    level = config.format.levels[height]
    return not area.span.covers(Span(va, va + (level.entries << level.shift)))
