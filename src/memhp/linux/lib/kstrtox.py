"""Numbers and truth values as the kernel reads them from text: ``lib/kstrtox.c``."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from errno import EINVAL, ERANGE

from memhp.errors import KernelError
from memhp.linux.place import here

KERNEL_FILE = "lib/kstrtox.c"
INT_MIN, INT_MAX = -(1 << 31), (1 << 31) - 1
UINT_MAX = (1 << 32) - 1
ULLONG_MAX = (1 << 64) - 1
LLONG_MAX = (1 << 63) - 1

_DIGITS = {8: "[0-7]", 10: "[0-9]", 16: "[0-9a-fA-F]"}
_PREFIX = re.compile(r"0[xX](?=[0-9a-fA-F])")


def kstrtoull(text: str, base: int = 0, most: int = ULLONG_MAX) -> int:
    """A number up to `most`; base 0: the one that its prefix says. A plus may go before, and one newline follow.

    Raises ERANGE for a larger one, whatever follows if 64 bits do not hold it, and EINVAL for anything else.
    """
    digits = text.removeprefix("+")
    prefix = _PREFIX.match(digits)
    base = base or (16 if prefix else 8 if digits.startswith("0") else 10)
    digits = digits[prefix.end() :] if prefix and base == 16 else digits
    read = re.match(f"{_DIGITS[base]}*", digits)
    assert read is not None
    number = int(read[0] or "0", base)
    if number > ULLONG_MAX:
        raise KernelError(ERANGE, f"{text.strip()!r} does not fit 64 bits", place=here())
    if not read[0] or digits[read.end() :] not in ("", "\n"):
        raise KernelError(EINVAL, f"{text.strip()!r} is no number", place=here())
    if number > most:
        raise KernelError(ERANGE, f"{text.strip()!r} is more than {most}", place=here())
    return number


def kstrtouint(text: str, base: int = 0) -> int:
    """The same for 32 bits."""
    return kstrtoull(text, base, UINT_MAX)


def kstrtoll(text: str, base: int = 0) -> int:
    """A number of 64 bits with a sign."""
    if not text.startswith("-"):
        return kstrtoull(text, base, LLONG_MAX)
    if text.startswith("-+"):
        raise KernelError(EINVAL, f"{text.strip()!r} is no number", place=here())
    return -kstrtoull(text[1:], base, LLONG_MAX + 1)


def kstrtoint(text: str, base: int = 0) -> int:
    """The same for 32 bits. Raises ERANGE for what they do not hold."""
    number = kstrtoll(text, base)
    if not INT_MIN <= number <= INT_MAX:
        raise KernelError(ERANGE, f"{text.strip()!r} does not fit 32 bits", place=here())
    return number


def kstrtobool(text: str) -> bool | None:
    """A truth value: the first letter decides, after ``o`` the second. None for what is none.

    Words that begin with ``e`` and ``d``, which 7.2 takes and 6.12 does not, are not taken.
    """
    word = text.lower()
    if word[:1] in {"y", "t", "1"} or word[:2] == "on":
        return True
    return False if word[:1] in {"n", "f", "0"} or word[:2] == "of" else None
