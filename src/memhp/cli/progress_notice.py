"""Long work says so, once a stage, where nobody would see its progress line."""
# SPDX-License-Identifier: GPL-2.0-or-later

from threading import Timer
from typing import Any

from rich.console import Console
from rich.progress import Progress, Task, TaskID

from memhp.cli.notice import PATIENCE, notice


class PatientProgress(Progress):
    """Progress for a stderr that is no terminal: one line after :data:`memhp.cli.notice.PATIENCE`, and nothing else.

    What resets a task begins a stage of its own, with a line of its own if that is long.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(console=console, disable=True)
        self._timer = self._new_timer()

    def _new_timer(self) -> Timer:
        timer = Timer(PATIENCE, self.tell)
        timer.daemon = True
        return timer

    def start(self) -> None:
        """Begin to wait."""
        super().start()
        self._timer.start()

    def reset(self, task_id: TaskID, **now: Any) -> None:
        """Begin another stage, and to wait anew."""
        super().reset(task_id, **now)
        self._timer.cancel()
        self._timer = self._new_timer()
        self._timer.start()

    def stop(self) -> None:
        """The work is done."""
        self._timer.cancel()
        super().stop()

    def tell(self) -> None:
        """Say what is being done, and how far it is."""
        for task in self.tasks:
            notice(task.description, _far(task))


def _far(task: Task) -> str:
    if not task.total:
        return ""
    if task.fields.get("share"):
        return f" ({task.completed / task.total:.0%} done)"
    return f" ({task.completed:.0f} of {task.total:.0f} done)"
