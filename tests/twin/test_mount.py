"""A twin that is mounted at a folder goes with the process that serves it, however that ends."""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from memhp.twin.control import ask
from twin_machines import SMALL
from twin_runs import missing, scenario

SECONDS = 60
MOUNTS = Path("/proc/self/mountinfo")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_mounted_twin_wakes_who_waits_for_the_log_and_leaves_no_mount(tmp_path: Path, number: signal.Signals) -> None:
    if missing() or (os.geteuid() and shutil.which("fusermount3") is None):
        pytest.skip(f"NO TWIN WAS RUN: {missing() or 'no fusermount3'}")
    folder = tmp_path / "mnt"
    folder.mkdir()
    control = tmp_path / "ctl"
    words = [sys.executable, "-m", "memhp", "twin", "--mount", str(folder), "--ctl", str(control)]
    words.append(scenario(tmp_path, SMALL))
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            _watch(process, folder, control)
        except BaseException:
            process.kill()
            raise
        process.send_signal(number)
    assert process.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 0)
    while str(folder) in MOUNTS.read_text():
        time.sleep(0.05)
    assert list(folder.iterdir()) == []


def _watch(process: "subprocess.Popen[str]", folder: Path, control: Path) -> None:
    """Read the files, and wait for what the log has to say of a change."""
    state = folder / "sys/devices/system/memory/memory36/state"
    while not state.exists():
        if process.poll() is not None and process.stderr is not None:
            pytest.fail(process.stderr.read())
        time.sleep(0.05)
    assert state.read_text() == "online\n"
    assert str(folder) in MOUNTS.read_text()
    with (folder / "dev/kmsg").open("rb", buffering=0) as log:
        os.set_blocking(log.fileno(), False)
        while log.read(8192) is not None:
            pass
        waiting = select.poll()
        waiting.register(log, select.POLLIN)
        assert waiting.poll(0) == []
        assert ask(control, {"do": "offline", "blocks": [36]}).result == "ok"
        assert waiting.poll(SECONDS * 1000) == [(log.fileno(), select.POLLIN)]
    assert state.read_text() == "offline\n"
