"""A twin that is mounted at a folder goes with the process that serves it, however that ends."""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from twin_machines import SMALL
from twin_runs import missing, scenario

MOUNTS = Path("/proc/self/mountinfo")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_mount_is_left(tmp_path: Path, number: signal.Signals) -> None:
    if missing() or (os.geteuid() and shutil.which("fusermount3") is None):
        pytest.skip(f"NO TWIN WAS RUN: {missing() or 'no fusermount3'}")
    folder = tmp_path / "mnt"
    folder.mkdir()
    words = [sys.executable, "-m", "memhp", "twin", "--mount", str(folder), scenario(tmp_path, SMALL)]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        state = folder / "sys/devices/system/memory/memory36/state"
        while not state.exists():
            if process.poll() is not None and process.stderr is not None:
                pytest.fail(process.stderr.read())
            time.sleep(0.05)
        assert state.read_text() == "online\n"
        assert str(folder) in MOUNTS.read_text()
        process.send_signal(number)
    assert process.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 0)
    while str(folder) in MOUNTS.read_text():
        time.sleep(0.05)
    assert list(folder.iterdir()) == []
