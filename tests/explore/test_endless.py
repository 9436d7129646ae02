"""Code of a race that never comes back is an error with its place, wherever it stands; many steps are not."""
# SPDX-License-Identifier: GPL-2.0-or-later

import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Thread
from types import FrameType

import pytest

from memhp.cli.main import main
from memhp.errors import BadInput
from memhp.explore.cases import case
from memhp.explore.doors import endless
from memhp.explore.doors.endless import Endless, Watch, bounded
from memhp.explore.doors.run import KernelProgram, KernelRun
from memhp.explore.explored import How, explore, replay_schedule
from memhp.explore.parallel import Job, run_jobs
from memhp.linux.state import Kernel

OWN = """\
from dataclasses import replace
from memhp.explore.cases.two_table_allocs import CASE as ANOTHER
{module}
def check(k):
    {check}
def build(variant, configuration):
    {build}
    return replace(ANOTHER.build(variant, configuration), check=check, actors=(actor, actor), names=("one", "two"))
def helper():
    while True: pass
def actor(k):
    with k.hw.locked("lock"):
        {actor}
CASE = replace(ANOTHER, build=build)
"""
VARIANT = "looked-at-again"
ALWAYS = "while True: len('') "
SHORT = How(step_seconds=0.05)
GOOD = {"module": "", "check": "return None", "build": "pass", "actor": "pass"}
PLACES = {
    "actor": ("own.py:13: one did nothing that others could see for 0.05 s of processor time"),
    "check": ("own.py:5: check did not end within 0.05 s of processor time"),
    "build": ("own.py:7: build() did not end within 0.05 s of processor time"),
    "module": ("own.py:3: the file did not end within 0.05 s of processor time"),
}


def own(folder: Path, **parts: str) -> str:
    file = folder / "own.py"
    file.write_text(OWN.format(**GOOD | parts), encoding="utf-8")
    return str(file)


def timer() -> tuple[object, float]:
    return signal.getsignal(signal.SIGVTALRM), signal.getitimer(signal.ITIMER_VIRTUAL)[1]


@pytest.fixture(autouse=True)
def nothing_is_left() -> object:
    before = timer()
    yield None
    assert timer() == before == (signal.SIG_DFL, 0)


@pytest.mark.parametrize("where", PLACES)
def test_a_loop_without_end_is_an_error_with_its_place(tmp_path: Path, where: str) -> None:
    file = own(tmp_path, **{where: ALWAYS})
    with pytest.raises(BadInput) as raised, bounded(0.05):
        explore(file, VARIANT, how=SHORT)
    assert str(raised.value) == (
        f"{tmp_path}/{PLACES[where]} (end the loop, or give it more time: --step-seconds N)"
    )


@pytest.mark.parametrize(("text", "line"), [("helper()", 10), ("while True: k.nodes[0].zones", 13)])
def test_of_calls_the_innermost_line_of_the_users_file_counts(tmp_path: Path, text: str, line: int) -> None:
    with pytest.raises(BadInput, match=f"own.py:{line}: one did nothing"):
        explore(own(tmp_path, actor=text), VARIANT, how=SHORT)


def test_a_replay_tells_it_too(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="one did nothing"):
        replay_schedule(own(tmp_path, actor=ALWAYS), VARIANT, None, "a", extend=5, step_seconds=0.05)


def test_no_except_of_exceptions_keeps_it() -> None:
    def actor(k: Kernel) -> None:
        while True:
            with suppress(Exception):
                k.nonsense()  # type: ignore[attr-defined]

    with pytest.raises(BadInput, match="one did nothing"), bounded(0.05):
        run_of(actor).step(0, 0)


def test_the_command_says_it_in_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["explore", own(tmp_path, actor=ALWAYS), "--variant", VARIANT, "--step-seconds", "1"]) == 2
    out, err = capfd.readouterr()
    said = [line for line in err.splitlines() if not line.startswith("memhp: still at work")]
    assert (out, len(said)) == ("", 1)
    assert said[0].startswith(f"memhp: {tmp_path}/own.py:13: one did nothing that others could see for 1 s")


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_tell_it(tmp_path: Path, workers: int) -> None:
    limits = replace(case("two-table-allocs").limits, step_seconds=0.05)
    jobs = [Job(own(tmp_path, actor=ALWAYS), VARIANT, limits=limits)]
    with pytest.raises(BadInput, match="one did nothing that others could see for"):
        run_jobs(jobs, workers=workers)


def run_of(actor: Callable[[Kernel], None]) -> KernelRun:
    one = case("two-table-allocs")
    return KernelProgram(one.program(VARIANT).kernel, (actor,), ("one",)).run()


def test_a_call_is_too_long_and_many_calls_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(0, 1000, 20))
    monkeypatch.setattr(endless, "thread_time", lambda: next(now))
    watch = Watch()

    def actor(k: Kernel) -> None:
        watch.look()
        watch.look()
        for _ in range(3):
            with k.hw.locked("lock"):
                watch.look()
                watch.look()
        watch.look()
        watch.look()
        watch.look()

    run = run_of(actor)
    for _ in range(6):  # the first, and what takes the lock three times and gives it back twice
        run.step(0, 0)
    with pytest.raises(BadInput, match="one did nothing that others could see for 30 s"):
        run.step(0, 0)


def test_whoever_has_the_signal_keeps_it() -> None:
    def theirs(_: int, __: FrameType | None) -> None:
        """Another's handler."""

    signal.signal(signal.SIGVTALRM, theirs)
    try:
        with bounded(0.01):
            assert timer() == (theirs, 0)
        assert timer() == (theirs, 0)
    finally:
        signal.signal(signal.SIGVTALRM, signal.SIG_DFL)


def test_in_another_thread_nothing_is_bounded_and_all_is_decided() -> None:
    found = []
    thread = Thread(target=lambda: found.append((explore("two-table-allocs", VARIANT).verdict, timer())))
    thread.start()
    thread.join()
    assert found == [("safe", (signal.SIG_DFL, 0))]


def test_bounds_within_bounds_end_with_them() -> None:
    with bounded(100):
        with bounded(0.05):
            assert timer()[1] == pytest.approx(0.005)
        assert timer()[1] == pytest.approx(1)


def test_a_call_that_is_too_long_is_told_again_where_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(0, 1000, 20))
    monkeypatch.setattr(endless, "thread_time", lambda: next(now))
    watch = Watch()
    watch.calls.append(object())
    watch.look()
    watch.look()
    for _ in range(2):
        with pytest.raises(Endless):
            watch.look()
    watch.calls.pop()
    watch.look()
