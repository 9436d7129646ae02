"""The kernel's virtual address space: which area lies where, and where a page's struct page and bytes are found.

Addresses are unsigned 64-bit numbers; areas and spans are half-open. `layout` computes one for a configuration and the
RAM that the machine boots with, as that kernel's headers do.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass

from memhp.errors import BadInput
from memhp.hw.unchanging import Unchanging
from memhp.linux.addresses import ADDRESS_MASK
from memhp.linux.areas import Area, Marker
from memhp.linux.config import Config
from memhp.spans import Span
from memhp.units import MiB


@dataclass(frozen=True)
class Layout(Unchanging):
    """One kernel's address space. Where an architecture has no such area, the field is None."""

    config: Config
    phys_offset: int
    """Physical address of the first byte of the direct map, as ``PAGE_OFFSET`` counts it: riscv ``phys_ram_base``,
    arm64 ``memstart_addr`` (negative where the part below is not mapped), x86 0."""
    page_offset: int
    """``PAGE_OFFSET``: the address that `phys_offset` would have; on a 48-bit CPU under a 52-bit arm64 kernel it lies
    below the direct map."""
    direct_map: Area
    vmalloc: Area
    vmemmap: Area
    """From ``VMEMMAP_START`` to ``VMEMMAP_END``. A 52-bit arm64 kernel of 6.9 or later on a smaller CPU lends the lower
    part of it to vmalloc: see :attr:`vmemmap_usable`, and :attr:`vmemmap_base` for where it is indexed from."""
    modules: Area
    kernel: Area
    """The kernel image, or the area set aside for it."""
    fixmap: Area
    pci_io: Area | None
    kasan: Area | None
    vmemmap_start_pfn: int
    """The PFN whose struct page lies at ``VMEMMAP_START``; may be negative on arm64."""
    physmem_end: int
    """The last physical address that ``mhp_get_pluggable_range()`` allows, ``(DIRECT_MAP_)PHYSMEM_END``; all ones
    where nothing is checked."""
    boot_limit: int
    """Boot RAM from this physical address on is dropped, as the direct map cannot hold it."""
    markers: tuple[Marker, ...]
    """Area markers of the page-table dump, in its order."""
    vmemmap_lent: int = 0
    """Bytes at the start of the vmemmap that hold no struct pages of memory that the direct map can reach."""

    @property
    def vmemmap_base(self) -> int:
        """``vmemmap``: the address of PFN 0's struct page, even if it lies outside the area."""
        return (self.vmemmap.start - self.vmemmap_start_pfn * self.config.struct_page_size) & ADDRESS_MASK

    @property
    def vmemmap_usable(self) -> Span:
        """The part of the vmemmap that holds struct pages of memory that the direct map can reach."""
        return Span(self.vmemmap.start + self.vmemmap_lent, self.vmemmap.end)

    def pfn_to_page(self, pfn: int) -> int:
        """The address of a page's struct page: ``pfn_to_page()``."""
        return (self.vmemmap_base + pfn * self.config.struct_page_size) & ADDRESS_MASK

    def page_to_pfn(self, page: int) -> int:
        """The PFN whose struct page is at, or spans, address `page`: ``page_to_pfn()``."""
        return (page - self.vmemmap.start) // self.config.struct_page_size + self.vmemmap_start_pfn

    def memmap(self, start_pfn: int, end_pfn: int) -> Span:
        """The addresses of the struct pages of ``[start_pfn, end_pfn)``."""
        start = self.pfn_to_page(start_pfn)
        return Span(start, start + (end_pfn - start_pfn) * self.config.struct_page_size)

    def phys_to_virt(self, phys: int) -> int:
        """The address of a physical byte in the direct map: ``__va()``."""
        return (phys - self.phys_offset + self.page_offset) & ADDRESS_MASK

    def virt_to_phys(self, address: int) -> int:
        """The physical byte behind an address of the direct map: ``__pa()``. Raises ValueError outside."""
        if address not in self.direct_map:
            raise ValueError(
                f"{address:#x} is not in the direct map {self.direct_map.start:#x}-{self.direct_map.end:#x}"
            )
        return address - self.page_offset + self.phys_offset

    def direct_mapped(self) -> Span:
        """The physical addresses that the direct map has room for."""
        return Span(self.virt_to_phys(self.direct_map.start), self.virt_to_phys(self.direct_map.end - 1) + 1)

    def mappable_range(self) -> Span:
        """Physical bytes that ``arch_get_mappable_range()`` allows for memory that needs a direct map.

        The kernel's own ends are inclusive, and riscv and arm64 both say ``__pa(PAGE_END - 1)``: the last byte.
        """
        return self.config.port.mappable_range(self.config, self.direct_mapped())

    def pluggable_range(self, *, need_mapping: bool = True) -> Span:
        """Physical bytes that may be hot-added: ``mm/memory_hotplug.c:mhp_get_pluggable_range``."""
        limit = self.physmem_end + 1
        if not need_mapping:
            return Span(0, limit)
        span = self.mappable_range()
        return Span(0, 0) if span.start >= limit else Span(span.start, min(span.end, limit))

    @property
    def vmalloc_vmemmap_overlap(self) -> bool:
        """Whether vmalloc and vmemmap share an entry of the root table.

        The test of ``find_vmalloc_vmemmap_overlap()`` in V7 of the arm64 series: the ends of the gap between the two
        areas have the same root entry.
        """
        return self.shared_entries(4) != ()

    def shared_entries(self, height: int) -> tuple[int, ...]:
        """Start addresses of entries at `height` that translate addresses of both vmalloc and vmemmap.

        Height 4 is the root, whatever its depth.
        """
        size = 1 << self.config.shift(height)
        low, high = sorted((self.vmalloc.span, self.vmemmap_usable))
        return (high.start & -size,) if ((low.end - 1) & -size) == (high.start & -size) else ()


def layout(config: Config, ram: Span, image_size: int = 32 * MiB) -> Layout:
    """The address space of a kernel that boots with RAM from the first byte of `ram` to its last.

    `image_size` is that of the kernel image in bytes, which riscv's modules area depends on. Raises
    :class:`BadInput` when there is no RAM or it starts where the kernel cannot reach it.
    """
    if not ram:
        raise BadInput("a machine needs RAM to boot", where="memory")
    if ram.start >> config.max_physmem_bits:
        raise BadInput(
            f"RAM starts at {ram.start:#x}, behind the {config.max_physmem_bits}-bit physical addresses",
            where="memory",
            fix=f"start it below {1 << config.max_physmem_bits:#x}",
        )
    return config.port.layout(config, ram, image_size)
