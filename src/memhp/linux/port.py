"""What an architecture is to the rest of the kernel: the questions that it must answer. Types only.

Each architecture has one object that answers them, in the module ``port`` of its folder, and
:mod:`memhp.linux.arch.registry` lists those. ``mm``, ``kernel``, ``drivers`` and all floors above ask ``k.port`` or
``config.port``. What kernels leave to generic headers and weak functions has an answer in
:mod:`memhp.linux.arch.generic`. Physical ranges and addresses are bytes, heights count from the leaf level up.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from memhp.hw.format import Format
    from memhp.hw.ranges import Ranges
    from memhp.hw.reader import TableReader
    from memhp.hw.tlb import Table
    from memhp.linux.arch.registry import Arch
    from memhp.linux.areas import Area
    from memhp.linux.choices import ArchProfile
    from memhp.linux.config import Bases, Config
    from memhp.linux.kernel.resource import Resource
    from memhp.linux.layout import Layout
    from memhp.linux.mm.altmap import VmemAltmap
    from memhp.linux.mm.dev_pagemap import DevPagemap
    from memhp.linux.mm.ptdump_style import Style
    from memhp.linux.mm.sparse_vmemmap import VmemmapBuilder
    from memhp.linux.mmzone import ZoneType
    from memhp.linux.release import Since
    from memhp.linux.state import Kernel
    from memhp.spans import Span


WRITABLE = "not writable"
"""What a leaf is that only the kernel's own text may be."""


class LeafRule(NamedTuple):
    """A field of a leaf for kernel data and the values that it may have; `what` says what other values mean."""

    what: str
    field: str
    values: tuple[int, ...]
    memory_type: bool = False
    """Whether it says that memory is cached as RAM is, which a PCI BAR is not."""


@dataclass(frozen=True)
class Root:
    """The kernel's page tables: format, the frame with the root table (a PFN, where tables take a page each), and its
    first entry in that frame.
    """

    fmt: Format
    pfn: int
    index: int = 0

    @property
    def address(self) -> int:
        """Where the first entry is in physical memory."""
        return (self.pfn << self.fmt.table_shift) + 8 * self.index


@dataclass(frozen=True)
class Paging:
    """The page tables of a kernel: `va_bits` it was built for, `va_bits_actual` in use, and the common name.

    The two differ where a build for wide addresses runs on a CPU without them.
    """

    arch: Arch
    page_size: int
    va_bits: int
    va_bits_actual: int
    name: str


class NotedLayout(NamedTuple):
    """What a dump tells of the kernel's layout: the address width of the build and whether the CPU has it, the width of
    physical addresses where the build chooses (else 0), the first byte of RAM, and what a boot drew at random.
    """

    va_bits: int
    ram_start: int
    bases: Bases
    lva: bool = True
    pa_bits: int = 0


class VmCoreNotes(Protocol):
    """What a kernel notes of itself in a dump (VMCOREINFO), as far as an architecture's own notes need it."""

    @property
    def page_size(self) -> int:
        """Bytes of a page."""

    def noted(self, key: str) -> bool:
        """Whether there is such a line, ``KEY=…``."""

    def integer(self, key: str, base: int = 10) -> int:
        """A line's value as a number in that base. Raises :class:`memhp.errors.BadInput`."""

    def has(self, name: str, kind: str = "NUMBER") -> bool:
        """Whether the kernel noted ``KIND(name)``."""

    def number(self, name: str) -> int:
        """A ``NUMBER(name)``. Raises :class:`memhp.errors.BadInput`."""

    def symbol(self, name: str) -> int:
        """The virtual address of a symbol. Raises :class:`memhp.errors.BadInput`."""


class Port(Protocol):
    """One architecture."""

    # What it is ----------------------------------------------------------------------------------------------

    name: Arch
    """As in scenarios and reports; also ``Format.arch`` of its formats."""
    uname_words: tuple[str, ...]
    """What names of kernel releases, compilers and QEMU binaries call it."""
    elf_machine: int
    """``e_machine`` of its ELF files."""
    record: type[ArchProfile]
    """The choices that its code reads; each kernel's are a value of that type."""
    formats: tuple[Format, ...]
    """Its page-table formats."""

    # Page sizes, widths, orders ------------------------------------------------------------------------------

    va_bits: Mapping[int, tuple[int, ...]]
    """Page size → virtual address widths of builds."""
    max_page_order: Mapping[int, int]
    """Page size → the buddy's largest order, inclusive (``MAX_PAGE_ORDER``)."""
    struct_page_size: int
    """``sizeof(struct page)`` as distributions build it, bytes; need not divide a page."""
    has_gigantic_folios: bool
    """``CONFIG_HAVE_GIGANTIC_FOLIOS``: whether folios may be larger than the buddy's largest block."""
    has_hvo: bool
    """Whether builds have ``HUGETLB_PAGE_OPTIMIZE_VMEMMAP``."""
    has_transparent_hugepage_pud: bool
    """Whether all kernels have ``HAVE_ARCH_TRANSPARENT_HUGEPAGE_PUD``; riscv64's have it in 7.2, not in 6.12."""
    has_memory_probe: bool
    """Whether builds may have ``ARCH_MEMORY_PROBE``: the file ``probe``."""
    has_firmware_memmap: bool
    """Whether builds have ``FIRMWARE_MEMMAP``."""
    has_memory_failure: bool
    """Whether builds have ``MEMORY_FAILURE``: ``hard_offline_page``, and what counts bad pages."""
    has_crash_hotplug: bool
    """Whether builds may have ``CRASH_HOTPLUG`` (``ARCH_SUPPORTS_CRASH_HOTPLUG``)."""
    has_memmap_on_memory: bool
    """Whether builds have ``ARCH_MHP_MEMMAP_ON_MEMORY_ENABLE``."""
    keeps_memblock: bool
    """Whether distributions build it with ``ARCH_KEEP_MEMBLOCK``."""
    has_zone_dma: bool
    """Whether distributions build it with ZONE_DMA."""

    def vmemmap_left_out(self, config: Config) -> tuple[Since, ...]:
        """What a build without ``SPARSEMEM_VMEMMAP`` is, by release, where mm/Kconfig lets it be left out.

        "selected": there is none; "no hotplug", "hotplug": it is one without memory hotplug, or with it
        (``ARCH_ENABLE_MEMORY_HOTPLUG``).
        """

    def va_bits_of(self, record: ArchProfile, page_size: int) -> tuple[int, ...]:
        """The virtual address widths that a kernel with these choices can be built for. KeyError: no such pages."""

    def runs_on_narrower_cpus(self, va_bits: int) -> bool:
        """Whether a build for that width runs on CPUs without it, too, and uses fewer bits there."""

    def va_bits_actual(self, config: Config) -> int:
        """The width in use."""

    def va_bits_min(self, config: Config) -> int:
        """The width that the fixed part of the layout is made for."""

    def pa_bits(self, config: Config) -> tuple[int, ...]:
        """The physical address widths that the build may have; the last is the usual one."""

    def max_physmem_bits(self, config: Config) -> int:
        """``MAX_PHYSMEM_BITS``: the width of physical addresses that sections cover and entries can hold."""

    def format(self, config: Config) -> Format:
        """The format of the kernel's page-table entries."""

    def section_size_bits(self, config: Config) -> int:
        """``SECTION_SIZE_BITS``."""

    def memory_block_size_bytes(self, config: Config, boot_mem_end: int) -> int:
        """Bytes of a memory block on a machine whose RAM ends at physical address `boot_mem_end` when it boots."""

    # The machine it runs on ----------------------------------------------------------------------------------

    ram_start: int
    """Where QEMU's usual machine has its RAM."""
    bios_ranges: tuple[Span, ...]
    """Physical bytes that the kernel takes out of whatever RAM firmware names."""
    plug_start: int
    """The lowest physical address at which platforms plug memory."""
    iomem_of_boot: Literal["memblock", "firmware"]
    """What ``System RAM`` in ``/proc/iomem`` is made of at boot: what the kernel took of its RAM, or all of it."""
    boot_limit_is_the_cpus: bool
    """Whether it is the CPU that has no physical address behind ``Layout.boot_limit``; else the kernel leaves it."""
    cpu_features: tuple[str, ...]
    """Fields of a configuration that say what only CPUs of this architecture can do."""
    own_options: tuple[str, ...]
    """Other fields of a configuration that only this architecture's code reads, and a scenario may name."""
    memmap_before_cma: tuple[Since, ...]
    """Whether boot allocates struct pages before it reserves memory for CMA, since which release."""
    dma_memory_from_below: bool
    """Whether boot takes bounce buffers, and memory for CMA after them, from the lowest memory that fits."""
    cma_sizes: Mapping[int, tuple[Since, ...]]
    """By page size, bytes that boot reserves for CMA where the command line does not say (``CONFIG_CMA_SIZE_MBYTES``),
    as Debian builds kernels since which release; none for those that are not here."""
    mem_is_an_end: bool
    """Whether ``mem=`` names the physical address at which RAM ends; else how much of it there is."""
    reads_memmap_option: bool
    """Whether ``memmap=`` changes what firmware says of memory, in the forms of ``scenario/memmap_option.py``."""
    cmdline_options: tuple[str, ...]
    """Options of the command line that only this architecture has, and that change what hotplug finds or does."""
    image_start: int
    """The lowest physical address at which the kernel image is loaded."""
    virtio_mem_extent: int
    """How far QEMU lets a virtio-mem device's usable region reach beyond the requested size."""

    def pmd_leaves(self, config: Config) -> bool:
        """Whether the CPU maps PMD leaves."""

    def pud_leaves(self, config: Config) -> bool:
        """Whether the CPU maps PUD leaves, where the format has them."""

    def gigantic_page_size(self, config: Config) -> int | None:
        """Bytes of a gigantic page of hugetlb; None where there is none."""

    # Address space and zones ---------------------------------------------------------------------------------

    direct_map_in_page_tables: bool
    """Whether the direct map is made of page-table entries; else hardware reaches RAM through a window."""

    def layout(self, config: Config, ram: Span, image_size: int) -> Layout:
        """The address space of a kernel with RAM from the first byte of `ram` to its last."""

    def linear_map_random(self, config: Config) -> bool:
        """Whether the direct map may start at random, below the first RAM."""

    def mappable_range(self, config: Config, direct_map: Span) -> Span:
        """What ``arch_get_mappable_range()`` answers (physical bytes), given what the direct map has room for."""

    def always_mapped(self, config: Config) -> Span:
        """Physical bytes that the direct map holds whatever is there."""

    def can_set_direct_map(self, config: Config) -> bool:
        """Whether single pages of the direct map may change."""

    def direct_map_base_pages(self, config: Config) -> bool:
        """Whether the direct map has base pages only."""

    zones_end_with_ram: bool
    """Whether DMA zones end where RAM ends before them, rather than where their addresses do."""

    def max_dma_address(self, layout: Layout) -> int:
        """``__pa(MAX_DMA_ADDRESS)``: from where on boot looks for struct pages first."""

    def has_dma_zone(self, config: Config) -> bool:
        """Whether this kernel, built with ZONE_DMA, uses it."""

    def dma_contiguous_limit(self, k: Kernel) -> int:
        """Below which address (bytes) memory is reserved for CMA: what ``dma_contiguous_reserve()`` is called with."""

    def arch_zone_limits_init(self, config: Config, dram: Span, dma_limit: int | None) -> dict[ZoneType, int]:
        """The ends in bytes of the DMA zones, for RAM within `dram`; `dma_limit` is what the firmware says."""

    def pfn_valid_asks_memblock(self, config: Config, *, early: bool) -> bool:
        """Whether ``pfn_valid()`` goes by memblock, not by sections, for a page of boot memory or of other memory."""

    # Boot and processes --------------------------------------------------------------------------------------

    def paging_init(self, k: Kernel) -> None:
        """Boot, before the page allocator: the kernel's root table, and the direct map of the RAM in memblock."""

    def mem_init(self, k: Kernel) -> None:
        """Boot, with the page allocator: root entries filled in advance, notifiers registered."""

    def copy_pgd(self, k: Kernel, mm: str) -> None:
        """A new process gets its root table: ``pgd_alloc()``. Raises ENOMEM."""

    def kernel_access(self, k: Kernel, mm: str, va: int) -> str:
        """Read a byte in the kernel while `mm` is the address space: ``ok`` or what fixed it. Raises KernelBug."""

    def arch_report_meminfo(self, k: Kernel) -> dict[str, int]:
        """What ``/proc/meminfo`` says of the direct map, in kB by name; nothing but on x86."""

    def arch_xen_unpopulated_init(self, k: Kernel) -> Resource | None:
        """Among whose children a domain of Xen finds addresses without memory; None where nobody names any."""

    # Hotplug -------------------------------------------------------------------------------------------------

    def arch_get_mappable_range(self, k: Kernel) -> Span:
        """Physical bytes for which a direct map can be made."""

    def page_kernel(self, k: Kernel) -> int:
        """Attribute bits of ordinary kernel memory, which a device's memory gets too: ``PAGE_KERNEL``."""

    def pgprot_noncached(self, k: Kernel, prot: int) -> int:
        """The same attributes, but for memory that no cache may hold."""

    def arch_add_memory(
        self,
        k: Kernel,
        nid: int,
        start: int,
        size: int,
        altmap: VmemAltmap | None = None,
        pgprot: int | None = None,
        pgmap: DevPagemap | None = None,
    ) -> None:
        """Direct map and struct pages for a physical range. Raises what ``__add_pages()`` raises, ENOMEM."""

    def add_pages(
        self,
        k: Kernel,
        nid: int,
        start_pfn: int,
        nr_pages: int,
        altmap: VmemAltmap | None = None,
        pgmap: DevPagemap | None = None,
    ) -> None:
        """Struct pages without a direct map, for memory that the CPU cannot reach."""

    def arch_remove_memory(self, k: Kernel, start: int, size: int, altmap: VmemAltmap | None = None) -> None:
        """The opposite of :meth:`arch_add_memory`."""

    def vmemmap_builder(self, k: Kernel) -> VmemmapBuilder:
        """What this architecture's vmemmap entries look like."""

    def vmemmap_populate(self, k: Kernel, start: int, end: int, nid: int, altmap: VmemAltmap | None) -> None:
        """Map struct pages at the addresses of one or more sections, or of part of one. Raises ENOMEM."""

    def vmemmap_free(self, k: Kernel, start: int, end: int, altmap: VmemAltmap | None) -> None:
        """Unmap struct pages and free their storage."""

    # Neighbours in the same tables ---------------------------------------------------------------------------

    def arch_vmap_supported(self, k: Kernel, height: int) -> bool:
        """Whether vmap may use leaves of that height: ``arch_vmap_pmd_supported()``, ``arch_vmap_pud_supported()``."""

    def pmd_free_pte_page(self, k: Kernel, table: Table, index: int) -> None:
        """Take the PTE table below a PMD entry, which maps nothing, away for a leaf."""

    def pud_free_pmd_page(self, k: Kernel, table: Table, index: int) -> bool:
        """Take the PMD table below a PUD entry away, with the empty PTE tables below it; whether that went."""

    def set_direct_map_invalid_noflush(self, k: Kernel, pfn: int) -> None:
        """Take a page out of the direct map; the caller flushes. Raises ENOMEM where a leaf cannot be split for it."""

    def set_direct_map_default_noflush(self, k: Kernel, pfn: int) -> None:
        """Put a page back into the direct map with its ordinary attributes. Raises as the other one does."""

    def set_direct_map_valid_noflush(self, k: Kernel, pfn: int, nr: int, *, valid: bool) -> None:
        """Take `nr` pages out of the direct map, or put them back. Raises ENOMEM, EINVAL."""

    def flush_tlb_all(self, k: Kernel, times: int = 1) -> None:
        """Invalidate every translation on every CPU."""

    def flush_tlb_kernel_range(self, k: Kernel, span: Span) -> None:
        """Invalidate the kernel's translations of the addresses in `span`."""

    def told_config(
        self, config: Config, midrs: Collection[int], features: Collection[str], rodata: str | None
    ) -> Config:
        """A configuration with what a running machine tells: its CPUs' identities and features, and ``rodata=``.

        Features are `flags` of /proc/cpuinfo, and on arm64 what the kernel log names as detected.
        """

    # What can be seen of it ----------------------------------------------------------------------------------

    ram_has_hole: bool
    """Whether RAM of QEMU's machine, where it begins at 0, has a hole below 4 GiB."""
    ptdump_style: Style
    """How its page-table dump prints a range."""

    def ptdump_style_of(self, fmt: Format) -> Style:
        """How it prints a range of tables of that format."""

    def ptdump_spans(self, fmt: Format) -> tuple[Span, ...]:
        """The addresses that its page-table dump covers."""

    def paging_modes(self) -> tuple[tuple[int, Paging], ...]:
        """Bytes of the vmalloc area (``VMALLOC_TOTAL``) of current kernels, and the page tables that these tell of."""

    vmcoreinfo_mark: str
    """The line of VMCOREINFO that tells this architecture from others, such as ``NUMBER(phys_base)``."""

    def vmcoreinfo_is_ours(self, notes: VmCoreNotes) -> bool:
        """Whether a kernel of this architecture made these notes."""

    def vmcoreinfo_root(self, info: VmCoreNotes) -> Root:
        """Where ``swapper_pg_dir`` is and how to read it. Raises :class:`memhp.errors.BadInput`."""

    def vmcoreinfo_layout(self, info: VmCoreNotes, root: Root, found: Ranges) -> NotedLayout:
        """What the notes, or else the leaves found below `root`, tell of the layout. Raises BadInput."""

    def registers_root(self, registers: Mapping[str, int]) -> Root | None:
        """The page tables that a CPU's registers (lower case) point to; None where they do not say."""

    def read_root(self, root: Root, reader: TableReader) -> Root:
        """The same, with what only memory tells: which tables entries share that lead nowhere.

        Raises :class:`memhp.errors.BadInput`, :class:`memhp.hw.reader.MissingTables`.
        """

    def kernel_data_rules(self, config: Config) -> tuple[LeafRule, ...]:
        """What a leaf for kernel data must say: readable, writable for the kernel alone, not executable, cached."""

    def table_may_stay(self, layout: Layout, area: Area, height: int, va: int) -> bool:
        """Whether hot-remove leaves an emptied table of direct map or vmemmap in place."""
