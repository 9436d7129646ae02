"""Power with the radix MMU: what its page tables are to whoever reads them in a dump."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.hw.format import Format
from memhp.linux.arch.powerpc.format import FORMATS, KERNEL_QUADRANT, PAGES_4K
from memhp.linux.arch.powerpc.kexec import vmcore_info
from memhp.linux.arch.powerpc.mm.ptdump.book3s64 import STYLE, STYLE_64K
from memhp.linux.mm.ptdump_style import Style
from memhp.linux.tables_port import ReadTables, TablesPort
from memhp.spans import Span


class PowerTables(ReadTables):
    """POWER9 and later, in either byte order."""

    name = "ppc64"
    uname_words = ("ppc64", "ppc64le", "powerpc64le")
    elf_machine = 21
    formats = FORMATS
    ptdump_style = STYLE
    vmcoreinfo_mark = "NUMBER(RADIX_MMU)"
    vmcoreinfo_root = staticmethod(vmcore_info.vmcoreinfo_root)
    vmcoreinfo_areas = staticmethod(vmcore_info.noted_areas)

    def ptdump_style_of(self, fmt: Format) -> Style:
        """The hash MMU's columns lie elsewhere with 64K pages."""
        return STYLE if fmt.page_size == PAGES_4K.page_size else STYLE_64K

    def ptdump_spans(self, fmt: Format) -> tuple[Span, ...]:
        """The kernel's quadrant, as far as the root table reaches."""
        return (Span(KERNEL_QUADRANT, KERNEL_QUADRANT + (1 << fmt.va_bits)),)


TABLES: TablesPort = PowerTables()
