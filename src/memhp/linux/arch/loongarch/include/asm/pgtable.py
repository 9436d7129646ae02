"""LoongArch: the areas of the address space: arch/loongarch/include/asm/{addrspace,fixmap,kasan,pgtable,sparsemem}.h.

Memory is reached through a window of the hardware, DMW1, which takes no page tables. What they translate lies from
``vm_map_base`` on: I/O ports, modules, vmalloc, struct pages.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.linux.addresses import ADDRESS_SPACE
from memhp.linux.arch.loongarch.format import CACHE_BASE, PA_BITS, VMLINUX_LOAD_ADDRESS
from memhp.linux.areas import Area, Marker
from memhp.linux.config import Config
from memhp.linux.layout import Layout
from memhp.units import GiB, MiB, align_up

KERNEL_FILE = "arch/loongarch/include/asm/pgtable.h"
CPU_VABITS = 47
"""``cpu_vabits``: one less than the valid bits of a virtual address."""
PCI_IOSIZE = 32 * MiB
MODULES_SIZE = 2 * GiB
KFENCE_NUM_OBJECTS = 255
"""``CONFIG_KFENCE_NUM_OBJECTS``, as it is by default."""
FIXADDR_TOP = 0xFFFF_FFFF_FFFE_0000
FIXED_ADDRESSES = 2
"""``__end_of_fixed_addresses`` of a build without high memory: FIX_HOLE, FIX_EARLYCON_MEM_BASE."""
KASAN_SHADOW_SCALE_SHIFT = 3
WINDOWS = 3
"""``XKPRANGE_{CC,UC,WC}``: windows that KASAN has a shadow of."""

VM_MAP_BASE = ADDRESS_SPACE - (1 << CPU_VABITS)


def vmalloc_size(page_size: int, struct_page_size: int, pmd_size: int, *, kasan: bool = False) -> int:
    """Bytes from ``VMALLOC_START`` to ``VMALLOC_END``: all that nothing else takes."""
    room = 1 << (CPU_VABITS - 1 if kasan else CPU_VABITS)
    low = PCI_IOSIZE + 2 * page_size + MODULES_SIZE
    return room - low - pmd_size - vmemmap_size(page_size, struct_page_size) - kfence_area_size(page_size)


def vmemmap_size(page_size: int, struct_page_size: int) -> int:
    """``VMEMMAP_SIZE``: a struct page for each page that physical addresses reach."""
    return struct_page_size * (1 << PA_BITS) // page_size


def kfence_area_size(page_size: int) -> int:
    """``KFENCE_AREA_SIZE``."""
    return ((KFENCE_NUM_OBJECTS + 1) * 2 + 2) * page_size


def loongarch_layout(config: Config, image_size: int) -> Layout:
    """The address space of a kernel whose image has `image_size` bytes; it does not depend on RAM."""
    page = config.page_size
    pci_io = Area("pci io", VM_MAP_BASE + 2 * page, VM_MAP_BASE + 2 * page + PCI_IOSIZE)
    modules = Area("modules", pci_io.end, pci_io.end + MODULES_SIZE)
    size = vmalloc_size(page, config.struct_page_size, config.pmd_size, kasan=config.kasan)
    vmalloc = Area("vmalloc", modules.end, modules.end + size)
    vmemmap_start = align_up(vmalloc.end, config.pmd_size)
    vmemmap = Area("vmemmap", vmemmap_start, vmemmap_start + vmemmap_size(page, config.struct_page_size))
    fixmap = Area("fixmap", FIXADDR_TOP - FIXED_ADDRESSES * page, FIXADDR_TOP)
    kasan = _kasan(config, modules.start, vmemmap.end) if config.kasan else None
    kernel_start = VMLINUX_LOAD_ADDRESS if config.bases.kernel_start is None else config.bases.kernel_start
    areas = [pci_io, modules, vmalloc, vmemmap, *([kasan] if kasan else []), fixmap]
    return Layout(
        config=config,
        phys_offset=0,
        page_offset=CACHE_BASE,
        direct_map=Area("direct map", CACHE_BASE, CACHE_BASE + (1 << PA_BITS)),
        vmalloc=vmalloc,
        vmemmap=vmemmap,
        modules=modules,
        kernel=Area("kernel", kernel_start, kernel_start + image_size),
        fixmap=fixmap,
        pci_io=pci_io,
        kasan=kasan,
        vmemmap_start_pfn=0,
        physmem_end=(1 << config.max_physmem_bits) - 1,
        boot_limit=1 << PA_BITS,
        markers=tuple(Marker(at, f"{area.name} {edge}") for area in areas for at, edge in _edges(area)),
    )


def _edges(area: Area) -> tuple[tuple[int, str], ...]:
    return (area.start, "start"), (area.end, "end")


def _kasan(config: Config, modules_start: int, vmemmap_end: int) -> Area:
    """``KASAN_SHADOW_START`` to ``_END``: of the windows, and of what page tables translate."""
    kfence_end = vmemmap_end + kfence_area_size(config.page_size)
    shadowed = WINDOWS * (1 << CPU_VABITS) + align_up(kfence_end - modules_start, config.pgdir_size)
    start = align_up(kfence_end, config.pgdir_size)
    return Area("kasan", start, align_up(start + (shadowed >> KASAN_SHADOW_SCALE_SHIFT), config.pgdir_size))
