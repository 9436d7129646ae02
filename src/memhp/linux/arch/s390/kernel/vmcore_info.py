"""s390: what VMCOREINFO tells of the kernel's page tables, ``arch/s390/kernel/vmcore_info.c``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Mapping

import numpy as np

from memhp.errors import BadInput
from memhp.hw.reader import TableReader
from memhp.linux.arch.s390.format import FORMATS, TABLE_SHIFT, TT, type_of
from memhp.linux.port import Root, VmCoreNotes

KERNEL_FILE = "arch/s390/kernel/vmcore_info.c"
ORIGIN = (1 << 64) - 1 & ~0xFFF
REAL_SPACE = 1 << 5
ASCE_REGISTERS = ("c13", "c1")
"""The control registers with the kernel's address space: home space, and primary space while it runs."""


def kernel_offset(info: VmCoreNotes) -> int:
    """How far the image lies above physical memory: nothing before 6.10, which ran it in the identity mapping."""
    if not info.noted("KERNELOFFPHYS"):
        return 0
    return info.integer("KERNELOFFSET", 16) - info.integer("KERNELOFFPHYS", 16)


def vmcoreinfo_root(info: VmCoreNotes) -> Root:
    """``swapper_pg_dir`` of the kernel's image; how many levels there are its entries say."""
    return Root(FORMATS[0], (info.symbol("swapper_pg_dir") - kernel_offset(info)) >> TABLE_SHIFT)


def registers_root(registers: Mapping[str, int]) -> Root | None:
    """The table that an address-space-control element designates."""
    for name in ASCE_REGISTERS:
        asce = registers.get(name)
        if asce is None:
            continue
        for fmt in FORMATS:
            if asce & TT == type_of(fmt.root_height) and not asce & REAL_SPACE:
                return Root(fmt, (asce & ORIGIN) >> TABLE_SHIFT)
    return None


def table_of_type(root: Root, reader: TableReader) -> Root:
    """The same root in the format that its first entry is of. Raises BadInput, MissingTables."""
    first = int(reader.tables(np.array([root.pfn], dtype=np.uint64))[0, 0])
    for fmt in FORMATS:
        if first & TT == type_of(fmt.root_height):
            return Root(fmt, root.pfn)
    raise BadInput(f"{first:#x} is no entry of a region-third or region-second table", where="page tables")
