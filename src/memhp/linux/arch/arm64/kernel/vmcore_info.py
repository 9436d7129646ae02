"""arm64: what a dump tells of the kernel's page tables: ``arch/arm64/kernel/vmcore_info.c``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Mapping

from memhp.hw.formats import chosen
from memhp.hw.ranges import Ranges
from memhp.linux.addresses import ADDRESS_MASK
from memhp.linux.arch.arm64.format import FORMATS
from memhp.linux.config import Bases
from memhp.linux.port import NotedLayout, Root, VmCoreNotes
from memhp.units import KiB

KERNEL_FILE = "arch/arm64/kernel/vmcore_info.c"
GRANULES = {1: 16 * KiB, 2: 4 * KiB, 3: 64 * KiB}
"""TCR_EL1.TG1."""
TTBR_CNP = 1


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


def vmcoreinfo_layout(info: VmCoreNotes, root: Root, found: Ranges) -> NotedLayout:
    """``PHYS_OFFSET`` is ``memstart_addr``, which is negative where a 52-bit kernel runs on a smaller CPU."""
    built = info.number("VA_BITS")
    memstart = info.number("PHYS_OFFSET") & ADDRESS_MASK
    memstart -= (memstart >> 63) << 64
    large = info.page_size == 64 * KiB
    return NotedLayout(
        built,
        max(memstart, 0),
        Bases(memstart_addr=memstart),
        lva=built < 52 or not info.has("TCR_EL1_T1SZ") or info.number("TCR_EL1_T1SZ") == 64 - built,
        pa_bits=info.number("MAX_PHYSMEM_BITS") if large else 0,
    )


def registers_root(registers: Mapping[str, int]) -> Root | None:
    """TTBR1_EL1 with the granule and the width in TCR_EL1 (TG1, T1SZ); for 52-bit tables with 4K and 16K pages DS.

    With 64K pages the root of a 52-bit kernel on a 48-bit CPU starts inside its frame. BADDR above 48 bits, which
    TTBR1_EL1 keeps in bits 5 to 2, is that of no machine here.
    """
    if "ttbr1_el1" not in registers or "tcr_el1" not in registers:
        return None
    tcr, baddr = registers["tcr_el1"], registers["ttbr1_el1"] & ((1 << 48) - 1) & ~TTBR_CNP
    granule = GRANULES.get(tcr >> 30 & 3)
    if granule is None:
        return None
    fmt = chosen(FORMATS, granule, 64 - (tcr >> 16 & 63))
    return Root(fmt, baddr >> fmt.page_shift, baddr % fmt.page_size // 8)
