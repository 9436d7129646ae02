"""Looking at a struct page that nothing holds: ``mm/util.c``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.errors import KernelBug
from memhp.hw.lifetime import read_memory
from memhp.hw.memory import Use
from memhp.linux.state import Kernel
from memhp.spans import Span


def snapshot_page(k: Kernel, pfn: int, place: str) -> None:
    """Read the struct page of `pfn` for the function `place`, through its mapping in the vmemmap.

    Kernels before ``snapshot_page()`` read it field by field, here it is one read. Raises :class:`KernelBug`, the oops,
    when nothing maps it.
    """
    va = k.layout.pfn_to_page(pfn)
    if not read_memory(k.hw, k.init_mm, Span(va, va + k.config.struct_page_size), Use.MEMMAP, place):
        raise KernelBug(f"oops at {va:#x}: nothing maps the struct page of PFN {pfn:#x}", place=place)
