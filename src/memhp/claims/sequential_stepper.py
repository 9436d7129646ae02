"""A stepper that claims build on: it sees every access of a machine, and everything happens in its order."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable

from memhp.hw.stepper import Access, EachAlone
from memhp.hw.tlb import Table


class InOrder(EachAlone):
    """Nobody else runs, all loads of a run happen at once, and no allocation fails."""

    listens = False

    def step(self, access: Access) -> None:
        """Nobody else runs."""

    def data(self, name: str, start: int, end: int, *, write: bool) -> None:
        """Nobody else looks."""

    def loads(self, table: Table, index: int, count: int) -> int:
        """All at once."""
        return count

    def fails(self, site: str) -> bool:
        """No allocation does."""
        return False

    def wait(self, ready: Callable[[], bool], why: str, on: str) -> None:
        """Nobody else could end the wait. Raises RuntimeError."""
        if not ready():
            raise RuntimeError(f"waits for {why} on {on}")
