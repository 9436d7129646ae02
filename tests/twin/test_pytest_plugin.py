"""The fixture that tests of other projects use, on this project's own behalf."""
# SPDX-License-Identifier: GPL-2.0-or-later

from pathlib import Path

import pytest

from memhp.twin.pytest_plugin import TwinRunner
from twin_machines import SMALL
from twin_runs import needs_a_twin

STATE = "/sys/devices/system/memory/memory36/state"


def test_a_test_can_ask_what_a_tool_did_and_what_came_of_it(tmp_path: Path) -> None:
    needs_a_twin()
    machine = SMALL + '[[twin]]\nthen = { do = "refuse", blocks = [36], count = 1 }\n'
    script = f"echo offline > {STATE} || echo offline > {STATE}; cat {STATE}"
    done = TwinRunner(tmp_path).run(["sh", "-c", script], machine=machine, options=["--speed", "0"])
    assert (done.returncode, done.stdout) == (0, "offline\n")
    assert [entry.get("result", "ok") for entry in done.saw("write", "*/memory36/state", text="offline")] == [
        "EBUSY", "ok",
    ]  # fmt: skip
    assert len(done.saw("read", STATE, text="offline")) == 1
    assert done.document["verdict"] == "expected"
    assert {"first": 36, "last": 36, "state": "offline", "zone": ""} in done.document["blocks"]


def test_what_cannot_be_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no preset"):
        TwinRunner(tmp_path).run(["true"], machine="no-such-machine")
