"""Long work says so, once, where nobody would see its progress line."""
# SPDX-License-Identifier: GPL-2.0-or-later

from threading import Timer

from rich.console import Console
from rich.progress import Progress

from memhp.cli.notice import PATIENCE, notice


class PatientProgress(Progress):
    """Progress for a stderr that is no terminal: one line after :data:`memhp.cli.notice.PATIENCE`, and nothing else."""

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
            notice(task.description, far)
