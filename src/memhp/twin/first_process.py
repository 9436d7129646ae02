"""The first process of a PID namespace: it runs the command, and all that is left ends with it, whoever was killed.

The twin's child is not in the namespace; it waits for the first process, which is, so that signals have a way in and
the exit code a way out. Each asks the kernel for its own death with its parent's, and the kernel kills all of a
namespace whose first process dies: no process of ours has to be alive for that.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import signal
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NoReturn

from memhp.twin.syscalls import MS_NODEV, MS_NOEXEC, MS_NOSUID, mount

NOT_FOUND, NOT_RUN = 127, 126
"""How a process ends that cannot run the command, as shells say it."""
PASSED_ON = (signal.SIGTERM, signal.SIGHUP)
DEFAULT = (signal.SIGINT, *PASSED_ON, signal.SIGPIPE, signal.SIGALRM)


def wait_outside(pid: int) -> NoReturn:
    """In the twin's child: wait for the first process, and end as it does."""
    _pass_on(pid)
    _, status = os.waitpid(pid, 0)
    os._exit(shell_code(status))


def mount_own_proc() -> None:
    """Have ``/proc`` show the processes of this namespace, where the host's has nothing mounted over any of its files.

    In containers it mostly has, and the kernel refuses: then ``/proc`` goes on to number processes as the host does.
    """
    with suppress(OSError):
        mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)


def run_first(command: Sequence[str], environment: Mapping[str, str], line: socket.socket) -> NoReturn:
    """Run the command, reap whatever loses its parent, and say the command's exit code over the line, a byte.

    That is said before anything else ends: some of it may wait for files that the twin serves, and which are let go of
    by whoever hears it.
    """
    pid = os.fork()
    if not pid:
        _execute(command, environment)
    _pass_on(pid)
    ended, status = os.wait()
    while ended != pid:
        ended, status = os.wait()
    code = shell_code(status)
    with suppress(OSError):
        line.send(bytes([code]))
    os._exit(code)


def shell_code(status: int) -> int:
    """An exit code as a shell gives it."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _pass_on(pid: int) -> None:
    """Signals that are to end a command go to another process; an interrupt comes to it from its terminal."""

    def pass_on(number: int, _: object) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, number)

    for number in PASSED_ON:
        signal.signal(number, pass_on)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _execute(command: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    for number in DEFAULT:
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(command[0], list(command), dict(environment))
    except FileNotFoundError:
        os.write(2, f"memhp: {command[0]}: no such command\n".encode())
        os._exit(NOT_FOUND)
    except OSError as error:
        os.write(2, f"memhp: {command[0]}: {error.strerror}\n".encode())
        os._exit(NOT_RUN)
