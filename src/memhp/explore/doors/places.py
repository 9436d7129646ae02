"""Where in the kernel a step is taken: ``file:function`` of Linux's tree, from the model's functions that are running.

The model's tree is the kernel's, with a few differences that stand in the tables here: files that the model has in
several parts, descents of page tables that architectures share in the model and have each for themselves in the
kernel (a function for each level there), and functions that go by another name. A private function of the model is
part of the public one that called it.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import sys
from functools import cache
from types import CodeType, FrameType
from typing import NamedTuple

from memhp.hw.tlb import Table

NOWHERE = "hw"
"""The place of a step that is in no function of the kernel."""
ByHeight = tuple[str, ...]
"""``file:function`` by the height of the table that is looked at, from 0 (PTE) on; the last also for those above."""

FILES = (
    ("mm/memory_hotplug", "mm/memory_hotplug.c"),
    ("mm/sparse_vmemmap", "mm/sparse-vmemmap.c"),
    ("mm/compound_vmemmap", "mm/sparse-vmemmap.c"),
    ("mm/vmemmap_alloc", "mm/sparse-vmemmap.c"),
    ("mm/vmap", "mm/vmalloc.c"),
    ("mm/rmqueue", "mm/page_alloc.c"),
    ("mm/alloc_contig", "mm/page_alloc.c"),
    ("mm/watermarks", "mm/page_alloc.c"),
    ("mm/dev_pagemap", "mm/memremap.c"),
    ("drivers/base/memory", "drivers/base/memory.c"),
    ("drivers/base/block_size", "drivers/base/memory.c"),
    ("drivers/base/notify", "drivers/base/memory.c"),
    ("drivers/virtio/virtio_mem", "drivers/virtio/virtio_mem.c"),
    ("lib/percpu_refcount", "include/linux/percpu-refcount.h"),
    ("kernel/rcu", "kernel/rcu/tree.c"),
    ("arch/arm64/mm/memory_remove", "arch/arm64/mm/mmu.c"),
    ("arch/arm64/mm/huge_vmap", "arch/arm64/mm/mmu.c"),
    ("arch/arm64/mm/split_kernel_leaf", "arch/arm64/mm/mmu.c"),
    ("arch/x86/mm/vmemmap_sub_pmd", "arch/x86/mm/init_64.c"),
)
"""Starts of the names of model files, and the kernel file that they are parts of; the others have the same name."""

NO_PLACE = frozenset({
    "mm/pgtable_remove.py", "mm/pgtable_populate.py", "mm/pgd.py", "mm/pgalloc.py", "mm/access.py",
    "mm/util.py", "drivers/virtio/virtio_mem_shared.py",
})  # fmt: skip
"""What architectures share in the model and not in the kernel, and what the kernel writes out where it is used: the
place is that of the caller."""


def _levels(file: str, *functions: str) -> ByHeight:
    return tuple(f"{file}:{function}" for function in functions)


LEVELS = ("pte", "pmd", "pud", "p4d", "pgd")
VMEMMAP = _levels("mm/sparse-vmemmap.c", *(f"vmemmap_{level}_populate" for level in LEVELS))
PAGEWALK = _levels("mm/pagewalk.c", *(f"walk_{level}_range" for level in LEVELS))
VUNMAP = _levels("mm/vmalloc.c", *(f"vunmap_{level}_range" for level in LEVELS[:4]),
                 "vunmap_range_noflush")  # fmt: skip
VMAP = _levels("mm/vmalloc.c", *(f"vmap_{level}_range" for level in LEVELS[:4]), "vmap_range_noflush")
SMALL_VMAP = _levels("mm/vmalloc.c", *(f"vmap_pages_{level}_range" for level in LEVELS[:4]),
                     "vmap_small_pages_range_noflush")  # fmt: skip
TRY_HUGE = _levels("mm/vmalloc.c", "vmap_pte_range", "vmap_try_huge_pmd", "vmap_try_huge_pud", "vmap_try_huge_p4d")
ARM64_PAGEATTR = _levels("arch/arm64/mm/pageattr.c", *(f"pageattr_{level}_entry" for level in LEVELS[:3]))
ALLOC = _levels("mm/memory.c", "__pte_alloc_kernel", "__pte_alloc_kernel", "__pmd_alloc", "__pud_alloc", "__p4d_alloc")

FUNCTIONS: dict[tuple[str, str], str | ByHeight] = {
    ("mm/page_alloc.py", "alloc_pages"): "mm/page_alloc.c:rmqueue_buddy",
    ("mm/rmqueue.py", "rmqueue"): "mm/page_alloc.c:rmqueue_buddy",
    ("mm/rmqueue.py", "put_free"): (),
    ("mm/page_alloc.py", "free_pages"): "mm/page_alloc.c:free_one_page",
    ("mm/page_alloc.py", "free_reserved"): "mm/page_alloc.c:free_one_page",
    ("mm/page_alloc.py", "free_pages_core"): "mm/page_alloc.c:__free_pages_core",
    ("mm/alloc_contig.py", "alloc_contig_range"): "mm/page_alloc.c:alloc_contig_range_noprof",
    ("mm/memory_hotplug_offline.py", "__offline_isolated_pages"): "mm/page_alloc.c:__offline_isolated_pages",
    ("mm/pagewalk.py", "_walk"): PAGEWALK,
    ("mm/pagewalk.py", "expect_table"): (),
    ("mm/ptdump.py", "walk_range"): PAGEWALK,
    ("mm/sparse.py", "pfn_valid"): "include/linux/mmzone.h:pfn_valid",
    ("mm/sparse.py", "pfn_section_valid"): "include/linux/mmzone.h:pfn_section_valid",
    ("mm/sparse.py", "pfn_to_online_page"): "mm/memory_hotplug.c:pfn_to_online_page",
    ("mm/sparse_vmemmap.py", "vmemmap_tables"): VMEMMAP,
    ("mm/memremap.py", "wait_for_references"): "mm/memremap.c:memunmap_pages",
    ("mm/memremap.py", "unpin_pages"): "mm/gup.c:unpin_user_page",
    ("mm/vmalloc.py", "vmalloc"): "mm/vmalloc.c:alloc_vmap_area",
    ("mm/vmalloc.py", "vmalloc_huge"): "mm/vmalloc.c:alloc_vmap_area",
    ("mm/vmalloc.py", "pcpu_create_chunk"): "mm/vmalloc.c:pcpu_get_vm_areas",
    ("mm/vmalloc.py", "_map_new_pages"): "mm/vmalloc.c:__vmalloc_area_node",
    ("mm/vmap.py", "_ptes"): (),
    ("mm/vmap.py", "_vmap_range"): VMAP,
    ("mm/vmap.py", "_vmap_small"): SMALL_VMAP,
    ("mm/vmap.py", "_try_huge"): TRY_HUGE,
    ("mm/vmap.py", "_vunmap"): VUNMAP,
    ("mm/memory.py", "table_alloc"): ALLOC,
    ("mm/memory.py", "install"): ALLOC,
    ("drivers/base/memory_state.py", "device_online"): "drivers/base/core.c:device_online",
    ("drivers/base/memory_state.py", "device_offline"): "drivers/base/core.c:device_offline",
    ("drivers/base/memory_state.py", "memory_block"): (),
    ("drivers/virtio/virtio_mem_state.py", "mutex_dropped"): (),
    ("explore/cases/memory_block_lookup.py", "read_block"): "drivers/base/memory.c:state_show",
    ("explore/cases/far_dimm.py", "fork_and_use"): "kernel/fork.c:mm_alloc_pgd",
    ("explore/cases/far_dimm.py", "use_page"): "mm/page_alloc.c:rmqueue_buddy",
    ("arch/riscv/mm/init.py", "kernel_access"): "arch/riscv/mm/fault.c:handle_page_fault",
    ("arch/arm64/mm/mmu.py", "kernel_access"): "arch/arm64/mm/fault.c:do_translation_fault",
    ("arch/x86/mm/init_64.py", "kernel_access"): "arch/x86/mm/fault.c:do_kern_addr_fault",
    ("arch/riscv/mm/init.py", "copy_pgd"): "arch/riscv/include/asm/pgalloc.h:pgd_alloc",
    ("arch/arm64/mm/mmu.py", "copy_pgd"): "arch/arm64/mm/pgd.c:pgd_alloc",
    ("arch/x86/mm/init_64.py", "copy_pgd"): "arch/x86/mm/pgtable.c:pgd_alloc",
    ("arch/riscv/mm/init.py", "mem_init"): "arch/riscv/mm/init.c:preallocate_pgd_pages_range",
    ("arch/x86/mm/init_64.py", "mem_init"): "arch/x86/mm/init_64.c:preallocate_vmalloc_pages",
    ("arch/arm64/mm/pageattr.py", "change"): ARM64_PAGEATTR,
    ("arch/arm64/mm/mmu.py", "create_pgd_mapping"): "arch/arm64/mm/mmu.c:__create_pgd_mapping",
    ("arch/arm64/mm/mmu.py", "remove_pgd_mapping"): "arch/arm64/mm/mmu.c:__remove_pgd_mapping",
}
"""Model file and function, and the kernel's place where that is not the same name in the same file; nothing where the
kernel has no function for it: the place is that of the caller."""


class Descent(NamedTuple):
    """An architecture's descents of page tables: who looks at a table, and who at an entry that points to a table.

    `unmap` is where entries are read and leaves cleared, `free` where a table is found empty and unlinked, by the
    height of that table. `leaf` is where leaves are made, `fill` where tables are.
    """

    unmap: ByHeight
    free: ByHeight
    leaf: ByHeight
    fill: ByHeight
    root: str = ""
    """Where entries of the root are filled, when a function of its own does that at whatever height the root is."""


RISCV, ARM64, X86 = "arch/riscv/mm/init.c", "arch/arm64/mm/mmu.c", "arch/x86/mm/init_64.c"
RISCV_CREATE = _levels(RISCV, *(f"create_{level}_mapping" for level in LEVELS))
X86_INIT = _levels(X86, *(f"phys_{level}_init" for level in LEVELS[:4]), "__kernel_physical_mapping_init")

DESCENTS = {
    "arch/riscv/mm/init.py": Descent(
        unmap=_levels(RISCV, *(f"remove_{level}_mapping" for level in LEVELS)),
        free=_levels(RISCV, "free_pte_table", "free_pmd_table", "free_pud_table"),
        leaf=RISCV_CREATE,
        fill=RISCV_CREATE,
        root=f"{RISCV}:create_pgd_mapping",
    ),
    "arch/arm64/mm/mmu.py": Descent(
        unmap=_levels(ARM64, *(f"unmap_hotplug_{level}_range" for level in LEVELS[:4]),
                      "unmap_hotplug_range"),
        free=_levels(ARM64, *(f"free_empty_{level}_table" for level in LEVELS[:4]),
                     "free_empty_tables"),
        leaf=_levels(ARM64, "init_pte", "init_pmd", "alloc_init_pud"),
        fill=_levels(ARM64, "init_pte", "alloc_init_cont_pte", "alloc_init_cont_pmd", "alloc_init_pud",
                     "alloc_init_p4d"),
    ),
    "arch/x86/mm/init_64.py": Descent(
        unmap=_levels(X86, *(f"remove_{level}_table" for level in LEVELS[:4]), "remove_pagetable"),
        free=_levels(X86, "free_pte_table", "free_pmd_table", "free_pud_table"),
        leaf=X86_INIT,
        fill=X86_INIT,
        root=f"{X86}:__kernel_physical_mapping_init",
    ),
}  # fmt: skip
"""By model file: what mm/pgtable_remove.py and mm/pgtable_populate.py stand for there."""


class Part(NamedTuple):
    """A function of the shared descents: which functions of a :class:`Descent` it stands for.

    The functions are those of tables `below` levels under the table that the step looks at, or where it does not look
    at one, under the one in the variable `table`.
    """

    of: str
    table: str = "table"
    below: int = 0


PARTS = {
    ("mm/pgtable_remove.py", "_unmap"): Part("unmap"),
    ("mm/pgtable_remove.py", "_leaves"): Part("unmap"),
    ("mm/pgtable_remove.py", "_children"): Part("unmap"),
    ("mm/pgtable_remove.py", "_child"): Part("free"),
    ("mm/pgtable_remove.py", "_free_tables"): Part("free", "parent", below=1),
    ("mm/pgtable_remove.py", "_free_empty"): Part("free"),
    ("mm/pgtable_populate.py", "_populate"): Part("fill"),
    ("mm/pgtable_populate.py", "_leaves"): Part("leaf"),
    ("mm/pgtable_populate.py", "_one_child"): Part("fill"),
    ("mm/pgtable_populate.py", "_existing_child"): Part("fill"),
    ("mm/pgtable_populate.py", "_link"): Part("fill"),
    ("mm/pgtable_populate.py", "ensure_table"): Part("fill"),
}


@cache
def _function(code: CodeType) -> tuple[str, str] | None:
    """The model file and the function; None for what is neither the model's kernel nor an actor that stands for it."""
    _, found, file = code.co_filename.partition("/memhp/linux/")
    if found:
        return file, code.co_name
    actor = (code.co_filename.rpartition("/memhp/")[2], code.co_name)
    return actor if actor in FUNCTIONS else None


@cache
def kernel_file(file: str) -> str:
    """The kernel's file for a model file (both from the top of the tree on)."""
    for start, name in FILES:
        if file.startswith(start):
            return name
    return file.removesuffix(".py") + (".h" if "/include/" in file else ".c")


def place(target: object = None) -> str:
    """Where in the kernel the caller is: ``mm/memory_hotplug.c:try_remove_memory``.

    `target` is what the step looks at: of a table, its height decides between functions that there are for each level.
    :data:`NOWHERE` for an actor that stands for no function of the kernel in particular.
    """
    frame: FrameType | None = sys._getframe(1)
    part: tuple[Part, int, bool] | None = None
    while frame is not None:
        at = _function(frame.f_code)
        if at is None:
            frame = frame.f_back
            continue
        file, name = at
        if at in PARTS:
            part = part or _part(PARTS[at], frame, target)
        elif file in DESCENTS and part is not None:
            return _in_descent(DESCENTS[file], *part)
        elif at in FUNCTIONS:
            known = FUNCTIONS[at]
            if isinstance(known, str):
                return known
            if known:
                return _at(known, part[1] if part is not None else _height(frame, target, "table"))
        elif (file not in NO_PLACE and name[0] not in "_<") or name.startswith("__"):
            return f"{kernel_file(file)}:{name}"
        frame = frame.f_back
    return NOWHERE


def _part(part: Part, frame: FrameType, target: object) -> tuple[Part, int, bool]:
    """The part of a descent that a frame is in, the height of its table, and whether that is the root."""
    height = _height(frame, target, part.table)
    if part.of != "fill":
        return part, height - part.below, False
    root = frame.f_locals.get("top", frame.f_locals["root"].height if "root" in frame.f_locals else None)
    return part, height, height == root


def _in_descent(descent: Descent, part: Part, height: int, root: bool) -> str:
    return descent.root if root and descent.root else _at(getattr(descent, part.of), height)


def _height(frame: FrameType, target: object, variable: str) -> int:
    table = target if isinstance(target, Table) else frame.f_locals.get(variable, frame.f_locals.get("parent"))
    return table.height if isinstance(table, Table) else 0


def _at(functions: ByHeight, height: int) -> str:
    return functions[min(height, len(functions) - 1)]
