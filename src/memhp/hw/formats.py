"""Every page-table format there is, by name, and the one that a machine's configuration asks for."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.errors import BadInput
from memhp.hw import arm64, riscv, x86
from memhp.hw.format import Format
from memhp.units import KiB

FORMATS: dict[str, Format] = {fmt.name: fmt for fmt in (*riscv.FORMATS, *arm64.FORMATS, *x86.FORMATS)}


def format_for(arch: str, page_size: int, va_bits: int, *, pa_bits: int | None = None) -> Format:
    """The format of one architecture with pages of `page_size` bytes and these address sizes in bits.

    `arch` is ``riscv64``, ``arm64`` or ``x86_64``. Without `pa_bits`, arm64 with 52-bit virtual addresses has 52-bit
    physical ones too, else 48; only the 64K granule offers the choice (CONFIG_ARM64_PA_BITS). Raises BadInput that
    names what exists.
    """
    if pa_bits is None and arch == "arm64":
        pa_bits = 52 if va_bits == 52 else 48
    for fmt in FORMATS.values():
        if (fmt.arch, fmt.page_size, fmt.va_bits) == (arch, page_size, va_bits) and pa_bits in (None, fmt.pa_bits):
            return fmt
    wanted = f"{arch} with {page_size // KiB}K pages and {va_bits}-bit addresses"
    if pa_bits is not None:
        wanted += f" ({pa_bits} bits physical)"
    raise BadInput(f"no page-table format for {wanted}", fix="there are " + ", ".join(FORMATS))
