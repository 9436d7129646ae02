"""Numbers and truth values as the kernel reads them from text: ``lib/kstrtox.c``. None stands for EINVAL and ERANGE."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re

KERNEL_FILE = "lib/kstrtox.c"
UINT_MAX = (1 << 32) - 1
ULLONG_MAX = (1 << 64) - 1

_NUMBER = re.compile(r"\+?(?:0[xX]([0-9a-fA-F]+)|(0[0-7]*)|([1-9][0-9]*))\n?")


def kstrtoull(text: str, most: int = ULLONG_MAX) -> int | None:
    """A number up to `most` in the base that its prefix says, as with base 0; one newline may follow."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    number = int(match[1], 16) if match[1] else int(match[2], 8) if match[2] else int(match[3])
    return number if number <= most else None


def kstrtouint(text: str) -> int | None:
    """The same for 32 bits."""
    return kstrtoull(text, UINT_MAX)


def kstrtobool(text: str) -> bool | None:
    """A truth value: the first letter decides, after ``o`` the second.

    Words that begin with ``e`` and ``d``, which 7.2 takes and 6.12 does not, are not taken.
    """
    word = text.lower()
    if word[:1] in {"y", "t", "1"} or word[:2] == "on":
        return True
    return False if word[:1] in {"n", "f", "0"} or word[:2] == "of" else None
