"""Long work says so once on stderr, also where that is no terminal."""
# SPDX-License-Identifier: GPL-2.0-or-later

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

    def told(what: str) -> None:
        notice(what)
        said.set()

    monkeypatch.setattr("memhp.cli.at_work.notice", told)
    with at_work("reading \x1b[31m"):
        assert said.wait(10)
    assert capsys.readouterr().err == "memhp: still at work: reading \\x1b[31m\n"


def test_short_work_is_not_worth_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    with progress() as bar:
        bar.add_task("rehearsing", total=3)
    assert capsys.readouterr().err == ""
