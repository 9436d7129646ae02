"""Long work says so, once, where nobody would see its progress line."""
# SPDX-License-Identifier: GPL-2.0-or-later

import sys
from threading import Timer

from rich.console import Console
from rich.progress import Progress

from memhp.printable import printable

PATIENCE = 5.0
"""Seconds of work after which something is said."""


class PatientProgress(Progress):
    """Progress for a stderr that is no terminal: one line after :data:`PATIENCE`, and nothing else."""

    def __init__(self, console: Console) -> None:
        super().__init__(console=console, disable=True)
        self._timer = Timer(PATIENCE, self.tell)
        self._timer.daemon = True

    def start(self) -> None:
        """Begin to wait."""
        super().start()
        self._timer.start()

    def stop(self) -> None:
        """The work is done."""
        self._timer.cancel()
        super().stop()

    def tell(self) -> None:
        """Say what is being done, and how far it is."""
        for task in self.tasks:
            far = "" if task.total is None else f" ({task.completed:.0f} of {task.total:.0f} done)"
            print(f"memhp: still at work: {printable(task.description)}{far}", file=sys.stderr, flush=True)
