"""Twins that are killed, with those that help them, at moments of their lives: nothing is left, and nobody waits."""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kill_twins import Moment, children, kill_mounted, kill_one, readable
from twin_runs import needs_a_twin


def until(what: Callable[["subprocess.Popen[bytes]", Path], object]) -> Moment:
    """The moment from which something is so."""

    def wait(process: "subprocess.Popen[bytes]", path: Path) -> None:
        while not what(process, path):
            assert process.poll() is None
            time.sleep(0.01)

    return wait


HAS_A_CHILD = until(lambda process, _: children(process.pid))
HAS_A_NAMESPACE = until(lambda process, _: any(map(children, children(process.pid))))
SERVES = until(lambda _, path: readable(path))


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize(
    ("kinds", "moment"),
    [
        ("twin", HAS_A_CHILD), ("twin", HAS_A_NAMESPACE), ("twin", SERVES), ("twin outside", HAS_A_CHILD),
        ("twin outside first", SERVES), ("twin outside", SERVES), ("twin first", HAS_A_NAMESPACE), ("outside", SERVES),
        ("first", SERVES), ("tool", SERVES),
    ],
)  # fmt: skip
def test_whoever_is_killed_nothing_of_a_twin_is_left(
    tmp_path: Path, kinds: str, moment: Moment, exact: bool
) -> None:
    needs_a_twin()
    assert kill_one(tmp_path, 1, exact=exact, kinds=kinds, moment=moment) == ""


@pytest.mark.parametrize("kinds", ["twin", "twin outside"])
def test_a_folder_can_be_had_again_whoever_of_those_that_served_it_was_killed(tmp_path: Path, kinds: str) -> None:
    needs_a_twin()
    if os.geteuid():
        pytest.skip("NO MOUNTED TWIN WAS KILLED: only root is sure to have what unmounts it")
    assert kill_mounted(tmp_path, 1, kinds=kinds, moment=SERVES) == ""
