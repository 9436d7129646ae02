"""Sizes in bytes and page frame numbers (PFNs): constants, alignment, parsing, printing; counts and runs in words."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re

from memhp.errors import BadInput

KiB = 1 << 10
MiB = 1 << 20
GiB = 1 << 30
TiB = 1 << 40
PiB = 1 << 50
EiB = 1 << 60

MOST = 1 << 64
"""No size and no address is as large as this."""
_MOST_DIGITS = 20

_UNITS = (("EiB", EiB), ("PiB", PiB), ("TiB", TiB), ("GiB", GiB), ("MiB", MiB), ("KiB", KiB), ("B", 1))
_SUFFIX = {"": 1, "K": KiB, "M": MiB, "G": GiB, "T": TiB, "P": PiB, "E": EiB}
_SIZE = re.compile(r"(0[xX][0-9a-fA-F]+|0|[1-9]\d*)\s*([KMGTPE]?)(?:i?B)?", re.ASCII)


def parse_size(text: str | int, *, where: str = "size") -> int:
    """Bytes of a size as people write it: ``128M``, ``2GiB``, ``0x8000000`` or a plain number of bytes.

    Suffixes are powers of 1024, as in the kernel's ``memparse()``. Raises :class:`BadInput` naming `where`.
    """
    if isinstance(text, int):
        if text < 0:
            raise BadInput(f"want a size of zero or more bytes, got {text}", where=where)
        if text >= MOST:
            raise BadInput(f"{text:#x} does not fit into 64 bits", where=where, fix="write less")
        return text
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise BadInput(f"want a size such as 128M, 2G or 0x8000000, got {text!r}", where=where)
    base, digits = (16, match[1][2:]) if match[1][:2] in {"0x", "0X"} else (10, match[1])
    size = int(digits, base) * _SUFFIX[match[2]] if len(digits) <= _MOST_DIGITS else MOST
    if size >= MOST:
        raise BadInput(f"{text.strip()} does not fit into 64 bits", where=where, fix="write less")
    return size


def format_size(size: int) -> str:
    """A size in bytes for people: three significant digits in the largest unit that it fills.

    ``128 MiB``, ``1.5 GiB``, ``1012 GiB``; what is rounded keeps its zeros: ``25.0 GiB``. :func:`exact_size` for where
    it must be right to the byte.
    """
    at = next((at for at, (_, unit) in enumerate(_UNITS) if abs(size) >= unit), len(_UNITS) - 1)
    if at and size % _UNITS[at][1] and abs(round(size / _UNITS[at][1])) == 1024:
        at -= 1
    suffix, unit = _UNITS[at]
    value = abs(size) / unit
    places = 0 if value >= 99.95 else 1 if value >= 9.995 else 2
    text = f"{size / unit:.{places}f}"
    exact = places and (size * 10**places) % unit == 0
    return f"{text.rstrip('0').rstrip('.') if exact else text} {suffix}"


def exact_size(size: int) -> str:
    """A size in bytes, exactly: in the largest unit that tells it to three places.

    ``241.75 GiB``, ``1966084 KiB``, ``4097 B``.
    """
    for suffix, unit in _UNITS:
        if abs(size) >= unit and (size * 1000) % unit == 0:
            return f"{size / unit:.3f}".rstrip("0").rstrip(".") + f" {suffix}"
    return "0 B"


def format_count(count: int, what: str) -> str:
    """``1 step``, ``2 steps``, ``1 class``, ``2 classes``, ``1 entry``, ``2 entries``, ``1 leaf``, ``2 leaves``."""
    return f"{count} {what if count == 1 else _plural(what)}"


def _plural(what: str) -> str:
    """The plural of a noun, or of words that end in one."""
    if what.endswith("leaf"):
        return f"{what[:-1]}ves"
    if what.endswith("y") and what[-2:-1] not in "aeiou":
        return f"{what[:-1]}ies"
    return f"{what}es" if what.endswith(("s", "x")) else f"{what}s"


def format_range(first: int, last: int) -> str:
    """Numbers from `first` to `last`: ``3``, ``3–7``."""
    return str(first) if first == last else f"{first}–{last}"


def align_down(value: int, alignment: int) -> int:
    """The largest multiple of `alignment` (a power of two) that is not above `value`: ``ALIGN_DOWN()``."""
    return value & ~(alignment - 1)


def align_up(value: int, alignment: int) -> int:
    """The smallest multiple of `alignment` (a power of two) that is not below `value`: ``ALIGN()``."""
    return (value + alignment - 1) & ~(alignment - 1)


def is_aligned(value: int, alignment: int) -> bool:
    """Whether `value` is a multiple of `alignment` (a power of two): ``IS_ALIGNED()``."""
    return value & (alignment - 1) == 0


def div_round_up(value: int, unit: int) -> int:
    """``DIV_ROUND_UP()``."""
    return -(-value // unit)
