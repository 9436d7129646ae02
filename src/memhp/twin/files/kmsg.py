"""``/dev/kmsg``: the kernel log, a record a read: ``kernel/printk/printk.c``, Documentation/ABI/testing/dev-kmsg."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.linux.state import Kernel
from memhp.twin.tree import Stream

LEVELS = {"emerg": 0, "alert": 1, "crit": 2, "err": 3, "warn": 4, "notice": 5, "info": 6, "debug": 7}
"""``KERN_*``."""
DEFAULT_LEVEL = "notice"
MOST_WRITTEN = 1024


def kmsg(k: Kernel) -> Stream:
    """The log as a stream of records; what is written becomes a line of it."""

    def read(number: int) -> bytes | None:
        lines = k.hw.log_lines
        if number >= len(lines):
            return None
        line = lines[number]
        text = line.text.replace("\n", "\n ")
        return f"{LEVELS.get(line.level, 6)},{number},{line.time // 1000},-;{text}\n".encode()

    def store(text: str) -> None:
        k.hw.log(text.rstrip("\n")[:MOST_WRITTEN], DEFAULT_LEVEL)

    return Stream(0o644, read, store)
