"""riscv: the areas of Sv39, Sv48 and Sv57: arch/riscv/include/asm/pgtable.h, page.h, fixmap.h and kasan.h."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.linux.addresses import ADDRESS_SPACE
from memhp.linux.arch.riscv.choices import riscv
from memhp.linux.areas import Area, Marker
from memhp.linux.config import Config
from memhp.linux.layout import Layout
from memhp.spans import Span
from memhp.units import GiB, MiB, PiB, TiB, align_down, align_up

KERNEL_FILE = "arch/riscv/include/asm/pgtable.h"
PAGE_OFFSET = {39: 0xFFFF_FFD6_0000_0000, 48: 0xFFFF_AF80_0000_0000, 57: 0xFF60_0000_0000_0000}
"""``PAGE_OFFSET_L3``, ``_L4`` and ``CONFIG_PAGE_OFFSET`` by address width."""

PAGE_OFFSET_L3_6_4 = 0xFFFF_FFD8_0000_0000
"""``PAGE_OFFSET_L3`` until the Sv39 direct map grew from 124 GiB."""

VMALLOC_SIZE = {39: 64 * GiB, 48: 32 * TiB, 57: 16 * PiB}
"""A quarter of the kernel half: ``KERN_VIRT_SIZE >> 1``."""

KERNEL_LINK_ADDR = ADDRESS_SPACE - 2 * GiB
PCI_IO_SIZE = 16 * MiB
FIXADDR_SIZE = 6 * MiB
"""A PMD of fixed entries, and room for a device tree of 2 MiB at any offset (``FIX_FDT_SIZE``)."""
STRUCT_PAGE_MAX_SHIFT = 6
KASAN_SHADOW_SCALE_SHIFT = 3
MAX_FOLIO_SIZE = 16 * GiB
"""``MAX_FOLIO_ORDER`` of a 64-bit build with HugeTLB, in bytes (include/linux/mmzone.h)."""


def vmemmap_start_pfn(config: Config, phys_ram_base: int) -> int:
    """The PFN at ``VMEMMAP_START``: arch/riscv/mm/init.c:setup_bootmem, and ``VMEMMAP_ADDR_ALIGN``."""
    version = riscv(config).layout
    if version == "6.4":
        return 0
    if version == "6.8":
        return phys_ram_base >> config.page_shift
    aligned = config.section_size
    if version == "7.1" and config.has_hvo:
        aligned = max(aligned, MAX_FOLIO_SIZE)
    return align_down(phys_ram_base, aligned) >> config.page_shift


def riscv_layout(config: Config, ram: Span, image_size: int) -> Layout:
    """The address space of a riscv kernel whose RAM is `ram` (bytes) and whose image has `image_size` bytes."""
    version = riscv(config).layout
    pgdir, bits = config.pgdir_size, config.va_bits
    page_offset = PAGE_OFFSET_L3_6_4 if version == "6.4" and bits == 39 else PAGE_OFFSET[bits]
    kern_virt_size = config.entries_per_table // 2 * pgdir // 2
    phys_ram_base = align_down(ram.start, config.pmd_size)

    vmalloc_start = page_offset - kern_virt_size // 2
    vmemmap_start = vmalloc_start - (1 << (bits - config.page_shift - 1 + STRUCT_PAGE_MAX_SHIFT))
    pci_io_start = vmemmap_start - PCI_IO_SIZE
    kasan_end = KERNEL_LINK_ADDR - 2 * GiB
    kasan_start = align_down(kasan_end - (1 << (bits - 1 - KASAN_SHADOW_SCALE_SHIFT)), pgdir)
    modules_start = config.bases.modules_start
    if modules_start is None:
        modules_start = KERNEL_LINK_ADDR + align_up(image_size, config.page_size) - 2 * GiB
    kernel_start = KERNEL_LINK_ADDR if config.bases.kernel_start is None else config.bases.kernel_start

    fixmap = Area("fixmap", pci_io_start - FIXADDR_SIZE, pci_io_start)
    pci_io = Area("pci io", pci_io_start, vmemmap_start)
    vmemmap = Area("vmemmap", vmemmap_start, vmalloc_start)
    vmalloc = Area("vmalloc", vmalloc_start, page_offset)
    kasan = Area("kasan", kasan_start, kasan_end) if config.kasan else None
    start_pfn = vmemmap_start_pfn(config, phys_ram_base)
    physmem_end = (1 << config.max_physmem_bits) - 1
    if version == "7.1":
        physmem_end = ((start_pfn + vmemmap.size // config.struct_page_size) << config.page_shift) - 1

    markers = [
        Marker(at, f"{name} {edge}")
        for area, name in ((fixmap, "Fixmap"), (pci_io, "PCI I/O"), (vmemmap, "vmemmap"))
        for at, edge in ((area.start, "start"), (area.end, "end"))
    ]
    markers += [Marker(vmalloc.start, "vmalloc() area"), Marker(vmalloc.end, "vmalloc() end")]
    markers += [Marker(page_offset, "Linear mapping")]
    if kasan is not None:
        markers += [Marker(kasan.start, "Kasan shadow start"), Marker(kasan.end, "Kasan shadow end")]
    markers += [Marker(modules_start, "Modules/BPF mapping"), Marker(kernel_start, "Kernel mapping")]

    return Layout(
        config=config,
        phys_offset=phys_ram_base,
        page_offset=page_offset,
        direct_map=Area("direct map", page_offset, kasan_start),
        vmalloc=vmalloc,
        vmemmap=vmemmap,
        modules=Area("modules", modules_start, KERNEL_LINK_ADDR),
        kernel=Area("kernel", kernel_start, ADDRESS_SPACE),
        fixmap=fixmap,
        pci_io=pci_io,
        kasan=kasan,
        vmemmap_start_pfn=start_pfn,
        physmem_end=physmem_end,
        boot_limit=phys_ram_base + kern_virt_size,
        markers=tuple(markers),
    )
