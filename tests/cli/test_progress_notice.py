"""Long work says so once on stderr, also where that is no terminal."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable
from pathlib import Path
from threading import Event, Timer

import pytest

from every_command import RUNS, world
from memhp.cli.at_work import at_work
from memhp.cli.main import main
from memhp.cli.notice import notice
from memhp.cli.output import progress
from memhp.cli.progress_notice import PatientProgress


def test_long_work_says_what_is_done_and_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with progress() as bar:
        assert isinstance(bar, PatientProgress)
        bar.add_task("rehearsing", total=3, completed=1)
        bar.tell()
    assert capsys.readouterr().err == "memhp: still at work: rehearsing (1 of 3 done)\n"


def test_work_without_steps_has_no_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    with progress() as bar:
        assert isinstance(bar, PatientProgress)
        bar.add_task("rehearsing", total=0)
        bar.tell()
    assert capsys.readouterr().err == "memhp: still at work: rehearsing\n"


class Wait:
    """A timer that rings when a test says so."""

    def __init__(self, bar: PatientProgress) -> None:
        self.rings = bar.tell

    def start(self) -> None:
        RUNNING.append(self)

    def cancel(self) -> None:
        if self in RUNNING:
            RUNNING.remove(self)


RUNNING: list[Wait] = []


def waiting(bar: PatientProgress) -> Wait:
    return Wait(bar)


def stages(cache: object, chosen: list[object], host: str, progress: Callable[[str, float], None]) -> list[str]:
    """Fetching whose first and third stage are long."""
    progress("package lists of riscv64", 0.5)
    RUNNING[0].rings()
    progress("package lists of riscv64", 1.0)
    progress("reading the package lists of riscv64", 0.0)
    progress("kernel 7.2.1", 0.0)
    RUNNING[0].rings()
    progress("kernel 7.2.1", 1.0)
    return ["7.2.1" for _ in chosen]


def test_each_stage_is_told_by_its_own_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(PatientProgress, "_new_timer", waiting)
    monkeypatch.setattr("memhp.target.guest.fetch.fetch", stages)
    assert main(["guest", "fetch", "7.2:riscv64"]) == 0
    assert capsys.readouterr().err == (
        "memhp: still at work: package lists of riscv64 (50% done)\nmemhp: still at work: kernel 7.2.1 (0% done)\n"
    )
    assert RUNNING == []


LONG = ("explore", "pagetables", "why", "blocks", "plan", "capture", "rehearse", "races", "matrix")
"""Commands whose work grows with what they are given."""


@pytest.mark.parametrize("command", LONG)
def test_work_that_may_be_long_is_announced(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    started: list[Timer] = []

    def start(timer: Timer) -> None:
        started.append(timer)
        raise KeyboardInterrupt  # that is all there is to see

    monkeypatch.chdir(tmp_path)
    with world(tmp_path, command):
        monkeypatch.setattr(Timer, "start", start)
        assert main([*command.split(), *RUNS[command].words]) == 130
    assert started


def test_work_of_unknown_length_says_what_is_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("memhp.cli.at_work.PATIENCE", 0)
    said = Event()

    def told(what: str, far: str) -> None:
        notice(what, far)
        said.set()

    monkeypatch.setattr("memhp.cli.at_work.notice", told)
    with at_work("reading \x1b[31m"):
        assert said.wait(10)
    assert capsys.readouterr().err == "memhp: still at work: reading \\x1b[31m\n"


def test_who_interrupts_work_is_told_how_far_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), at_work("exploring", lambda: " (7 executions so far)"):
        raise KeyboardInterrupt
    assert capsys.readouterr().err == "memhp: still at work: exploring (7 executions so far)\n"


def test_short_work_is_not_worth_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    with progress() as bar:
        bar.add_task("rehearsing", total=3)
    assert capsys.readouterr().err == ""
