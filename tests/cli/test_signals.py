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

from every_command import RUNS, commands, world

SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
TIMES = int(os.environ.get("MEMHP_SIGNAL_TIMES", "1"))
"""How often each command is interrupted; which signal comes when follows from the number."""
LONGEST_WAIT = 1.5
"""Seconds after which most of them are at work, and the shortest are about to end."""
LEFT = {"page.html", "root", "copy.tar.xz", "again.json", "device", "control", "journal", "conform", "cache"}
"""What a run may leave behind: its outputs, whole, and what was fetched, from which a next fetch goes on."""


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


def test_every_command_is_interrupted() -> None:
    assert sorted(RUNS) == sorted(commands())


@pytest.mark.parametrize("number", range(TIMES))
@pytest.mark.parametrize("command", RUNS)
def test_an_interrupt_at_any_moment(command: str, number: int, tmp_path: Path) -> None:
    chance = random.Random(f"{command} {number}")
    sent, code = chance.choice(list(SIGNALS.items()))
    with world(tmp_path, command) as environment:
        before = {path.name for path in tmp_path.iterdir()}
        with subprocess.Popen(
            [sys.executable, "-m", "memhp", *command.split(), *RUNS[command].words],
            cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, start_new_session=True,
        ) as process:  # fmt: skip
            while process.poll() is None and not takes_signals(process.pid):
                time.sleep(0.002)
            time.sleep(chance.random() ** 2 * LONGEST_WAIT)
            chance.choice((os.kill, os.killpg))(process.pid, sent)
            try:
                out, err = process.communicate(timeout=120)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
    assert "Traceback" not in out + err, (command, sent, err)
    said = [line for line in err.splitlines() if not line.startswith("memhp: still at work: ")]
    if process.returncode == code:
        assert said == ["memhp: interrupted"]
    else:  # it had ended by then
        assert process.returncode in RUNS[command].codes, (command, sent, err)
        assert "interrupted" not in err
    assert children(process.pid) == []
    assert {path.name for path in tmp_path.iterdir()} - before <= LEFT


def test_a_request_that_was_swallowed_is_made_again() -> None:
    code = (
        "import os, signal, sys, time\n"
        "from memhp.cli import signals\n"
        "signals.AGAIN_SECONDS = 0.05\n"
        "signals.raise_where_it_is()\n"
        "try:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(5)\n"
        "except KeyboardInterrupt:\n"
        "    pass\n"
        "try:\n"
        "    time.sleep(60)\n"
        "except KeyboardInterrupt:\n"
        "    signals.settle()\n"
        "    sys.exit(signals.exit_code())\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=50).returncode == 143


@pytest.mark.parametrize("end", ["return 0", "raise KeyboardInterrupt", "raise ValueError"])
def test_a_request_that_is_made_again_as_the_run_is_over_is_answered_like_the_first(end: str) -> None:
    code = (
        "import os, signal, sys\n"
        "from memhp.cli import entry, main, signals\n"
        "settle = signals.settle\n"
        "def asked_again():\n"
        "    signals.settle = settle\n"
        "    os.kill(os.getpid(), signal.SIGALRM)\n"
        "    settle()\n"
        "def run():\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "    except KeyboardInterrupt:\n"
        f"        {end}\n"
        "main.main, signals.settle = run, asked_again\n"
        "sys.exit(entry.entry())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=50, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (143, "", "memhp: interrupted\n")


def test_what_is_ignored_on_purpose_stays_ignored() -> None:
    code = (
        "import os, signal\n"
        "from memhp.cli import signals\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "signals.raise_where_it_is()\n"
        "os.kill(os.getpid(), signal.SIGHUP)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=50).returncode == 0


IMPORTED = ("memhp.cli.signals", "memhp.outputs", "memhp.outputs.whole")
"""Modules of memhp that the process's first one needs."""


@pytest.mark.parametrize("module", IMPORTED)
@pytest.mark.parametrize("ignored", [False, True])
def test_an_interrupt_while_memhp_is_imported_ends_it_without_a_traceback(module: str, ignored: bool) -> None:
    code = (
        "import os, sys\n"
        "sent = []\n"
        "class Interrupts:\n"
        "    def find_spec(name, *_):\n"
        f"        if name == {module!r}:\n"
        "            sent.append(name)\n"
        "            os.kill(os.getpid(), 2)\n"
        "sys.meta_path.insert(0, Interrupts)\n"
        "sys.argv[1:] = ['--version']\n"
        f"if {ignored}:\n"
        "    sys.modules['_signal'].signal(2, sys.modules['_signal'].SIG_IGN)\n"
        "from memhp.cli.entry import entry\n"
        "assert sent\n"
        "sys.exit(entry())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0 if ignored else -signal.SIGINT, ""), done.stderr
