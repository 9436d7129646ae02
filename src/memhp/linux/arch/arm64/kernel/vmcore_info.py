"""arm64: what a dump tells of the kernel's page tables: ``arch/arm64/kernel/vmcore_info.c``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.hw.formats import chosen
from memhp.linux.arch.arm64.format import FORMATS
from memhp.linux.layout import ADDRESS_MASK
from memhp.linux.port import Root, VmCoreNotes

KERNEL_FILE = "arch/arm64/kernel/vmcore_info.c"


def vmcoreinfo_root(info: VmCoreNotes) -> Root:
    """TCR_EL1.T1SZ, not VA_BITS, tells the address size: a 52-bit kernel runs with 48 or 47 bits on an older CPU.

    With 64K pages such a kernel keeps the root of 52 bits and points TTBR1 at its last 64 entries
    (arch/arm64/include/asm/pgtable-hwdef.h: TTBR1_BADDR_4852_OFFSET).
    """
    pa = (info.symbol("swapper_pg_dir") - info.number("kimage_voffset")) & ADDRESS_MASK
    built = info.number("VA_BITS")
    va_bits = 64 - info.number("TCR_EL1_T1SZ") if info.has("TCR_EL1_T1SZ") else built
    large = info.page_size == 1 << 16
    fmt = chosen(FORMATS, info.page_size, va_bits, pa_bits=info.number("MAX_PHYSMEM_BITS") if large else None)
    index = 0
    if large and va_bits < built:
        whole = chosen(FORMATS, info.page_size, built, pa_bits=fmt.pa_bits)
        index = whole.levels[-1].entries - fmt.levels[-1].entries
    return Root(fmt, pa >> fmt.page_shift, index)
