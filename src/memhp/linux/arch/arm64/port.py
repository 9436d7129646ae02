"""arm64: what the kernel's ``arch/arm64`` says where its generic code asks."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Collection
from dataclasses import replace
from types import MappingProxyType

from memhp.hw.format import Format
from memhp.hw.formats import chosen
from memhp.linux.arch.arm64 import checks
from memhp.linux.arch.arm64.choices import RECORD, Arm64Profile, arm64
from memhp.linux.arch.arm64.format import CONT_PMDS, FORMATS
from memhp.linux.arch.arm64.include.asm.memory import VA_BITS_MIN, arm64_layout, vmalloc_size, vmalloc_size_before_6_9
from memhp.linux.arch.arm64.include.asm.tlbflush import flush_tlb_all, flush_tlb_kernel_range
from memhp.linux.arch.arm64.kernel.cpufeature import (
    BBML2,
    TLB_RANGE,
    arch_parse_debug_rodata,
    cpu_supports_bbml2_noabort,
)
from memhp.linux.arch.arm64.kernel.vmcore_info import registers_root, vmcoreinfo_layout, vmcoreinfo_root
from memhp.linux.arch.arm64.mm import huge_vmap, init, mmu, pageattr
from memhp.linux.arch.arm64.mm.ptdump import STYLE
from memhp.linux.arch.generic import GenericPort
from memhp.linux.choices import ArchProfile
from memhp.linux.config import Config
from memhp.linux.kernel.resource import Resource
from memhp.linux.port import Paging, Port
from memhp.linux.release import Since, first, since
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, KiB, MiB

MODULES_BEFORE_6_9 = (128 * MiB, 2 * GiB)
"""``MODULES_VSIZE`` from 6.0 to 6.4, and from 6.5 to 6.8."""


class Arm64Port(GenericPort):
    """4K, 16K and 64K pages with 36 to 52 bits, on a virtual machine of QEMU (``virt``)."""

    name = "arm64"
    uname_words = ("arm64", "aarch64")
    cpu_features = ("bbml2", "tlb_range")
    own_options = ("rodata_full",)
    memmap_before_cma = (
        first(True),
        since("7.0", False, "arch, mm: consolidate initialization of SPARSE memory model"),
    )
    """``bootmem_init()``."""
    cma_sizes = MappingProxyType({4 * KiB: (first(64 * MiB),), 16 * KiB: (first(64 * MiB),)})
    """In 6.1, 6.12 and 7.2, those for clouds included; Debian builds none with 64K pages."""
    cmdline_options = ("arm64.nolva",)
    elf_machine = 183
    record = RECORD
    formats = FORMATS

    va_bits = MappingProxyType({4 * KiB: (39, 48, 52), 16 * KiB: (36, 47, 48, 52), 64 * KiB: (42, 48, 52)})
    """``CONFIG_ARM64_VA_BITS_*``."""
    max_page_order = MappingProxyType({4 * KiB: 10, 16 * KiB: 11, 64 * KiB: 13})
    """``ARCH_FORCE_MAX_ORDER``; before 6.4 ``MAX_ORDER`` was one more, and exclusive, so the order is the same."""
    has_hvo = False
    has_memory_failure = True

    ram_start = 1 * GiB
    virtio_mem_extent = 2 * 512 * MiB

    def va_bits_of(self, record: ArchProfile, page_size: int) -> tuple[int, ...]:
        """52 bits came with 64K pages (5.4), and with the others in 6.9."""
        assert isinstance(record, Arm64Profile)
        widths = self.va_bits[page_size]
        if record.layout == "5.3":
            return tuple(width for width in widths if width != 52)
        return tuple(width for width in widths if width != 52 or record.layout == "6.9" or page_size == 64 * KiB)

    def runs_on_narrower_cpus(self, va_bits: int) -> bool:
        """A 52-bit kernel does, on CPUs without LVA or LPA2."""
        return va_bits == 52

    def va_bits_actual(self, config: Config) -> int:
        """``vabits_actual``."""
        return VA_BITS_MIN[config.page_size] if config.va_bits == 52 and not config.lva else config.va_bits

    def va_bits_min(self, config: Config) -> int:
        """``VA_BITS_MIN``."""
        return VA_BITS_MIN[config.page_size] if config.va_bits > 48 else config.va_bits

    def vmemmap_left_out(self, config: Config) -> tuple[Since, ...]:
        """Its own ``select``."""
        return (first("selected"),)

    def pa_bits(self, config: Config) -> tuple[int, ...]:
        """``CONFIG_ARM64_PA_BITS``: a choice with 64K pages only."""
        if config.page_size == 64 * KiB:
            return (48, 52)
        return (52,) if config.va_bits == 52 else (48,)

    def max_physmem_bits(self, config: Config) -> int:
        """That of the build; for LPA2 on a CPU without it 48 (``PHYS_MASK_SHIFT``)."""
        if config.page_size != 64 * KiB and config.va_bits_actual != 52:
            return 48
        return super().max_physmem_bits(config)

    def format(self, config: Config) -> Format:
        """The width that the root table is indexed with, and the output address size.

        With 64K pages a build for 52 bits keeps its 1024-entry root on a 48-bit CPU and uses the last 64 entries; with
        4K and 16K pages the extra level is folded away (LPA2).
        """
        width = config.va_bits if config.page_size == 64 * KiB else config.va_bits_actual
        return chosen(FORMATS, config.page_size, width, config.max_physmem_bits)

    def section_size_bits(self, config: Config) -> int:
        """1 GiB; since 5.12 128 MiB, or 512 MiB with 64K pages (``asm/sparsemem.h``)."""
        if arm64(config).section_size == "1G":
            return 30
        return 29 if config.page_size == 64 * KiB else 27

    def gigantic_page_size(self, config: Config) -> int | None:
        """That of a PUD with 4K pages, else that of a run of PMDs that the contiguous hint joins."""
        return 1 * GiB if config.page_size == 4 * KiB else config.pmd_size * CONT_PMDS[config.page_size]

    def told_config(
        self, config: Config, midrs: Collection[int], features: Collection[str], rodata: str | None
    ) -> Config:
        """BBML2 by the list of CPUs that kernels trust, or as detected; range invalidation; ``rodata=``."""
        return replace(
            config,
            bbml2=BBML2 in features or cpu_supports_bbml2_noabort(midrs),
            tlb_range=TLB_RANGE in features,
            rodata_full=arch_parse_debug_rodata(config, rodata),
        )

    def mappable_range(self, config: Config, direct_map: Span) -> Span:
        """The direct map, since it has ``arch_get_mappable_range()``.

        One that starts at random may start below address 0, at an address that wraps: then from 0 on, but for kernels
        that found its start above its end, and no memory within.
        """
        how = arm64(config).mappable_range
        if how == "everything":
            return super().mappable_range(config, direct_map)
        if direct_map.start < 0 and how == "direct-map-unless-it-wraps":
            return Span(0, 0)
        return Span(max(direct_map.start, 0), direct_map.end)

    layout = staticmethod(arm64_layout)

    def linear_map_random(self, config: Config) -> bool:
        """Where it is larger than what physical addresses span (``arm64_memblock_init()``), before 7.2."""
        return arm64(config).linear_map_random

    def can_set_direct_map(self, config: Config) -> bool:
        """``can_set_direct_map()`` of arch/arm64/mm/pageattr.c."""
        return config.rodata_full or config.debug_pagealloc or not config.kfence_early

    def direct_map_base_pages(self, config: Config) -> bool:
        """As ``direct_map_leaves`` says, which follows whether single pages may change."""
        leaves = arm64(config).direct_map_leaves
        if leaves == "largest" or (leaves == "base-unless-bbml2" and config.bbml2):
            return config.debug_pagealloc
        return self.can_set_direct_map(config)

    has_dma_zone = staticmethod(init.has_dma_zone)
    arch_zone_limits_init = staticmethod(init.arch_zone_limits_init)
    pfn_valid_asks_memblock = staticmethod(init.pfn_valid_asks_memblock)

    paging_init = staticmethod(mmu.paging_init)
    mem_init = staticmethod(mmu.mem_init)
    copy_pgd = staticmethod(mmu.copy_pgd)
    kernel_access = staticmethod(mmu.kernel_access)

    page_kernel = staticmethod(mmu.page_kernel)
    pgprot_noncached = staticmethod(mmu.pgprot_noncached)
    arch_add_memory = staticmethod(mmu.arch_add_memory)
    add_pages = staticmethod(mmu.add_pages)
    arch_remove_memory = staticmethod(mmu.arch_remove_memory)
    vmemmap_builder = staticmethod(mmu.vmemmap_builder)
    vmemmap_populate = staticmethod(mmu.vmemmap_populate)
    vmemmap_free = staticmethod(mmu.vmemmap_free)

    arch_vmap_supported = staticmethod(huge_vmap.arch_vmap_supported)
    pmd_free_pte_page = staticmethod(huge_vmap.pmd_free_pte_page)
    pud_free_pmd_page = staticmethod(huge_vmap.pud_free_pmd_page)
    set_direct_map_invalid_noflush = staticmethod(pageattr.set_direct_map_invalid_noflush)
    set_direct_map_default_noflush = staticmethod(pageattr.set_direct_map_default_noflush)
    set_direct_map_valid_noflush = staticmethod(pageattr.set_direct_map_valid_noflush)
    flush_tlb_all = staticmethod(flush_tlb_all)
    flush_tlb_kernel_range = staticmethod(flush_tlb_kernel_range)

    ptdump_style = STYLE
    vmcoreinfo_mark = "NUMBER(kimage_voffset)"
    vmcoreinfo_root = staticmethod(vmcoreinfo_root)
    vmcoreinfo_layout = staticmethod(vmcoreinfo_layout)
    registers_root = staticmethod(registers_root)

    def arch_xen_unpopulated_init(self, k: Kernel) -> Resource | None:
        """None: of arch/arm/xen/enlighten.c, under ACPI, or with a device tree that names no such regions."""
        return None

    def paging_modes(self) -> tuple[tuple[int, Paging], ...]:
        """Every page size and width, those of 52-bit kernels on smaller CPUs too."""
        found = []
        for page_size, widths in self.va_bits.items():
            for va_bits in widths:
                for actual in {va_bits, VA_BITS_MIN[page_size] if va_bits == 52 else va_bits}:
                    name = f"{page_size // KiB}K, {va_bits}-bit"
                    name += f" on a {actual}-bit CPU" if actual != va_bits else ""
                    paging = Paging(self.name, page_size, va_bits, actual, name)
                    found.append((vmalloc_size(page_size, va_bits, actual), paging))
                    if actual == va_bits:
                        old = (vmalloc_size_before_6_9(page_size, va_bits, size) for size in MODULES_BEFORE_6_9)
                        found += [(size, paging) for size in old]
        return tuple(found)

    kernel_data_rules = staticmethod(checks.kernel_data_rules)
    table_may_stay = staticmethod(checks.table_may_stay)


PORT: Port = Arm64Port()
