"""A twin mounted at a folder of the host's, and unmounted whatever becomes of the process that serves it."""
# SPDX-License-Identifier: GPL-2.0-or-later

import errno
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from memhp.errors import BadInput
from memhp.twin import syscalls
from memhp.twin.namespace import FUSE, mount_fuse


@contextmanager
def mounted(folder: Path) -> Iterator[int]:
    """The ``/dev/fuse`` of a tree that is mounted at a folder meanwhile. Raises :class:`BadInput` when it cannot be.

    Root mounts it alone, anybody else by ``fusermount3``. A process of its own waits for the end, so that the mount
    does not outlive a process that was killed.
    """
    _let_go_of_a_dead_one(folder)
    if not folder.is_dir() or any(folder.iterdir()):
        raise BadInput("want an empty folder", where=str(folder))
    device = (_as_root if not os.geteuid() else _by_fusermount)(folder)
    ours, its = socket.socketpair()
    if not os.fork():
        _unmount_at_the_end(folder, device, ours, its)
    its.close()
    try:
        os.set_blocking(device, False)
        yield device
    finally:
        os.close(device)
        ours.close()


def _let_go_of_a_dead_one(folder: Path) -> None:
    """Unmount what a twin has left that was killed together with the process that sees to that."""
    try:
        with os.scandir(folder):  # what ``stat`` says of it the kernel may still know
            return
    except OSError as error:
        if error.errno == errno.ENOTCONN and _is_a_twins(folder):
            _unmount(folder)


def _is_a_twins(folder: Path) -> bool:
    """Whether what is mounted last at a folder is a twin's tree."""
    there = str(folder.parent.resolve() / folder.name)
    kinds = ""
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        head, _, tail = line.partition(" - ")
        if head.split()[4].encode().decode("unicode_escape") == there:
            kinds = tail.split()[0]
    return kinds == "fuse.memhp"


def _unmount(folder: Path) -> None:
    if not os.geteuid():
        syscalls.umount(str(folder), syscalls.MNT_DETACH)
    elif program := _fusermount():
        subprocess.run([program, "-u", "-z", "--", str(folder)], check=False)


def _fusermount() -> str | None:
    return shutil.which("fusermount3") or shutil.which("fusermount")


def _as_root(folder: Path) -> int:
    try:
        device = os.open(FUSE, os.O_RDWR | os.O_CLOEXEC)
        mount_fuse(device, str(folder))
    except OSError as error:
        raise BadInput(f"cannot mount: {error.strerror}", where=str(folder), fix="or run a COMMAND") from None
    return device


def _unmount_at_the_end(folder: Path, device: int, ours: socket.socket, its: socket.socket) -> None:
    """In a process of its own: wait until the other end of the line is closed, and unmount.

    fusermount3 has ``auto_unmount`` for that, and leaves the mount where only its owner may look at it.
    """
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    ours.close()
    os.close(device)
    null = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(null, standard)
    with suppress(OSError):
        its.recv(1)
    with suppress(OSError):
        _unmount(folder)
    os._exit(0)


def _by_fusermount(folder: Path) -> int:
    program = _fusermount()
    if program is None:
        raise BadInput("no fusermount3", where=str(folder), fix="install fuse3, or run a COMMAND, which needs none")
    ours, its = socket.socketpair()
    with ours:
        with its:
            words = [program, "-o", "default_permissions,fsname=memhp,subtype=memhp", "--", str(folder)]
            environment = {**os.environ, "_FUSE_COMMFD": str(its.fileno())}
            subprocess.run(words, env=environment, pass_fds=[its.fileno()], check=False)
        _, files, _, _ = socket.recv_fds(ours, 1, 1)
    if not files:
        raise BadInput("fusermount3 refused", where=str(folder), fix="a folder of your own")
    os.set_inheritable(files[0], False)
    return files[0]
