"""Whether a guest is still at work is told by the processors that it wants, not by the time that it takes."""
# SPDX-License-Identifier: GPL-2.0-or-later

from pathlib import Path

from memhp.target.guest.busy import WINDOW, Idle, wanted


class Machine:
    """A clock, and a process that wants so many processors."""

    def __init__(self) -> None:
        self.now = self.used = 0.0

    def passes(self, seconds: float, processors: float) -> None:
        self.now += seconds
        self.used += seconds * processors


def idle_of(machine: Machine) -> Idle:
    return Idle(1, lambda _: machine.used, lambda: machine.now)


def test_a_guest_that_works_slowly_is_not_idle_however_long_it_takes() -> None:
    machine = Machine()
    idle = idle_of(machine)
    for _ in range(600):
        machine.passes(WINDOW, 1.2)
        assert idle.seconds() == 0


def test_a_guest_without_work_is_idle_since_it_had_some() -> None:
    machine = Machine()
    idle = idle_of(machine)
    machine.passes(WINDOW, 1.0)
    assert idle.seconds() == 0
    for _ in range(10):
        machine.passes(WINDOW, 0.05)
        idle.seconds()
    assert idle.seconds() == 10 * WINDOW


def test_looks_in_quick_succession_are_no_measurement() -> None:
    machine = Machine()
    idle = idle_of(machine)
    machine.passes(WINDOW / 4, 2.0)
    assert idle.seconds() == WINDOW / 4
    machine.passes(WINDOW, 0.5)
    assert idle.seconds() == 0


def test_what_all_threads_ran_and_waited_to_run_is_summed(tmp_path: Path) -> None:
    for thread, text in {"7": "1500000000 500000000 12\n", "8": "250000000 0 3\n", "9": ""}.items():
        (tmp_path / "7/task" / thread).mkdir(parents=True)
        (tmp_path / "7/task" / thread / "schedstat").write_text(text)
    assert wanted(7, tmp_path) == 2.25
    assert wanted(8, tmp_path) == 0
