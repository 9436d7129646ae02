"""Choosing among page-table formats by page size and address widths."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable

from memhp.errors import BadInput
from memhp.hw.format import Format
from memhp.units import KiB


def chosen(formats: Iterable[Format], page_size: int, va_bits: int, pa_bits: int | None = None) -> Format:
    """The first of one architecture's formats with pages of `page_size` bytes and these address sizes in bits.

    Raises :class:`BadInput` that names what there is.
    """
    there = tuple(formats)
    for fmt in there:
        if (fmt.page_size, fmt.va_bits) == (page_size, va_bits) and pa_bits in (None, fmt.pa_bits):
            return fmt
    wanted = f"{there[0].arch} with {page_size // KiB}K pages and {va_bits}-bit addresses"
    if pa_bits is not None:
        wanted += f" ({pa_bits} bits physical)"
    raise BadInput(f"no page-table format for {wanted}", fix="there are " + ", ".join(fmt.name for fmt in there))
