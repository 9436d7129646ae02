"""Looking at a struct page that nothing holds: ``mm/util.c``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.errors import KernelBug
from memhp.hw.lifetime import read_memory
from memhp.hw.memory import Use
from memhp.linux.place import kernel_function
from memhp.linux.state import Kernel
from memhp.spans import Span


@kernel_function(None)
def pf_poisoned_check(k: Kernel, pfn: int, place: str) -> None:
    """Somebody reads flags of the struct page of `pfn`: ``PF_POISONED_CHECK()`` of include/linux/page-flags.h.

    Raises :class:`KernelBug` for one that was never initialised. A kernel without DEBUG_VM_PGFLAGS takes what was in
    that memory for a node, a zone and a mapping, and follows it.
    """
    if k.page_zone.get(pfn) is None:
        raise KernelBug(f"the struct page of PFN {pfn:#x} is read, which was never initialised", place=place)


@kernel_function(None)
def end_of_memory_grows(k: Kernel, end_pfn: int) -> None:
    """``max_pfn`` is `end_pfn` at least: the highest struct page that ``fs/proc/page.c`` shows is before it."""
    if end_pfn > k.max_pfn:
        set_end_of_memory(k, end_pfn)


@kernel_function(None)
def set_end_of_memory(k: Kernel, end_pfn: int) -> None:
    """``max_pfn`` is `end_pfn` from now on, whatever it was."""
    k.max_pfn = end_pfn


@kernel_function(None)
def snapshot_page(k: Kernel, pfn: int, place: str) -> None:
    """Read the struct page of `pfn` for the function `place`, through its mapping in the vmemmap.

    Kernels before ``snapshot_page()`` read it field by field, here it is one read. Raises :class:`KernelBug`, the oops,
    when nothing maps it.
    """
    va = k.layout.pfn_to_page(pfn)
    if not read_memory(k.hw, k.init_mm, Span(va, va + k.config.struct_page_size), Use.MEMMAP, place):
        raise KernelBug(f"oops at {va:#x}: nothing maps the struct page of PFN {pfn:#x}", place=place)
