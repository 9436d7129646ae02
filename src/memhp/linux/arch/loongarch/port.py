"""LoongArch: what the kernel's ``arch/loongarch`` says where its generic code asks."""
# SPDX-License-Identifier: GPL-2.0-or-later

from types import MappingProxyType

from memhp.linux.arch.generic import BITS_32, GenericPort
from memhp.linux.arch.loongarch import checks
from memhp.linux.arch.loongarch.choices import RECORD
from memhp.linux.arch.loongarch.format import FORMATS, PA_BITS
from memhp.linux.arch.loongarch.include.asm import pgtable_bits
from memhp.linux.arch.loongarch.include.asm.pgtable import loongarch_layout, vmalloc_size
from memhp.linux.arch.loongarch.kernel import smp, vmcore_info
from memhp.linux.arch.loongarch.mm import init, pageattr, pgtable
from memhp.linux.arch.loongarch.mm.ptdump import STYLE
from memhp.linux.config import Config
from memhp.linux.layout import Layout
from memhp.linux.mmzone import ZoneType
from memhp.linux.port import LeafRule, Paging, Port
from memhp.linux.release import first, since
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, KiB, MiB


class LoongArchPort(GenericPort):
    """4K and 16K pages on an LA464 of QEMU's virtual machine (``virt``)."""

    name = "loongarch64"
    uname_words = ("loongarch64", "loong64")
    cma_sizes = MappingProxyType({4 * KiB: (first(128 * MiB),), 16 * KiB: (first(128 * MiB),)})
    memmap_before_cma = (
        first(True),
        since("7.0", False, "arch, mm: consolidate initialization of SPARSE memory model"),
    )
    dma_memory_from_below = True
    """``arch_mem_init()``."""
    elf_machine = 258
    record = RECORD
    formats = FORMATS

    va_bits = MappingProxyType({4 * KiB: (48,), 16 * KiB: (47,)})
    max_page_order = MappingProxyType({4 * KiB: 10, 16 * KiB: 11})
    """``ARCH_FORCE_MAX_ORDER``."""
    struct_page_size = 80
    """KFENCE makes it store its address (``WANT_PAGE_VIRTUAL``)."""
    has_zone_dma = False
    has_gigantic_folios = False
    has_memory_probe = True
    has_memmap_on_memory = False
    direct_map_in_page_tables = False
    zones_end_with_ram = False

    ram_start = 0
    ram_has_hole = True
    plug_start = 2 * GiB
    """``VIRT_HIGHMEM_BASE`` of QEMU, which plugs right behind the RAM there."""
    boot_limit_is_the_cpus = True
    """Windows take 48 bits of an address."""
    image_start = 2 * MiB
    virtio_mem_extent = 2 * 512 * MiB
    """Two sections, as on machines where QEMU has such a device: here the kernel has no driver for it."""

    def pa_bits(self, config: Config) -> tuple[int, ...]:
        """``MAX_PHYSMEM_BITS``."""
        return (PA_BITS,)

    def section_size_bits(self, config: Config) -> int:
        """512 MiB: arch/loongarch/include/asm/sparsemem.h."""
        return 29

    def pud_leaves(self, config: Config) -> bool:
        """The kernel makes none."""
        return False

    def layout(self, config: Config, ram: Span, image_size: int) -> Layout:
        """The areas, which do not depend on RAM."""
        return loongarch_layout(config, image_size)

    def dma_contiguous_limit(self, k: Kernel) -> int:
        """``setup_arch()``: all RAM."""
        return k.memblock.memblock_end_of_DRAM()

    def arch_zone_limits_init(self, config: Config, dram: Span, dma_limit: int | None) -> dict[ZoneType, int]:
        """``MAX_DMA32_PFN`` of arch/loongarch/include/asm/dma.h."""
        return {ZoneType.DMA32: BITS_32}

    paging_init = staticmethod(init.paging_init)
    mem_init = staticmethod(init.mem_init)
    copy_pgd = staticmethod(init.copy_pgd)
    kernel_access = staticmethod(init.kernel_access)

    page_kernel = staticmethod(init.page_kernel)
    pgprot_noncached = staticmethod(pgtable_bits.pgprot_noncached)
    arch_add_memory = staticmethod(init.arch_add_memory)
    add_pages = staticmethod(init.add_pages)
    arch_remove_memory = staticmethod(init.arch_remove_memory)
    vmemmap_builder = staticmethod(init.vmemmap_builder)
    vmemmap_populate = staticmethod(init.vmemmap_populate)
    vmemmap_free = staticmethod(init.vmemmap_free)

    arch_vmap_supported = staticmethod(pgtable.arch_vmap_supported)
    pmd_free_pte_page = staticmethod(pgtable.pmd_free_pte_page)
    pud_free_pmd_page = staticmethod(pgtable.pud_free_pmd_page)
    set_direct_map_invalid_noflush = staticmethod(pageattr.set_direct_map_invalid_noflush)
    set_direct_map_default_noflush = staticmethod(pageattr.set_direct_map_default_noflush)
    flush_tlb_all = staticmethod(smp.flush_tlb_all)
    flush_tlb_kernel_range = staticmethod(smp.flush_tlb_kernel_range)

    ptdump_style = STYLE
    vmcoreinfo_mark = "SYMBOL(swapper_pg_dir)=9000…"
    """Where the symbol lies: there is no note of its own."""
    vmcoreinfo_is_ours = staticmethod(vmcore_info.vmcoreinfo_is_ours)
    vmcoreinfo_root = staticmethod(vmcore_info.vmcoreinfo_root)
    vmcoreinfo_layout = staticmethod(vmcore_info.vmcoreinfo_layout)
    read_root = staticmethod(vmcore_info.shared_tables_of)

    def paging_modes(self) -> tuple[tuple[int, Paging], ...]:
        """One for each page size."""
        return tuple(
            (
                vmalloc_size(fmt.page_size, self.struct_page_size, fmt.levels[1].size),
                Paging(self.name, fmt.page_size, fmt.va_bits, fmt.va_bits, f"{len(fmt.levels)}-level"),
            )
            for fmt in FORMATS
        )

    def kernel_data_rules(self, config: Config) -> tuple[LeafRule, ...]:
        """The same with all page sizes."""
        return checks.KERNEL_DATA


PORT: Port = LoongArchPort()
