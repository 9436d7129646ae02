"""``/dev/kmsg``: the kernel log, a record a read: ``kernel/printk/printk.c``, Documentation/ABI/testing/dev-kmsg."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from dataclasses import dataclass, field
from errno import EINVAL

from memhp.errors import KernelError
from memhp.linux.state import Kernel
from memhp.twin.tree import Stream

LEVELS = {"emerg": 0, "alert": 1, "crit": 2, "err": 3, "warn": 4, "notice": 5, "info": 6, "debug": 7}
"""``KERN_*``."""
NAMES = list(LEVELS)
DEFAULT_LEVEL = 4
"""``CONFIG_MESSAGE_LOGLEVEL_DEFAULT``."""
LOG_USER = 1
MOST_WRITTEN = 1024
"""``PRINTKRB_RECORD_MAX``; 6.1 takes 992 bytes."""
_PREFIX = re.compile(r"<(\d*)>", re.ASCII)


@dataclass
class _Written:
    """Lines that come from user space."""

    facilities: dict[int, int] = field(default_factory=dict)
    """By a line's number: whom it says that it is from."""


def kmsg(k: Kernel) -> Stream:
    """The log as a stream of records; what is written becomes a line of it."""

    def read(number: int) -> bytes | None:
        lines = k.hw.log_lines
        if number >= len(lines):
            return None
        line = lines[number]
        level = k.statics(_Written).facilities.get(number, 0) << 3 | LEVELS.get(line.level, 6)
        return f"{level},{number},{line.time // 1000},-;{escaped(line.text)}\n".encode()

    return Stream(0o644, read, lambda text: devkmsg_write(k, text))


def escaped(text: str) -> str:
    """A line as a record has it: what cannot be printed as a number (``msg_add_ext_text()``)."""
    data = text.encode(errors="surrogateescape")
    return "".join(chr(byte) if 0x20 <= byte < 0x7F and byte != 0x5C else f"\\x{byte:02x}" for byte in data)


def devkmsg_write(k: Kernel, text: str) -> None:
    """A line that may begin with ``<N>``, its level and whom it is from. Raises EINVAL for one that is too long."""
    if len(text.encode(errors="surrogateescape")) > MOST_WRITTEN:
        place = "kernel/printk/printk.c:devkmsg_write"
        raise KernelError(EINVAL, f"a line has at most {MOST_WRITTEN} bytes", place=place)
    prefix, level, facility = _PREFIX.match(text), DEFAULT_LEVEL, LOG_USER
    if prefix is not None:
        told = int(prefix[1] or "0") & 0xFFFFFFFF
        level, facility = told & 7, told >> 3 & 0xFF or LOG_USER
        text = text[prefix.end() :]
    k.statics(_Written).facilities[len(k.hw.log_lines)] = facility
    k.hw.log(text.removesuffix("\n"), NAMES[level])
