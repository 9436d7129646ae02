"""riscv: what a dump tells of the kernel's page tables: ``arch/riscv/kernel/vmcore_info.c``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Mapping

from memhp.hw.formats import chosen
from memhp.hw.ranges import Ranges
from memhp.linux.addresses import ADDRESS_MASK
from memhp.linux.arch.riscv.format import FORMATS
from memhp.linux.config import Bases
from memhp.linux.port import NotedLayout, Root, VmCoreNotes
from memhp.units import GiB, KiB

KERNEL_FILE = "arch/riscv/kernel/vmcore_info.c"
MODES = {8: 39, 9: 48, 10: 57}
"""satp.MODE and the address widths: Sv39, Sv48, Sv57."""


def vmcoreinfo_root(info: VmCoreNotes) -> Root:
    """``va_kernel_pa_offset`` holds for the kernel image, in which swapper_pg_dir stands."""
    pa = (info.symbol("swapper_pg_dir") - info.number("va_kernel_pa_offset")) & ADDRESS_MASK
    fmt = chosen(FORMATS, info.page_size, info.number("VA_BITS"))
    return Root(fmt, pa >> fmt.page_shift)


def vmcoreinfo_layout(info: VmCoreNotes, root: Root, found: Ranges) -> NotedLayout:
    """The modules' area ends with the image; older kernels do not note ``phys_ram_base``: 2 GiB as on QEMU's virt."""
    return NotedLayout(
        root.fmt.va_bits,
        info.number("phys_ram_base") if info.has("phys_ram_base") else 2 * GiB,
        Bases(
            modules_start=info.number("MODULES_VADDR") if info.has("MODULES_VADDR") else None,
            kernel_start=info.number("KERNEL_LINK_ADDR") if info.has("KERNEL_LINK_ADDR") else None,
        ),
    )


def registers_root(registers: Mapping[str, int]) -> Root | None:
    """Satp: MODE in the upper four bits, the PFN of the root in the lower 44 (Privileged Architecture, 12.1.11)."""
    mode = registers.get("satp", 0) >> 60
    return Root(chosen(FORMATS, 4 * KiB, MODES[mode]), registers["satp"] & ((1 << 44) - 1)) if mode in MODES else None
