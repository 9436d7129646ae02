"""Every page-table format that any architecture has, by name."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.errors import BadInput
from memhp.hw.format import Format
from memhp.hw.formats import chosen
from memhp.linux.arch.registry import ARCHES, port, ports

FORMATS: dict[str, Format] = {fmt.name: fmt for each in ports() for fmt in each.formats}


def format_for(arch: str, page_size: int, va_bits: int, *, pa_bits: int | None = None) -> Format:
    """The format of one architecture with pages of `page_size` bytes and these address sizes in bits.

    Without `pa_bits` the usual one. Raises :class:`BadInput` that names what exists.
    """
    if arch not in ARCHES:
        raise BadInput(f"no page-table format for {arch}", fix="there are " + ", ".join(FORMATS))
    return chosen(port(arch).formats, page_size, va_bits, pa_bits)
