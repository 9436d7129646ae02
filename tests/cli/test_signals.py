"""An interrupt at whatever moment, in whatever command: one line, the exit code that shells know, and nothing left."""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMANDS = {
    "rehearse": ["rehearse", "--machine", "x86-64tib", "--plug", "1T", "--html", "page.html", "--sysroot", "root"],
    "plan": ["rehearse", "--machine", "riscv-vm", "--plan", "2T", "--json"],
    "matrix": ["matrix", "--jobs", "2"],
    "explore": ["explore", "vmalloc-vs-hot-remove", "--variant", "V5"],
    "races": ["races", "--jobs", "2", "--json"],
    "claims": ["claims", "--json"],
    "geometry": ["geometry"],
}
SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
LONGEST_WAIT = 1.5
"""Seconds after which most of them are at work, and the shortest are about to end."""


def takes_signals(pid: int) -> bool:
    """Whether the process has got as far as memhp's first line: it catches SIGTERM then."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    caught = int(next(line for line in status.splitlines() if line.startswith("SigCgt:")).split()[1], 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


def children(session: int) -> list[int]:
    """The processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(entry.name))
    return found


@pytest.mark.parametrize("whole_group", [False, True], ids=["process", "group"])
@pytest.mark.parametrize("command", COMMANDS)
def test_an_interrupt_at_any_moment(command: str, whole_group: bool, tmp_path: Path) -> None:
    chance = random.Random(f"{command} {whole_group}")
    for number, code in SIGNALS.items():
        with subprocess.Popen(
            [sys.executable, "-m", "memhp", *COMMANDS[command]],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        ) as process:  # fmt: skip
            while process.poll() is None and not takes_signals(process.pid):
                time.sleep(0.002)
            time.sleep(chance.random() ** 2 * LONGEST_WAIT)
            (os.killpg if whole_group else os.kill)(process.pid, number)
            try:
                out, err = process.communicate(timeout=60)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
        assert "Traceback" not in out + err, (command, number, err)
        said = [line for line in err.splitlines() if not line.startswith("memhp: still at work: ")]
        if process.returncode == code:
            assert said == ["memhp: interrupted"]
        else:  # it had ended by then
            assert (process.returncode, said) == (0, []), (command, number, err)
        assert children(process.pid) == []
        left = {path.name for path in tmp_path.iterdir()} - {"page.html", "root"}
        assert left == set()


def test_a_request_that_was_swallowed_is_made_again() -> None:
    code = (
        "import os, signal, sys, time\n"
        "from memhp.cli import ending\n"
        "ending.AGAIN_SECONDS = 0.05\n"
        "ending.raise_where_it_is()\n"
        "try:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(5)\n"
        "except KeyboardInterrupt:\n"
        "    pass\n"
        "try:\n"
        "    time.sleep(60)\n"
        "except KeyboardInterrupt:\n"
        "    ending.settle()\n"
        "    sys.exit(ending.exit_code())\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=50).returncode == 143


def test_what_is_ignored_on_purpose_stays_ignored() -> None:
    code = (
        "import os, signal\n"
        "from memhp.cli import ending\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "ending.raise_where_it_is()\n"
        "os.kill(os.getpid(), signal.SIGHUP)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=50).returncode == 0
