"""IBM Z: what its page tables are to whoever reads them in a dump."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.hw.format import Format
from memhp.linux.arch.s390.boot import startup
from memhp.linux.arch.s390.format import FORMATS
from memhp.linux.arch.s390.kernel import vmcore_info
from memhp.linux.arch.s390.mm.dump_pagetables import STYLE
from memhp.linux.tables_port import ReadTables, TablesPort
from memhp.spans import Span


class S390Tables(ReadTables):
    """Kernels that are dumped by kdump, zgetdump or QEMU."""

    name = "s390x"
    uname_words = ("s390x",)
    elf_machine = 22
    formats = FORMATS
    ptdump_style = STYLE
    vmcoreinfo_mark = "SAMODE31"
    """Where its sections below 2 GiB begin."""
    vmcoreinfo_root = staticmethod(vmcore_info.vmcoreinfo_root)
    vmcoreinfo_areas = staticmethod(startup.noted_areas)
    registers_root = staticmethod(vmcore_info.registers_root)
    read_root = staticmethod(vmcore_info.table_of_type)

    def ptdump_spans(self, fmt: Format) -> tuple[Span, ...]:
        """All that the kernel's address-space-control element translates."""
        return (Span(0, 1 << fmt.va_bits),)


TABLES: TablesPort = S390Tables()
