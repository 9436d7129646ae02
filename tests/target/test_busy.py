"""Whether a guest is still at work is told by the processors that it wants, not by the time that it takes."""
# SPDX-License-Identifier: GPL-2.0-or-later

from pathlib import Path

from memhp.target.guest.busy import Idle, wanted


class Machine:
    """A clock, and a process that wants so many processors from now on."""

    def __init__(self) -> None:
        self.now = self.used = self.processors = 0.0
        self.idle = Idle(1, want=self.threads, sleep=self.passes, clock=lambda: self.now)

    def threads(self, pid: int) -> dict[str, float]:
        """One that works, and three that wake now and then."""
        return {"7": self.used, **dict.fromkeys("345", 0.3 * self.now)}

    def passes(self, seconds: float) -> None:
        self.now += seconds
        self.used += seconds * self.processors


def test_a_guest_that_works_slowly_is_not_idle_however_long_it_takes() -> None:
    machine = Machine()
    machine.processors = 0.95
    for _ in range(600):
        machine.idle.pause(0.5)
        assert machine.idle.seconds == 0


def test_a_guest_without_work_is_idle_since_it_had_some() -> None:
    machine = Machine()
    machine.processors = 0.05
    machine.idle.pause(3)
    assert machine.idle.seconds == 3
    machine.processors = 1
    machine.idle.pause(1)
    assert machine.idle.seconds == 0
    machine.processors = 0.05
    machine.idle.pause(1)
    machine.idle.pause(1)
    assert machine.idle.seconds == 2


def test_what_it_does_because_somebody_looks_at_it_is_no_work() -> None:
    machine = Machine()
    for _ in range(5):
        machine.used += 1
        machine.idle.pause(1)
    assert machine.idle.seconds == 5


def test_what_a_thread_ran_and_waited_to_run_is_summed(tmp_path: Path) -> None:
    for thread, text in {"7": "1500000000 500000000 12\n", "8": "250000000 0 3\n", "9": ""}.items():
        (tmp_path / "7/task" / thread).mkdir(parents=True)
        (tmp_path / "7/task" / thread / "schedstat").write_text(text)
    assert wanted(7, tmp_path) == {"7": 2.0, "8": 0.25}
    assert wanted(8, tmp_path) == {}
