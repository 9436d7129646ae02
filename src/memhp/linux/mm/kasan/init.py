"""The shadow of memory that KASAN does not watch: one page of zeroes, mapped again and again: ``mm/kasan/init.c``.

A byte of shadow stands for eight of memory, and zero says that they may be used. The direct map of pages that no
allocator hands out, such as a block's own struct pages and a device's memory, gets this shadow when it comes and loses
it when it goes. Where the kernel lets whole tables of zeroes be shared, from 16 MiB of memory on with 4K pages, here
each has one of its own. The shadow of boot memory, which kasan_init() makes, is not there; but the tables that root
entries point to stay as if it were. Sizes and addresses are bytes.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from errno import EINVAL, ENOMEM
from functools import partial

from memhp.errors import KernelError
from memhp.hw.memory import Use
from memhp.linux.config import Config
from memhp.linux.kernel.panic import warn
from memhp.linux.mm.pgalloc import alloc_tables, free_tables
from memhp.linux.mm.pgtable_populate import Builder, populate
from memhp.linux.mm.pgtable_remove import Remover, gathered, unmap
from memhp.linux.place import Descent, by_height, here, of_file
from memhp.linux.state import Kernel
from memhp.spans import Span

KERNEL_FILE = "mm/kasan/init.c"
KASAN_SHADOW_SCALE_SHIFT = 3
POPULATE = by_height(
    KERNEL_FILE, "zero_pte_populate", "zero_pmd_populate", "zero_pud_populate", "zero_p4d_populate",
    "kasan_populate_early_shadow",
)  # fmt: skip
REMOVE = by_height(
    KERNEL_FILE, "kasan_remove_pte_table", "kasan_remove_pmd_table", "kasan_remove_pud_table",
    "kasan_remove_p4d_table", "kasan_remove_zero_shadow",
)  # fmt: skip
FREE = by_height(KERNEL_FILE, "kasan_free_pte", "kasan_free_pmd", "kasan_free_pud", "kasan_free_p4d")


@of_file("include/linux/kasan.h")
def kasan_mem_to_shadow(k: Kernel, va: int) -> int:
    """The address of the shadow of the byte at `va` (include/linux/kasan.h)."""
    area = k.layout.kasan
    assert area is not None
    return area.end - ((1 << 64) - va >> KASAN_SHADOW_SCALE_SHIFT)


def kasan_memory_per_shadow_page(config: Config) -> int:
    """Memory of which a page of shadow tells: ``KASAN_MEMORY_PER_SHADOW_PAGE``."""
    return config.page_size << KASAN_SHADOW_SCALE_SHIFT


def kasan_early_shadow_page(k: Kernel) -> int:
    """The PFN of the page of zeroes, which lies in the kernel's image: here the first that boot keeps."""
    return next(start for start, _, owner in k.hw.owners if owner.use is Use.BOOT)


def _shadow(k: Kernel, start: int, size: int) -> Span | None:
    """The shadow of a range of the direct map; None, and a warning, for one that is not whole pages of it."""
    if (start | size) % kasan_memory_per_shadow_page(k.config):
        warn(k, here())
        return None
    first = kasan_mem_to_shadow(k, start)
    return Span(first, first + (size >> KASAN_SHADOW_SCALE_SHIFT))


def kasan_add_zero_shadow(k: Kernel, start: int, size: int) -> None:
    """Say that all of ``[start, start + size)`` may be used. Nothing without KASAN.

    Raises EINVAL for what is not made of whole pages of shadow, ENOMEM for want of a page table, with nothing left.
    """
    if k.layout.kasan is None:
        return
    shadow = _shadow(k, start, size)
    if shadow is None:
        raise KernelError(EINVAL, "not made of whole pages of shadow", place=here())
    try:
        kasan_populate_early_shadow(k, shadow)
    except KernelError:
        kasan_remove_zero_shadow(k, start, size)
        raise


def kasan_populate_early_shadow(k: Kernel, shadow: Span) -> None:
    """Map the page of zeroes at every page of `shadow`. Raises ENOMEM, and leaves what it has mapped by then."""
    how = Builder(
        leaves=frozenset({0}),
        new_table=partial(_early_alloc, k),
        link="before-fill",
        occupied="descend",
        table_bits=k.port.vmemmap_builder(k).table_bits,
        root=k.port.vmemmap_builder(k).root,
        names=Descent(leaf=POPULATE, fill=POPULATE),
        where=f"{KERNEL_FILE}:zero_pte_populate",
    )
    zeroes, prot, step = kasan_early_shadow_page(k), k.port.page_kernel(k), k.config.page_size
    for va in range(*shadow, step):
        populate(k.hw, k.init_mm, va, va + step, zeroes, prot, how)


def _early_alloc(k: Kernel, height: int, count: int) -> list[Span]:
    frames = alloc_tables(k, height, count, POPULATE[height + 1])
    if not frames:
        raise KernelError(ENOMEM, "no memory for a table of shadow", place=POPULATE[height + 1])
    return frames


def kasan_remove_zero_shadow(k: Kernel, start: int, size: int) -> None:
    """Unmap the zeroes of ``[start, start + size)``, and free tables that hold nothing else. Nothing without KASAN.

    A table is freed, then its entry is cleared; no TLB is flushed, before or after: ``Profile.kasan_table_freed``.
    """
    if k.layout.kasan is None:
        return
    shadow = _shadow(k, start, size)
    if shadow is None:
        return
    how = Remover(
        free_table=lambda frames, _: free_tables(k, frames, FREE[0]),
        root=k.port.vmemmap_builder(k).root,
        names=Descent(unmap=REMOVE, free=FREE),
        where=f"{KERNEL_FILE}:kasan_remove_zero_shadow",
    )
    flushed = k.config.profile.kasan_table_freed == "after-flush"
    how, free_gathered = gathered(k.hw, how, storage_late=False, tables_late=flushed)
    unmap(k.hw, k.init_mm, *shadow, how)
    if flushed:
        k.port.flush_tlb_all(k)
        free_gathered()
