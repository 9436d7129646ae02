"""x86-64: what a dump tells of the kernel's page tables: ``arch/x86/kernel/vmcore_info_64.c``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from memhp.hw.format import PfnPiece
from memhp.hw.formats import chosen
from memhp.hw.ranges import Ranges
from memhp.linux.addresses import ADDRESS_MASK
from memhp.linux.arch.x86.format import FORMATS
from memhp.linux.arch.x86.include.asm.pgtable_64_types import START_KERNEL_MAP, VMALLOC_BASE
from memhp.linux.config import Bases
from memhp.linux.port import NotedLayout, Root, VmCoreNotes
from memhp.units import KiB

KERNEL_FILE = "arch/x86/kernel/vmcore_info_64.c"
CR4_LA57 = 1 << 12


def vmcoreinfo_root(info: VmCoreNotes) -> Root:
    """``phys_base`` is the load address minus the link address: negative when KASLR moves the image up less than its
    mapping. With memory encryption the C-bit takes a frame bit's place and ends the physical address.
    """
    va = info.symbol("swapper_pg_dir") if info.has("swapper_pg_dir", "SYMBOL") else info.symbol("init_top_pgt")
    pa = (va - START_KERNEL_MAP + info.number("phys_base")) & ADDRESS_MASK
    levels = 5 if info.has("pgtable_l5_enabled") and info.number("pgtable_l5_enabled") else 4
    fmt = chosen(FORMATS, info.page_size, 12 + 9 * levels)
    sme_mask = info.number("sme_mask") if info.has("sme_mask") else 0
    if sme_mask:
        c_bit = sme_mask.bit_length() - 1
        fmt = replace(fmt, pa_bits=c_bit, pfn_pieces=(PfnPiece(12, c_bit - 12, 0),))
    return Root(fmt, pa >> fmt.page_shift)


def vmcoreinfo_layout(info: VmCoreNotes, root: Root, found: Ranges) -> NotedLayout:
    """KASLR draws three bases; of them the notes tell vmalloc's and vmemmap's, and the leaves the direct map's."""
    bits = root.fmt.va_bits
    vmalloc = info.number("VMALLOC_START") if info.has("VMALLOC_START") else VMALLOC_BASE[bits]
    bases = Bases(
        page_offset=direct_map_base(found, (-1 << (bits - 1)) & ADDRESS_MASK, vmalloc),
        vmalloc_start=vmalloc,
        vmemmap_start=info.symbol("vmemmap") if info.has("vmemmap", "SYMBOL") else None,
        kernel_start=info.symbol("_stext") if info.has("_stext", "SYMBOL") else None,
    )
    return NotedLayout(bits, 0, bases)


def direct_map_base(found: Ranges, start: int, end: int) -> int | None:
    """``page_offset_base``: how far from its physical address most of what lies in ``[start, end)`` is mapped."""
    inside = found.mapped & (found.va >= np.uint64(start)) & (found.va < np.uint64(end))
    if not inside.any():
        return None
    bases, which = np.unique(found.va[inside] - found.pa[inside], return_inverse=True)
    return int(bases[np.bincount(which, weights=found.size[inside].astype(np.float64)).argmax()])


def registers_root(registers: Mapping[str, int]) -> Root | None:
    """CR3 of whatever address space a CPU is in: the kernel's half is the same in all; CR4.LA57 says how many levels.

    Under page-table isolation a process in user space has its own half-empty root, one page above the kernel's.
    """
    if "cr3" not in registers:
        return None
    five = registers.get("cr4", 0) & CR4_LA57
    fmt = chosen(FORMATS, 4 * KiB, 57 if five else 48)
    return Root(fmt, fmt.table_pfn(registers["cr3"]))
