"""A process whose ``/sys`` and ``/proc`` are the twin's: user, mount and PID namespaces of its own, which die with it.

The files are bound over the host's one by one; all else of ``/sys`` stays the host's, read-only. What is run is run
only when every file of the twin is in its place, so that nothing it writes to these paths can reach the host.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import errno
import os
import signal
import socket
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from memhp.errors import BadInput
from memhp.twin import syscalls
from memhp.twin.first_process import mount_own_proc, run_first, shell_code, wait_outside
from memhp.twin.syscalls import MNT_DETACH, MS_BIND, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_PRIVATE, MS_RDONLY, MS_REC

FUSE = "/dev/fuse"
STAGES = ("/sys/class", "/sys/fs")
"""Where the twin's trees are mounted while their parts are bound, in the namespace only."""
MOST_LISTED = 1 << 16
"""Folders that are listed before the command begins, so that the kernel keeps what is in them."""
NOT_READY = 125
"""How a process ends whose namespace could not be made."""
UNSHARED, MAPPED, READY, GO = b"u", b"m", b"r", b"g"
"""Words between the process and whoever started it: its namespace is there, its users are mapped, its files are, and
it may run the command."""
OUTSIDE = 0
"""The number of a parent that is in no namespace of its child's."""
DEBUG = "/sys/kernel/debug"
OPTIONAL = (DEBUG, "/dev/kmsg")
"""Paths of the twin that a host may lack without harm: what is not there on it cannot be written to."""
LOCKED = MS_NOSUID | MS_NODEV | MS_NOEXEC | os.ST_NOATIME | os.ST_NODIRATIME
"""Flags of a mount that a user namespace may not take away: they have the same bits in statvfs and mount."""
MS_RELATIME = 1 << 21


class NoNamespace(BadInput):
    """The host lets nobody have a namespace, or a file of the twin cannot be bound."""


def start(command: Sequence[str], trees: Sequence[Collection[str]], environment: Mapping[str, str]) -> "Inside":
    """Fork a process that gets namespaces and a FUSE mount for each tree, and runs the command when all is in place.

    `trees` are the paths of each, two trees at most.
    """
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    parent = os.getpid()
    pid = os.fork()
    if not pid:
        ours.close()
        _child(command, trees, environment, its, parent)
    its.close()
    return Inside(pid, ours)


class Inside:
    """The process on the inside, from the outside."""

    def __init__(self, pid: int, line: socket.socket) -> None:
        self.pid = pid
        self.line = line
        self.running = False
        """Whether it was let run the command."""
        self._told: int | None = None
        self._ended: int | None = None

    def connect(self) -> list[int]:
        """Map its users, and get the ``/dev/fuse`` of each tree, that it is served through.

        Raises :class:`NoNamespace` when it gets no namespace.
        """
        self._expect(UNSHARED)
        try:
            _map_users(self.pid)
        except OSError as error:
            self._fail(f"users cannot be mapped: {error.strerror}")
        self.line.send(MAPPED)
        told, files, _, _ = socket.recv_fds(self.line, 4096, len(STAGES))
        if not files:
            self._fail(told.decode(errors="replace"))
        for each in files:
            os.set_blocking(each, False)
        return files

    def ready(self) -> None:
        """Its line says that all files are in place. Raises :class:`NoNamespace` if it says anything else."""
        self._expect(READY)

    def go(self) -> None:
        """Have it run the command."""
        self.running = True
        self.line.send(GO)

    def hear_the_end(self) -> None:
        """Its line says the command's exit code, or nothing more because it was killed."""
        code = self.line.recv(1)
        self._told = code[0] if code else None

    def _expect(self, word: bytes) -> None:
        told = self.line.recv(4096)
        if told != word:
            self._fail(told.decode(errors="replace") or "it has gone")

    def _fail(self, text: str) -> NoReturn:
        self.end(signal.SIGKILL)
        self.wait()
        fix = "it takes /dev/fuse, and user namespaces: see docs/twin.md"
        raise NoNamespace(text, where="namespace", fix=fix)

    def end(self, number: int) -> None:
        """Send it a signal, if it is still there."""
        if self._ended is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def wait(self) -> int:
        """The command's exit code, as a shell gives it, when all processes of the namespace have ended.

        Whoever of them waits for a file goes on to do so until it is served or its ``/dev/fuse`` is closed.
        """
        if self._ended is None:
            _, status = os.waitpid(self.pid, 0)
            self._ended = shell_code(status) if self._told is None else self._told
            self.line.close()
        return self._ended


def _map_users(pid: int) -> None:
    """Root may keep all users as they are; anybody else becomes root on the inside."""
    proc = Path("/proc") / str(pid)
    if os.geteuid():
        (proc / "setgroups").write_text("deny")
        (proc / "uid_map").write_text(f"0 {os.geteuid()} 1")
        (proc / "gid_map").write_text(f"0 {os.getegid()} 1")
        return
    for name in ("uid_map", "gid_map"):
        lines = (line.split() for line in Path("/proc/self", name).read_text().splitlines())
        (proc / name).write_text("".join(f"{inside} {inside} {count}\n" for inside, _, count in lines))


def _child(
    command: Sequence[str],
    trees: Sequence[Collection[str]],
    environment: Mapping[str, str],
    line: socket.socket,
    parent: int,
) -> NoReturn:
    try:
        try:
            if not os.geteuid():
                _mount_debugfs()
            syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS | syscalls.CLONE_NEWPID)
            syscalls.die_with_parent(parent)
            line.send(UNSHARED)
            if line.recv(16) != MAPPED:
                os._exit(NOT_READY)
            syscalls.mount("none", "/", flags=MS_REC | MS_PRIVATE)
            devices = [os.open(FUSE, os.O_RDWR | os.O_CLOEXEC) for _ in trees]
            for device, stage in zip(devices, STAGES, strict=False):
                mount_fuse(device, stage)
            socket.send_fds(line, [READY], devices)
            for device in devices:
                os.close(device)
            # Who asks for a file has the number in the record that it has outside, as the mounts were made there.
            first = os.fork()
            if first:
                line.close()
                wait_outside(first)
            syscalls.die_with_parent(OUTSIDE)
            mount_own_proc()
            bind(dict(zip(STAGES, trees, strict=False)))
            for paths in trees[1:]:
                have_listed(paths)
            line.send(READY)
            if line.recv(16) != GO:
                os._exit(NOT_READY)
        except OSError as error:
            line.send(_told(error).encode()[:4000])
            os._exit(NOT_READY)
        run_first(command, environment, line)
    finally:
        os._exit(NOT_READY)


def _mount_debugfs() -> None:
    """Have a debugfs where tools look for one, which only root may mount; the twin's files come over it."""
    with suppress(OSError):
        syscalls.unshare(syscalls.CLONE_NEWNS)
        syscalls.mount("none", "/", flags=MS_REC | MS_PRIVATE)
        if not Path(DEBUG, "tracing").exists():
            syscalls.mount("debugfs", DEBUG, "debugfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)


def _told(error: OSError) -> str:
    name = f"{error.filename}: " if error.filename else ""
    return f"{name}{error.strerror or error}"


def mount_fuse(device: int, where: str) -> None:
    """Mount the tree that is served through a ``/dev/fuse``, which root may do."""
    data = f"fd={device},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other"
    syscalls.mount("memhp", where, "fuse.memhp", MS_NOSUID | MS_NODEV | MS_NOEXEC, data)


def bind(trees: Mapping[str, Iterable[str]]) -> None:
    """Put the files mounted at each stage over those of the same path, and see that each is there; then let stages go.

    Raises OSError when one is not.
    """
    devices = {stage: Path(stage).stat().st_dev for stage in trees}
    wanted = {
        Path(path): stage for stage, paths in trees.items() for path in paths
        if Path(path).exists() or path not in OPTIONAL
    }  # fmt: skip
    for path in read_only_mounts(Path("/proc/self/mountinfo").read_text(encoding="utf-8")):
        flags = os.statvfs(path).f_flag
        keep = flags & LOCKED | (MS_RELATIME if flags & os.ST_RELATIME else 0)
        syscalls.mount("none", path, flags=MS_BIND | syscalls.MS_REMOUNT | MS_RDONLY | keep)
    covered: set[Path] = set()
    for target, stage in wanted.items():
        _make_room(target, covered, folder=Path(f"{stage}{target}").is_dir())
        syscalls.mount(f"{stage}{target}", str(target), flags=MS_BIND)
        if target.stat().st_dev != devices[stage]:
            raise OSError(errno.EBUSY, f"{target} is still the host's")
    for stage in trees:
        syscalls.umount(stage, MNT_DETACH)


def have_listed(paths: Iterable[str]) -> None:
    """List folders and those in them, so that the kernel keeps what is there: many tools stop half-way in a listing."""
    for path in paths:
        with os.scandir(path) as found:
            inside = [each.path for each in found if each.is_dir(follow_symlinks=False)]
        for each in inside[:MOST_LISTED]:
            with os.scandir(each) as names:
                deque(names, maxlen=0)
            os.stat(each)  # noqa: PTH116 - listing a folder, the kernel forgets when that was done last


def read_only_mounts(mountinfo: str) -> list[str]:
    """Where the host's kernel is to be seen and not to be changed: mounts of sysfs and debugfs."""
    found = []
    for line in mountinfo.splitlines():
        head, _, tail = line.partition(" - ")
        if tail.split()[0] in ("sysfs", "debugfs"):
            found.append(head.split()[4].encode().decode("unicode_escape"))
    return found


def _make_room(path: Path, covered: set[Path], *, folder: bool = True) -> None:
    """Where the host has no such path: put a folder over the nearest that there is, with what the host has in it."""
    if path.exists():
        return
    above = path.parent
    _make_room(above, covered)
    if above not in covered:
        names = sorted(each.name for each in above.iterdir())
        hold = os.open(above, os.O_PATH | os.O_DIRECTORY)
        try:
            syscalls.mount("memhp", str(above), "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
            for name in names:
                _again(Path("/proc/self/fd", str(hold), name), above / name)
        finally:
            os.close(hold)
        covered.add(above)
    if folder:
        path.mkdir()
        covered.add(path)
    else:
        path.touch()


def _again(source: Path, target: Path) -> None:
    """The same entry of the host in a folder that covers its own."""
    if source.is_symlink():
        target.symlink_to(source.readlink())
        return
    if source.is_dir():
        target.mkdir()
    else:
        target.touch()
    syscalls.mount(str(source), str(target), flags=MS_BIND | MS_REC)
