"""powerpc: what VMCOREINFO tells of the kernel's page tables, ``arch/powerpc/kexec/vmcore_info.c``."""
# SPDX-License-Identifier: GPL-2.0-or-later

import numpy as np

from memhp.errors import BadInput
from memhp.hw.ranges import Ranges
from memhp.linux.arch.powerpc.format import FORMATS, KERNEL_QUADRANT
from memhp.linux.areas import Area, Marker
from memhp.linux.memory_maps import MemoryMaps
from memhp.linux.port import WRITABLE, LeafRule, Root, VmCoreNotes
from memhp.linux.tables_port import NotedAreas
from memhp.spans import Span
from memhp.units import GiB, KiB, MiB, TiB

KERNEL_FILE = "arch/powerpc/kexec/vmcore_info.c"
MAP_SIZE = 512 * TiB
"""``RADIX_KERN_MAP_SIZE``: vmalloc, I/O and vmemmap have each as much."""
ISA_IO, FULL_IO = 64 * KiB, 2 * GiB
PAGE_OFFSET = KERNEL_QUADRANT
SECTION = 16 * MiB
"""``1 << SECTION_SIZE_BITS``."""
KERNEL_DATA = (
    LeafRule(WRITABLE, "EAA_WRITE", (1,)),
    LeafRule("executable", "EAA_EXEC", (0,)),
    LeafRule("open to user space", "EAA_PRIV", (1,)),
)
"""``PAGE_KERNEL``."""


def vmcoreinfo_root(info: VmCoreNotes) -> Root:
    """``swapper_pg_dir`` of the image, in the direct map. Raises BadInput where the kernel uses the hash MMU."""
    if not info.number("RADIX_MMU"):
        raise BadInput("the kernel uses the hash MMU, whose translations are no tree", where="VMCOREINFO")
    fmt = next(each for each in FORMATS if each.page_size == info.page_size)
    return Root(fmt, (info.symbol("swapper_pg_dir") - PAGE_OFFSET) >> fmt.table_shift)


def noted_areas(info: VmCoreNotes, root: Root, found: Ranges) -> NotedAreas:
    """The areas of arch/powerpc/include/asm/book3s/64/radix.h, and the sections of the kernel's dump."""
    vmalloc = info.number("VMALLOC_START")
    io, vmemmap = vmalloc + MAP_SIZE, vmalloc + 2 * MAP_SIZE
    inside = found.mapped & (found.va < np.uint64(vmalloc))
    end = int((found.va + found.size)[inside].max(initial=PAGE_OFFSET))
    areas = (
        Area("direct map", PAGE_OFFSET, end),
        Area("vmalloc", vmalloc, io),
        Area("PCI I/O", io, io + FULL_IO),
        Area("ioremap", io + FULL_IO, vmemmap),
        Area("vmemmap", vmemmap, vmemmap + MAP_SIZE),
    )
    markers = (
        Marker(PAGE_OFFSET, "Start of kernel VM"),
        Marker(vmalloc, "vmalloc() Area"),
        Marker(io, "vmalloc() End"),
        Marker(io, "isa I/O start"),
        Marker(io + ISA_IO, "isa I/O end"),
        Marker(io + ISA_IO, "phb I/O start"),
        Marker(io + FULL_IO, "phb I/O end"),
        Marker(io + FULL_IO, "I/O remap start"),
        Marker(vmemmap, "I/O remap end"),
        Marker(vmemmap, "vmemmap start"),
    )
    maps = MemoryMaps(
        page_shift=root.fmt.page_shift,
        section_size=SECTION,
        direct_map=Span(PAGE_OFFSET, end),
        direct_map_base=PAGE_OFFSET,
        vmemmap=Span(vmemmap, vmemmap + MAP_SIZE),
        vmemmap_usable=Span(vmemmap, vmemmap + MAP_SIZE),
        vmemmap_base=vmemmap,
        struct_page_size=info.integer("SIZE(page)"),
        memmap_leaf=root.fmt.levels[1].size,
        data_rules=KERNEL_DATA,
    )
    return NotedAreas(areas, markers, maps)
