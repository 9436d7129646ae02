"""x86-64: what the kernel's ``arch/x86`` says where its generic code asks."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Collection
from dataclasses import replace
from types import MappingProxyType
from typing import Literal

from memhp.hw.format import Format
from memhp.linux.arch.generic import BITS_32, GenericPort
from memhp.linux.arch.x86 import checks
from memhp.linux.arch.x86.choices import RECORD
from memhp.linux.arch.x86.format import FORMATS
from memhp.linux.arch.x86.include.asm.pgtable_64_types import VMALLOC_SIZE, x86_layout
from memhp.linux.arch.x86.kernel.vmcore_info_64 import registers_root, vmcoreinfo_layout, vmcoreinfo_root
from memhp.linux.arch.x86.mm import init_64, pgtable, tlb
from memhp.linux.arch.x86.mm.block_size import probe_memory_block_size
from memhp.linux.arch.x86.mm.dump_pagetables import STYLE
from memhp.linux.arch.x86.mm.init import ISA_END_ADDRESS
from memhp.linux.arch.x86.mm.pat import set_memory
from memhp.linux.config import Config
from memhp.linux.layout import Layout
from memhp.linux.mmzone import ZoneType
from memhp.linux.port import LeafRule, Paging, Port
from memhp.linux.release import Since, first, since
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, KiB, MiB


class X86Port(GenericPort):
    """4-level and 5-level paging on a PC."""

    name = "x86_64"
    uname_words = ("amd64", "x86_64")
    elf_machine = 62
    record = RECORD
    formats = FORMATS

    va_bits = MappingProxyType({4 * KiB: (48, 57)})
    max_page_order = MappingProxyType({4 * KiB: 10})
    keeps_memblock = False
    has_memory_probe = True
    has_transparent_hugepage_pud = True
    has_firmware_memmap = True
    has_memory_failure = True
    has_crash_hotplug = True

    ram_start = 0
    ram_has_hole = True
    bios_ranges = (Span(0, 4 * KiB), Span(640 * KiB, ISA_END_ADDRESS))
    """``arch/x86/kernel/setup.c:trim_bios_range``: the BIOS's page; display memory and option ROMs."""
    plug_start = 4 * GiB
    """Above what PCI has."""
    iomem_of_boot: Literal["memblock", "firmware"] = "firmware"
    """arch/x86/kernel/e820.c:e820__reserve_resources, which knows nothing of ``max_arch_pfn``."""
    cpu_features = ("invlpgb", "tce")
    own_options = ("gbpages", "hypervisor")
    mem_is_an_end = True
    """arch/x86/kernel/e820.c:parse_memopt."""
    reads_memmap_option = True
    """arch/x86/kernel/e820.c:parse_memmap_one."""
    cmdline_options = ("no5lvl", "nogbpages", "gbpages")
    image_start = 16 * MiB
    """As images are built."""
    virtio_mem_extent = 2 * 128 * MiB

    def vmemmap_left_out(self, config: Config) -> tuple[Since, ...]:
        """``X86_5LEVEL`` selects it; so do all builds since five levels are no option any more."""
        always = since("6.16", "selected", "x86/mm/64: Make SPARSEMEM_VMEMMAP the only memory model")
        return (first("selected" if config.va_bits == 57 else "hotplug"), always)

    def pa_bits(self, config: Config) -> tuple[int, ...]:
        """``MAX_PHYSMEM_BITS`` of arch/x86/include/asm/sparsemem.h."""
        return (52,) if config.va_bits == 57 else (46,)

    memory_block_size_bytes = staticmethod(probe_memory_block_size)

    def pmd_leaves(self, config: Config) -> bool:
        """PSE."""
        return config.pse

    def pud_leaves(self, config: Config) -> bool:
        """``pdpe1gb``."""
        return config.gbpages

    def layout(self, config: Config, ram: Span, image_size: int) -> Layout:
        """The areas, which do not depend on RAM."""
        return x86_layout(config, image_size)

    def always_mapped(self, config: Config) -> Span:
        """The first megabyte (arch/x86/mm/init.c:init_mem_mapping)."""
        return Span(0, ISA_END_ADDRESS)

    def max_dma_address(self, layout: Layout) -> int:
        """16 MiB (``arch/x86/include/asm/dma.h``)."""
        return 16 * MiB

    def dma_contiguous_limit(self, k: Kernel) -> int:
        """``setup_arch()``: all RAM."""
        return k.memblock.memblock_end_of_DRAM()

    def arch_zone_limits_init(self, config: Config, dram: Span, dma_limit: int | None) -> dict[ZoneType, int]:
        """``MAX_DMA_PFN`` and ``MAX_DMA32_PFN`` (``arch/x86/include/asm/dma.h``)."""
        return {ZoneType.DMA: 16 * MiB, ZoneType.DMA32: BITS_32}

    paging_init = staticmethod(init_64.paging_init)
    mem_init = staticmethod(init_64.mem_init)
    copy_pgd = staticmethod(init_64.copy_pgd)
    kernel_access = staticmethod(init_64.kernel_access)

    page_kernel = staticmethod(init_64.page_kernel)
    pgprot_noncached = staticmethod(init_64.pgprot_noncached)
    arch_add_memory = staticmethod(init_64.arch_add_memory)
    add_pages = staticmethod(init_64.add_pages)
    arch_remove_memory = staticmethod(init_64.arch_remove_memory)
    vmemmap_builder = staticmethod(init_64.vmemmap_builder)
    vmemmap_populate = staticmethod(init_64.vmemmap_populate)
    vmemmap_free = staticmethod(init_64.vmemmap_free)

    arch_vmap_supported = staticmethod(pgtable.arch_vmap_supported)
    pmd_free_pte_page = staticmethod(pgtable.pmd_free_pte_page)
    pud_free_pmd_page = staticmethod(pgtable.pud_free_pmd_page)
    arch_report_meminfo = staticmethod(set_memory.arch_report_meminfo)
    set_direct_map_invalid_noflush = staticmethod(set_memory.set_direct_map_invalid_noflush)
    set_direct_map_default_noflush = staticmethod(set_memory.set_direct_map_default_noflush)
    flush_tlb_all = staticmethod(tlb.flush_tlb_all)
    flush_tlb_kernel_range = staticmethod(tlb.flush_tlb_kernel_range)

    def told_config(
        self, config: Config, midrs: Collection[int], features: Collection[str], rodata: str | None
    ) -> Config:
        """AMD's flushes without an IPI, and what INVLPG leaves in the paging-structure caches."""
        return replace(config, invlpgb="invlpgb" in features, tce="tce" in features)

    ptdump_style = STYLE

    def ptdump_spans(self, fmt: Format) -> tuple[Span, ...]:
        """Both halves without the hypervisor's hole (``GUARD_HOLE_END_ADDR``)."""
        half = 1 << (fmt.va_bits - 1)
        return Span(0, half), Span((1 << 64) - half + 16 * fmt.levels[-1].size, 1 << 64)

    vmcoreinfo_mark = "NUMBER(phys_base)"
    vmcoreinfo_root = staticmethod(vmcoreinfo_root)
    vmcoreinfo_layout = staticmethod(vmcoreinfo_layout)
    registers_root = staticmethod(registers_root)

    def paging_modes(self) -> tuple[tuple[int, Paging], ...]:
        """4 and 5 levels; VMALLOC_END stands before the last byte."""
        return tuple(
            (VMALLOC_SIZE[va_bits] - 1, Paging(self.name, 4 * KiB, va_bits, va_bits, f"{levels}-level"))
            for va_bits, levels in ((48, 4), (57, 5))
        )

    def kernel_data_rules(self, config: Config) -> tuple[LeafRule, ...]:
        """The same with 4 and 5 levels."""
        return checks.KERNEL_DATA


PORT: Port = X86Port()
