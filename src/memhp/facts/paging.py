"""Which page tables a kernel uses, told from the size of its vmalloc area.

``VmallocTotal`` of /proc/meminfo is ``VMALLOC_TOTAL``, the whole area, which the layout fixes for each architecture,
page size and width of virtual addresses, KASLR or not. It tells which width is in use; it does not tell an arm64
kernel built for 52 bits, on a CPU without them, from one built for that CPU's width.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass
from functools import cache

from memhp.linux.choices import Arch
from memhp.units import GiB, KiB, MiB, PiB, TiB


@dataclass(frozen=True)
class Paging:
    """The page tables of a kernel: `va_bits` it was built for, `va_bits_actual` in use, and the common name.

    The two differ on arm64 only: a kernel built for 52 bits on a CPU without them.
    """

    arch: Arch
    page_size: int
    va_bits: int
    va_bits_actual: int
    name: str


RISCV_VMALLOC = {39: 64 * GiB, 48: 32 * TiB, 57: 16 * PiB}
"""A quarter of the kernel half: ``KERN_VIRT_SIZE >> 1`` (``arch/riscv/include/asm/pgtable.h:VMALLOC_SIZE``)."""

X86_VMALLOC = {48: 32 * TiB - 1, 57: 12800 * TiB - 1}
"""``VMALLOC_SIZE_TB_L4`` and ``_L5``, less the byte that VMALLOC_END stands before
(``arch/x86/include/asm/pgtable_64_types.h``)."""

ARM64_VA_BITS = {4 * KiB: (39, 48, 52), 16 * KiB: (36, 47, 48, 52), 64 * KiB: (42, 48, 52)}
ARM64_VA_BITS_MIN = {4 * KiB: 48, 16 * KiB: 47, 64 * KiB: 48}

_STRUCT_PAGE = 64
_MODULES = 2 * GiB


def arm64_vmalloc(page_size: int, va_bits: int, va_bits_actual: int) -> int:
    """Bytes of the vmalloc area of arm64 (``VMALLOC_END - VMALLOC_START``, 6.9 and later).

    From the end of the modules at the end of the linear map of VA_BITS_MIN, up to 8 MiB below what of vmemmap is used:
    ``arch/arm64/include/asm/memory.h`` and ``pgtable.h``.
    """
    va_bits_min = min(va_bits, ARM64_VA_BITS_MIN[page_size]) if va_bits > 48 else va_bits
    page_end, page_offset = -(1 << (va_bits_min - 1)), -(1 << va_bits)
    vmemmap_start = -GiB - (page_end - page_offset) // page_size * _STRUCT_PAGE
    vmemmap_unused = (-(1 << va_bits_actual) - page_offset) // page_size * _STRUCT_PAGE
    return vmemmap_start + vmemmap_unused - 8 * MiB - (page_end + _MODULES)


@cache
def layouts() -> tuple[tuple[int, Paging], ...]:
    """Every paging mode of the three architectures with the bytes of its vmalloc area; the widest builds come first."""
    found: list[tuple[int, Paging]] = []
    for va_bits, size in RISCV_VMALLOC.items():
        found.append((size, Paging("riscv64", 4 * KiB, va_bits, va_bits, f"sv{va_bits}")))
    for va_bits, size in X86_VMALLOC.items():
        levels = 4 if va_bits == 48 else 5
        found.append((size, Paging("x86_64", 4 * KiB, va_bits, va_bits, f"{levels}-level")))
    for page_size, widths in ARM64_VA_BITS.items():
        for va_bits in widths:
            actual = {va_bits, ARM64_VA_BITS_MIN[page_size] if va_bits == 52 else va_bits}
            found += [(arm64_vmalloc(page_size, va_bits, bits), _arm64(page_size, va_bits, bits)) for bits in actual]
    return tuple(sorted(found, key=lambda each: -each[1].va_bits))


def _arm64(page_size: int, va_bits: int, va_bits_actual: int) -> Paging:
    name = f"{page_size // KiB}K, {va_bits}-bit"
    if va_bits_actual != va_bits:
        name += f" on a {va_bits_actual}-bit CPU"
    return Paging("arm64", page_size, va_bits, va_bits_actual, name)


def from_vmalloc_total(kilobytes: int) -> tuple[Paging, ...]:
    """The paging modes whose vmalloc area is so large, widest build first; none for a layout not known here."""
    return tuple(paging for size, paging in layouts() if size // KiB == kilobytes)
