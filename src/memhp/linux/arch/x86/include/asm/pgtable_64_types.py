"""x86-64: the areas with 4 and 5 levels, with KASLR's bases where they are known.

arch/x86/include/asm/pgtable_64_types.h and page_64_types.h, Documentation/arch/x86/x86_64/mm.rst.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.linux.addresses import ADDRESS_MASK
from memhp.linux.areas import Area, Marker
from memhp.linux.config import Config
from memhp.linux.layout import Layout
from memhp.units import GiB, MiB, TiB, align_up

KERNEL_FILE = "arch/x86/include/asm/pgtable_64_types.h"
PAGE_OFFSET_BASE = {48: 0xFFFF_8880_0000_0000, 57: 0xFF11_0000_0000_0000}
VMALLOC_BASE = {48: 0xFFFF_C900_0000_0000, 57: 0xFFA0_0000_0000_0000}
VMALLOC_SIZE = {48: 32 * TiB, 57: 12800 * TiB}
VMEMMAP_BASE = {48: 0xFFFF_EA00_0000_0000, 57: 0xFFD4_0000_0000_0000}
KASAN_SHADOW_OFFSET = 0xDFFF_FC00_0000_0000
KASAN_SHADOW_END = 0xFFFF_FC00_0000_0000
START_KERNEL_MAP = 0xFFFF_FFFF_8000_0000
KERNEL_TEXT_OFFSET = 16 * MiB
"""``LOAD_PHYSICAL_ADDR``: where the image lies from START_KERNEL_MAP on without KASLR."""
KERNEL_IMAGE_SIZE = GiB
"""With ``CONFIG_RANDOMIZE_BASE``, which distributions build in."""
MODULES_END = 0xFFFF_FFFF_FF00_0000
VSYSCALL_ADDR = 0xFFFF_FFFF_FF60_0000
FIXADDR_SIZE = 2 * MiB
"""Rounded up to the PMD below the top; the real size follows the number of CPUs and drivers."""
P4D_SHIFT = 39
EFI_VA_END = -68 * GiB & ADDRESS_MASK


def _top(entry: int, shift: int) -> int:
    """Start of the entry number `entry`, counted from the top and negative, of a table whose entries have `shift`."""
    return (entry << shift) & ADDRESS_MASK


def x86_layout(config: Config, image_size: int) -> Layout:
    """The address space of an x86-64 kernel with an image of `image_size` bytes; it does not depend on RAM."""
    bits, bases = config.va_bits, config.bases
    page_offset = PAGE_OFFSET_BASE[bits] if bases.page_offset is None else bases.page_offset
    vmalloc_start = VMALLOC_BASE[bits] if bases.vmalloc_start is None else bases.vmalloc_start
    vmemmap_start = VMEMMAP_BASE[bits] if bases.vmemmap_start is None else bases.vmemmap_start
    maxmem = 1 << config.max_physmem_bits
    physmem_end = maxmem - 1
    if config.profile.pluggable_end == "PHYSMEM_END" and bases.physmem_end is not None:
        physmem_end = bases.physmem_end
    vmemmap_size = align_up((maxmem >> config.page_shift) * config.struct_page_size, TiB)
    kernel_start = START_KERNEL_MAP + KERNEL_TEXT_OFFSET if bases.kernel_start is None else bases.kernel_start
    modules_start = START_KERNEL_MAP + KERNEL_IMAGE_SIZE
    fixaddr_top = align_up(VSYSCALL_ADDR + config.page_size, config.pmd_size) - config.page_size
    kasan_start = KASAN_SHADOW_OFFSET + ((-1 << (bits - 1) & ADDRESS_MASK) >> 3)
    kasan = Area("kasan", kasan_start, KASAN_SHADOW_END) if config.kasan else None
    fixmap = Area("fixmap", fixaddr_top + config.page_size - FIXADDR_SIZE, fixaddr_top)

    markers = [
        Marker(0, "User Space"),
        Marker(1 << 63, "Kernel Space"),
        Marker(_top(-240, config.shift(4)), "LDT remap"),
        Marker(page_offset, "Low Kernel Mapping"),
        Marker(vmalloc_start, "vmalloc() Area"),
        Marker(vmemmap_start, "Vmemmap"),
    ]
    if kasan is not None:
        markers += [Marker(kasan.start, "KASAN shadow"), Marker(kasan.end, "KASAN shadow end")]
    markers += [
        Marker(_top(-4, P4D_SHIFT), "CPU entry Area"),
        Marker(_top(-2, P4D_SHIFT), "ESPfix Area"),
        Marker(EFI_VA_END, "EFI Runtime Services"),
        Marker(START_KERNEL_MAP, "High Kernel Mapping"),
        Marker(modules_start, "Modules"),
        Marker(MODULES_END, "End Modules"),
        Marker(fixmap.start, "Fixmap Area"),
    ]
    return Layout(
        config=config,
        phys_offset=0,
        page_offset=page_offset,
        direct_map=Area("direct map", page_offset, page_offset + physmem_end + 1),
        vmalloc=Area("vmalloc", vmalloc_start, vmalloc_start + VMALLOC_SIZE[bits]),
        vmemmap=Area("vmemmap", vmemmap_start, vmemmap_start + vmemmap_size),
        modules=Area("modules", modules_start, MODULES_END),
        kernel=Area("kernel", kernel_start, kernel_start + align_up(image_size, config.pmd_size)),
        fixmap=fixmap,
        pci_io=None,
        kasan=kasan,
        vmemmap_start_pfn=0,
        physmem_end=physmem_end,
        boot_limit=maxmem,
        markers=tuple(markers),
    )
