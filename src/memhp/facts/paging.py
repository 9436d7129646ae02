"""Which page tables a kernel uses, told from the size of its vmalloc area.

``VmallocTotal`` of /proc/meminfo is ``VMALLOC_TOTAL``, the whole area, which the layout fixes for each architecture,
page size and width of virtual addresses, KASLR or not. It tells which width is in use; it does not tell a kernel
built for a wider one, on a CPU without it, from one built for that CPU's width.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from functools import cache

from memhp.linux.arch.registry import Arch, port, ports
from memhp.linux.config import Config
from memhp.linux.port import Paging
from memhp.units import KiB


@cache
def layouts() -> tuple[tuple[int, Paging], ...]:
    """Every paging mode of all architectures with the bytes of its vmalloc area; the widest builds come first."""
    return tuple(sorted((mode for each in ports() for mode in each.paging_modes()), key=lambda each: -each[1].va_bits))


def from_vmalloc_total(kilobytes: int) -> tuple[Paging, ...]:
    """The paging modes whose vmalloc area is so large, widest build first; none for a layout not known here."""
    return tuple(paging for size, paging in layouts() if size // KiB == kilobytes)


def usual_va_bits(arch: Arch, page_size: int) -> int:
    """The width that most builds for an architecture and a page size have: 48 bits, or the widest where there is no
    such build.
    """
    widths = port(arch).va_bits[page_size]
    return 48 if 48 in widths else max(widths)


def vmalloc_total(config: Config, area: int) -> int | None:
    """``VmallocTotal`` of a kernel whose vmalloc area has `area` bytes, kB; None for a layout not known here.

    ``VMALLOC_END`` is the last byte of the area on x86 (``arch/x86/include/asm/pgtable_64_types.h``).
    """
    mode = (config.arch, config.page_size, config.va_bits, config.va_bits_actual)
    sizes = [
        size
        for size, each in layouts()
        if (each.arch, each.page_size, each.va_bits, each.va_bits_actual) == mode and size <= area
    ]
    return max(sizes) // KiB if sizes else None
