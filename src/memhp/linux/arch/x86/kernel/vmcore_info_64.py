"""x86-64: what a dump tells of the kernel's page tables: ``arch/x86/kernel/vmcore_info_64.c``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace

from memhp.hw.format import PfnPiece
from memhp.hw.formats import chosen
from memhp.linux.arch.x86.format import FORMATS
from memhp.linux.arch.x86.include.asm.pgtable_64_types import START_KERNEL_MAP
from memhp.linux.layout import ADDRESS_MASK
from memhp.linux.port import Root, VmCoreNotes

KERNEL_FILE = "arch/x86/kernel/vmcore_info_64.c"


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
