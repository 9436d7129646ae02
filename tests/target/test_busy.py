"""Whether a guest is still at work is told by the processors that it wants, not by the time that it takes."""
# SPDX-License-Identifier: GPL-2.0-or-later

from pathlib import Path

from memhp.target.guest.busy import LEAST_SHARE, GuestClock, Idle, Turns, wanted


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


class Shared:
    """A process of two threads that get so much of a processor when they want one."""

    def __init__(self, share: float) -> None:
        self.now, self.share = 0.0, share
        self.threads = {"7": Turns(0, 0), "8": Turns(0, 0)}
        self.clock = GuestClock(1, threads=lambda _: dict(self.threads), clock=lambda: self.now)

    def passes(self, seconds: float, *, busy: bool = True) -> float:
        self.now += seconds
        if busy:
            ran, waited = self.threads["7"]
            self.threads["7"] = Turns(ran + self.share * seconds, waited + (1 - self.share) * seconds)
        return self.clock()


def test_a_guest_that_has_to_wait_for_its_turn_has_more_time() -> None:
    assert Shared(1.0).passes(10) == 10
    assert round(Shared(0.2).passes(10), 6) == 2
    starved = Shared(0.0)
    assert starved.passes(10) == 10 * LEAST_SHARE > 0


def test_a_guest_that_sleeps_has_the_time_that_passes() -> None:
    shared = Shared(0.2)
    assert shared.passes(10, busy=False) == 10
    assert round(shared.passes(10), 6) == 12
    shared.threads["9"] = Turns(0, 5)
    assert shared.passes(1, busy=False) == 13
