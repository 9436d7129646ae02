"""System calls that Python has no function for: namespaces, mounts, and a signal when the parent dies."""
# SPDX-License-Identifier: GPL-2.0-or-later

import ctypes
import os
import signal

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
MNT_DETACH = 2
PR_SET_PDEATHSIG = 1
IN_CLOSE_WRITE, IN_Q_OVERFLOW = 8, 0x4000

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """``unshare(2)``."""
    _check(_libc.unshare(flags), "unshare")


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """``mount(2)``. Raises OSError that names the target."""
    words = [text.encode() or None for text in (source, target, kind)]
    _check(_libc.mount(*words, ctypes.c_ulong(flags), data.encode() or None), f"mount on {target}")


def umount(target: str, flags: int = 0) -> None:
    """``umount2(2)``."""
    _check(_libc.umount2(target.encode(), flags), f"umount {target}")


def inotify_init() -> int:
    """``inotify_init1(2)``: not inherited."""
    fd = int(_libc.inotify_init1(os.O_CLOEXEC))
    _check(fd < 0, "inotify_init1")
    return fd


def inotify_add_watch(fd: int, path: str, mask: int) -> int:
    """``inotify_add_watch(2)``: the number of the watch."""
    watch = int(_libc.inotify_add_watch(fd, path.encode(), mask))
    _check(watch < 0, f"inotify_add_watch {path}")
    return watch


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent dies; it exits at once if that has happened already."""
    _check(_libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0), "prctl")
    if os.getppid() != parent:
        os._exit(1)
