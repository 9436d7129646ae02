"""riscv: what a dump tells of the kernel's page tables: ``arch/riscv/kernel/vmcore_info.c``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.hw.formats import chosen
from memhp.linux.arch.riscv.format import FORMATS
from memhp.linux.layout import ADDRESS_MASK
from memhp.linux.port import Root, VmCoreNotes

KERNEL_FILE = "arch/riscv/kernel/vmcore_info.c"


def vmcoreinfo_root(info: VmCoreNotes) -> Root:
    """``va_kernel_pa_offset`` holds for the kernel image, in which swapper_pg_dir stands."""
    pa = (info.symbol("swapper_pg_dir") - info.number("va_kernel_pa_offset")) & ADDRESS_MASK
    fmt = chosen(FORMATS, info.page_size, info.number("VA_BITS"))
    return Root(fmt, pa >> fmt.page_shift)
