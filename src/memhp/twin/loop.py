"""One loop that serves files and sockets, lets machine time pass, and waits for a command to end: nothing at once."""
# SPDX-License-Identifier: GPL-2.0-or-later

import selectors
from collections.abc import Callable

from memhp.twin.machine import Twin

LONGEST = 60.0
"""Seconds between two looks at the clock where nothing happens."""
AT_ONCE = 64
"""Requests of one source that are served before others have their turn."""


class Loop:
    """Whoever is to be called when a file descriptor has something to say."""

    def __init__(self, twin: Twin) -> None:
        self.twin = twin
        self.done = False
        self._selector = selectors.DefaultSelector()

    def add(self, fd: int, serve: Callable[[], object]) -> None:
        """Call `serve` whenever `fd` can be read."""
        self._selector.register(fd, selectors.EVENT_READ, serve)

    def remove(self, fd: int) -> None:
        """Nobody is to be called for `fd` any more."""
        self._selector.unregister(fd)

    def turn(self, timeout: float | None = None) -> None:
        """Wait until something happens, and deal with it."""
        due = self.twin.until_due()
        limits = [limit for limit in (due, timeout, LONGEST) if limit is not None]
        ready = self._selector.select(min(limits))
        self.twin.tick()
        for key, _ in ready:
            if key.fileobj in self._selector.get_map():
                key.data()

    def end(self) -> None:
        """It is done after this turn."""
        self.done = True

    def run(self) -> None:
        """Go on until somebody says that it is done."""
        while not self.done:
            self.turn()

    def close(self) -> None:
        """No more of it."""
        self._selector.close()
