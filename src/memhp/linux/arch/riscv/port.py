"""riscv64: what the kernel's ``arch/riscv`` says where its generic code asks."""
# SPDX-License-Identifier: GPL-2.0-or-later

from types import MappingProxyType

from memhp.linux.arch.generic import BITS_32, GenericPort
from memhp.linux.arch.riscv import checks
from memhp.linux.arch.riscv.choices import RECORD, riscv
from memhp.linux.arch.riscv.format import FORMATS
from memhp.linux.arch.riscv.include.asm.pgtable import VMALLOC_SIZE, riscv_layout
from memhp.linux.arch.riscv.kernel.vmcore_info import registers_root, vmcoreinfo_layout, vmcoreinfo_root
from memhp.linux.arch.riscv.mm import init, pageattr, pgtable, tlbflush
from memhp.linux.arch.riscv.mm.ptdump import STYLE
from memhp.linux.config import Config
from memhp.linux.mmzone import ZoneType
from memhp.linux.port import LeafRule, Paging, Port
from memhp.linux.release import Since, between, first
from memhp.spans import Span
from memhp.units import GiB, KiB, MiB


class RiscvPort(GenericPort):
    """Sv39, Sv48 and Sv57 on a virtual machine of QEMU (``virt``)."""

    name = "riscv64"
    uname_words = ("riscv64",)
    cmdline_options = ("no4lvl", "no5lvl")
    cma_sizes = MappingProxyType({4 * KiB: (first(0), between("6.12", "7.2", 128 * MiB))})
    elf_machine = 243
    record = RECORD
    formats = FORMATS

    va_bits = MappingProxyType({4 * KiB: (39, 48, 57)})
    max_page_order = MappingProxyType({4 * KiB: 10})
    has_zone_dma = False

    ram_start = 2 * GiB
    virtio_mem_extent = 2 * 128 * MiB
    """Two sections, as on machines where QEMU has such a device: here it has none."""

    def vmemmap_left_out(self, config: Config) -> tuple[Since, ...]:
        """Without it the port does not enable hotplug."""
        return (first("no hotplug"),)

    def pa_bits(self, config: Config) -> tuple[int, ...]:
        """56 bits in every mode."""
        return (56,)

    def mappable_range(self, config: Config, direct_map: Span) -> Span:
        """The direct map, since it has ``arch_get_mappable_range()``."""
        if riscv(config).mappable_range == "everything":
            return super().mappable_range(config, direct_map)
        return direct_map

    layout = staticmethod(riscv_layout)

    def arch_zone_limits_init(self, config: Config, dram: Span, dma_limit: int | None) -> dict[ZoneType, int]:
        """``dma32_phys_limit`` of arch/riscv/mm/init.c."""
        return {ZoneType.DMA32: BITS_32}

    paging_init = staticmethod(init.paging_init)
    mem_init = staticmethod(init.mem_init)
    copy_pgd = staticmethod(init.copy_pgd)
    kernel_access = staticmethod(init.kernel_access)

    page_kernel = staticmethod(init.page_kernel)
    pgprot_noncached = staticmethod(init.pgprot_noncached)
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
    flush_tlb_all = staticmethod(tlbflush.flush_tlb_all)
    flush_tlb_kernel_range = staticmethod(tlbflush.flush_tlb_kernel_range)

    ptdump_style = STYLE
    vmcoreinfo_mark = "NUMBER(va_kernel_pa_offset)"
    """Noted from 6.4 on."""
    vmcoreinfo_root = staticmethod(vmcoreinfo_root)
    vmcoreinfo_layout = staticmethod(vmcoreinfo_layout)
    registers_root = staticmethod(registers_root)

    def paging_modes(self) -> tuple[tuple[int, Paging], ...]:
        """The three modes."""
        return tuple(
            (size, Paging(self.name, 4 * KiB, va_bits, va_bits, f"sv{va_bits}"))
            for va_bits, size in VMALLOC_SIZE.items()
        )

    def kernel_data_rules(self, config: Config) -> tuple[LeafRule, ...]:
        """The same in every mode."""
        return checks.KERNEL_DATA


PORT: Port = RiscvPort()
