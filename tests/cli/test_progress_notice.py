"""Long work says so once on stderr, also where that is no terminal."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from memhp.cli.output import progress
from memhp.cli.progress_notice import PatientProgress


def test_long_work_says_what_is_done_and_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with progress() as bar:
        assert isinstance(bar, PatientProgress)
        bar.add_task("rehearsing", total=3, completed=1)
        bar.tell()
    assert capsys.readouterr().err == "memhp: still at work: rehearsing (1 of 3 done)\n"


def test_short_work_is_not_worth_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    with progress() as bar:
        bar.add_task("rehearsing", total=3)
    assert capsys.readouterr().err == ""
