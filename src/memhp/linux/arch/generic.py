"""What holds where an architecture says nothing else: generic headers, and weak functions of generic code.

``include/asm-generic``, ``mm/memory_hotplug.c:arch_get_mappable_range``, ``drivers/base/memory.c:
memory_block_size_bytes`` and their like.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from memhp.hw.formats import chosen
from memhp.linux.addresses import ADDRESS_SPACE
from memhp.linux.mm.zone_limits import zone_limits
from memhp.linux.port import Port
from memhp.linux.release import Since, first
from memhp.linux.tables_port import GenericTables
from memhp.spans import Span
from memhp.units import GiB

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from memhp.hw.format import Format
    from memhp.linux.areas import Area
    from memhp.linux.choices import ArchProfile
    from memhp.linux.config import Config
    from memhp.linux.kernel.resource import Resource
    from memhp.linux.layout import Layout
    from memhp.linux.state import Kernel

BITS_32 = 4 * GiB
"""The end of what 32 bits address."""


class GenericPort(GenericTables, Port):
    """The answers that most architectures share."""

    struct_page_size = 64
    has_gigantic_folios = True
    has_hvo = True
    has_transparent_hugepage_pud = False
    has_memory_probe = False
    has_firmware_memmap = False
    has_memory_failure = False
    has_crash_hotplug = False
    has_memmap_on_memory = True
    keeps_memblock = True
    has_zone_dma = True
    bios_ranges: tuple[Span, ...] = ()
    plug_start = 0
    iomem_of_boot: Literal["memblock", "firmware"] = "memblock"
    """``request_standard_resources()``, ``init_resources()``, ``resource_init()``."""
    boot_limit_is_the_cpus = False
    cpu_features: tuple[str, ...] = ()
    own_options: tuple[str, ...] = ()
    memmap_before_cma: tuple[Since, ...] = (first(False),)
    dma_memory_from_below = False
    cma_sizes: Mapping[int, tuple[Since, ...]] = MappingProxyType({})
    mem_is_an_end = False
    reads_memmap_option = False
    cmdline_options: tuple[str, ...] = ()
    image_start = 0
    direct_map_in_page_tables = True
    zones_end_with_ram = True

    def dma_contiguous_limit(self, k: Kernel) -> int:
        """The end of the lowest zone, which all devices reach (``arm64_dma_phys_limit``, ``dma32_phys_limit``)."""
        dram = Span(k.memblock.memblock_start_of_DRAM(), k.memblock.memblock_end_of_DRAM())
        return next(iter(zone_limits(k.config, dram).values())) << k.config.page_shift

    def va_bits_of(self, record: ArchProfile, page_size: int) -> tuple[int, ...]:
        """Whatever the kernel's choices, the widths that there are."""
        return self.va_bits[page_size]

    def runs_on_narrower_cpus(self, va_bits: int) -> bool:
        """The CPU must have the width of the build."""
        return False

    def vmemmap_left_out(self, config: Config) -> tuple[Since, ...]:
        """A question that mm/Kconfig asks."""
        return (first("hotplug"),)

    def va_bits_actual(self, config: Config) -> int:
        """The width of the build."""
        return config.va_bits

    def va_bits_min(self, config: Config) -> int:
        """The width of the build."""
        return config.va_bits

    def max_physmem_bits(self, config: Config) -> int:
        """The width of the build, or the usual one."""
        return config.pa_bits or self.pa_bits(config)[-1]

    def format(self, config: Config) -> Format:
        """The one with the page size and the width in use."""
        return chosen(self.formats, config.page_size, self.va_bits_actual(config))

    def section_size_bits(self, config: Config) -> int:
        """128 MiB."""
        return 27

    def memory_block_size_bytes(self, config: Config, boot_mem_end: int) -> int:
        """One section: the weak function of drivers/base/memory.c."""
        return config.section_size

    def arch_report_meminfo(self, k: Kernel) -> dict[str, int]:
        """Nothing: the weak function of fs/proc/meminfo.c."""
        return {}

    def arch_xen_unpopulated_init(self, k: Kernel) -> Resource | None:
        """Anywhere: the weak function of drivers/xen/unpopulated-alloc.c."""
        return k.iomem_resource

    def pmd_leaves(self, config: Config) -> bool:
        """Yes."""
        return True

    def pud_leaves(self, config: Config) -> bool:
        """Yes."""
        return True

    def gigantic_page_size(self, config: Config) -> int | None:
        """That of a PUD, if the CPU maps it: arch/*/mm/hugetlbpage.c."""
        return 1 * GiB if self.pud_leaves(config) else None

    def told_config(
        self, config: Config, midrs: Collection[int], features: Collection[str], rodata: str | None
    ) -> Config:
        """Nothing of it matters."""
        return config

    def linear_map_random(self, config: Config) -> bool:
        """It starts where the kernel's headers say, or with the first RAM."""
        return False

    def mappable_range(self, config: Config, direct_map: Span) -> Span:
        """The weak function of mm/memory_hotplug.c allows every address."""
        return Span(0, ADDRESS_SPACE)

    def always_mapped(self, config: Config) -> Span:
        """Nothing."""
        return Span(0, 0)

    def can_set_direct_map(self, config: Config) -> bool:
        """They may."""
        return True

    def direct_map_base_pages(self, config: Config) -> bool:
        """Where pages are mapped one by one to find bugs, or the CPU has no others."""
        return config.debug_pagealloc or not self.pmd_leaves(config)

    def max_dma_address(self, layout: Layout) -> int:
        """The start of the direct map (``include/asm-generic/dma.h``: PAGE_OFFSET)."""
        return max(0, layout.phys_offset)

    def has_dma_zone(self, config: Config) -> bool:
        """If it is built in."""
        return True

    def pfn_valid_asks_memblock(self, config: Config, *, early: bool) -> bool:
        """``pfn_valid()`` of include/linux/mmzone.h asks sections."""
        return False

    def arch_get_mappable_range(self, k: Kernel) -> Span:
        """Physical bytes that the direct map can hold."""
        return k.layout.mappable_range()

    def set_direct_map_valid_noflush(self, k: Kernel, pfn: int, nr: int, *, valid: bool) -> None:
        """Page by page."""
        change = self.set_direct_map_default_noflush if valid else self.set_direct_map_invalid_noflush
        for page in range(pfn, pfn + nr):
            change(k, page)

    def ptdump_spans(self, fmt: Format) -> tuple[Span, ...]:
        """The kernel's half."""
        half = 1 << (fmt.va_bits - 1)
        return (Span(fmt.canonical(half) if fmt.sign_extended else fmt.canonical(0), 1 << 64),)

    def table_may_stay(self, layout: Layout, area: Area, height: int, va: int) -> bool:
        """Tables that root entries point to stay."""
        return height == layout.config.format.root_height - 1
