"""Events of devices as ``udevadm monitor --kernel --property`` prints them, in a file or a pipe."""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from memhp.errors import BadInput
from memhp.linux.lib.kobject_uevent import Uevent
from memhp.twin.machine import SECOND


def text_of(event: Uevent, now: int) -> str:
    """An event at `now`, nanoseconds of machine time: a line, its variables, and an empty line."""
    head = f"KERNEL[{now / SECOND:.6f}] {event.action:<8} {event.devpath} ({event.subsystem})"
    return "\n".join([head, *(f"{name}={value}" for name, value in event.environment), "", ""])


class UeventLog:
    """Where events are written. A pipe that nobody empties loses them, as the kernel's socket does. To be closed."""

    def __init__(self, path: Path, now: Callable[[], int]) -> None:
        flags = os.O_RDWR if path.is_fifo() else os.O_WRONLY | os.O_CREAT | os.O_APPEND
        try:
            self._file = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise BadInput(f"cannot write: {error.strerror}", where=str(path)) from None
        self._now = now

    def tell(self, event: Uevent) -> None:
        """Write an event."""
        with suppress(BlockingIOError):
            os.write(self._file, text_of(event, self._now()).encode())

    def close(self) -> None:
        """No more of them."""
        os.close(self._file)
