"""Where a kernel maps its memory and its struct pages: what laws about real page tables need of an address space.

A modelled architecture's :class:`~memhp.linux.layout.Layout` tells all of it; of one whose tables are read and no more,
the notes of a dump do. Addresses are bytes.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Sequence
from dataclasses import dataclass

from memhp.hw.unchanging import Unchanging
from memhp.linux.addresses import ADDRESS_MASK, SUBSECTION_SHIFT
from memhp.linux.port import LeafRule
from memhp.spans import Span


@dataclass(frozen=True)
class MemoryMaps(Unchanging):
    """One kernel's direct map and vmemmap."""

    page_shift: int
    section_size: int
    direct_map: Span
    """Addresses; nothing where hardware reaches memory through a window, without page tables."""
    direct_map_base: int
    """The address of physical byte 0, even if it lies outside."""
    vmemmap: Span
    """All addresses that are set aside for struct pages, and the part that memory in reach of the direct map has."""
    vmemmap_usable: Span
    vmemmap_base: int
    """The address of PFN 0's struct page, even if it lies outside."""
    struct_page_size: int
    memmap_leaf: int
    """The size of the largest leaves that map struct pages."""
    data_rules: Sequence[LeafRule]
    """What a leaf for kernel data says."""
    always_mapped: tuple[Span, ...] = ()
    """Physical bytes that the direct map holds whatever is there."""
    set_apart: tuple[Span, ...] = ()
    """Physical bytes whose place in the direct map may hold something else, with rights of its own."""

    @property
    def subsection_pages(self) -> int:
        """``PAGES_PER_SUBSECTION``."""
        return 1 << (SUBSECTION_SHIFT - self.page_shift)

    @property
    def section_pages(self) -> int:
        """``PAGES_PER_SECTION``."""
        return self.section_size >> self.page_shift

    def phys_to_virt(self, phys: int) -> int:
        """The address of a physical byte in the direct map: ``__va()``."""
        return (phys + self.direct_map_base) & ADDRESS_MASK

    def memmap(self, start_pfn: int, end_pfn: int) -> Span:
        """The addresses of the struct pages of ``[start_pfn, end_pfn)``."""
        start = (self.vmemmap_base + start_pfn * self.struct_page_size) & ADDRESS_MASK
        return Span(start, start + (end_pfn - start_pfn) * self.struct_page_size)

    def page_to_pfn(self, page: int) -> int:
        """The PFN whose struct page is at, or spans, address `page`: ``page_to_pfn()``."""
        return ((page - self.vmemmap_base) & ADDRESS_MASK) // self.struct_page_size
