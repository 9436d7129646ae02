"""Messages that are not printed more often than so many times in an interval: ``lib/ratelimit.c``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass, field

from memhp.hw.shared import marked
from memhp.linux.state import Kernel

KERNEL_FILE = "lib/ratelimit.c"
DEFAULT_RATELIMIT_INTERVAL = 5_000_000_000
"""Nanoseconds: five times HZ."""
DEFAULT_RATELIMIT_BURST = 10
"""Messages in an interval. include/linux/ratelimit_types.h."""


@dataclass
class RatelimitState:
    """``struct ratelimit_state`` as ``DEFINE_RATELIMIT_STATE()`` makes it of the two defaults.

    The kernel looks at it under a lock that nobody waits for; one CPU comes after the other here.
    """

    name: str
    begin: int | None = field(default=None, metadata=marked(lambda rs: rs.name))
    """Machine time in nanoseconds at which the interval began; None before the first message."""
    printed: int = field(default=0, metadata=marked(lambda rs: rs.name))
    missed: int = field(default=0, metadata=marked(lambda rs: rs.name))
    """Messages of the interval that were let through, and since the last that came after one, those that were not."""


def ratelimit(k: Kernel, rs: RatelimitState, func: str, messages: int) -> int:
    """How many of so many messages, all of this moment, `func` may print; the first of an interval tells of those that
    the one before left out. ___ratelimit().
    """
    now = k.hw.now
    k.hw.atomic(rs.name)
    if rs.begin is None:
        rs.begin = now
    if now > rs.begin + DEFAULT_RATELIMIT_INTERVAL:
        if rs.missed:
            k.hw.log(f"{func}: {rs.missed} callbacks suppressed", "warn")
            rs.missed = 0
        rs.begin, rs.printed = now, 0
    through = min(messages, DEFAULT_RATELIMIT_BURST - rs.printed)
    rs.printed += through
    rs.missed += messages - through
    return through
