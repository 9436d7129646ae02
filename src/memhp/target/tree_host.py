"""A host that is acted upon: a folder below which its files are, ``/`` for this machine; one write at a time.

The write happens in a child of its own, so that whoever waits for it stays able to answer: a page that does not move
keeps ``offline_pages()`` busy until a signal comes, and the end of the child is one.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import errno
import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from memhp.errors import BadInput
from memhp.facts.open_source import open_source
from memhp.facts.source import SYS_MEMORY, Source
from memhp.outputs.ending_signals import ENDING_SIGNALS

LOCK = "run/memhp.lock"
JOURNALS = "var/lib/memhp"
INTERRUPTED = "EINTR"
_POLL_SECONDS = 0.02


class Host(Protocol):
    """A machine whose blocks can be read and written."""

    def source(self) -> Source:
        """What it shows now."""
        ...

    def write(self, block: int, text: str, seconds: float) -> str:
        """Write to a block's ``state``, for so long at most: ``ok``, or the errno's name."""
        ...


class TreeHost:
    """The host whose files are below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.asked = 0
        """How often somebody asked this process to end, while a write was under way."""

    def source(self) -> Source:
        """What it shows now."""
        return open_source(self.root)

    def write(self, block: int, text: str, seconds: float) -> str:
        """Write in a child, and wait. Who asks a second time to end, or time that runs out, ends the child."""
        path = self.root / SYS_MEMORY.lstrip("/") / f"memory{block}" / "state"
        child = os.fork()
        if child == 0:
            os._exit(self.store(path, text))
        deadline, killed = time.monotonic() + seconds, False
        while True:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return INTERRUPTED if os.WIFSIGNALED(status) else _name(os.waitstatus_to_exitcode(status))
            if signal.sigtimedwait(ENDING_SIGNALS, _POLL_SECONDS) is not None:
                self.asked += 1
            if not killed and (self.asked > 1 or time.monotonic() > deadline):
                killed = True
                os.kill(child, signal.SIGKILL)

    def store(self, path: Path, text: str) -> int:
        """The write itself, in the child: 0 or the errno."""
        try:
            fd = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
            os.write(fd, text.encode())
        except OSError as error:
            return error.errno or errno.EIO
        return 0


def _name(code: int) -> str:
    return errno.errorcode.get(code, str(code)) if code else "ok"


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Be the only one that changes memory of a host. A child that still writes keeps the lock when its parent is gone.

    Raises :class:`BadInput` where somebody else is, or where no lock can be had.
    """
    path = root / LOCK
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise BadInput(f"cannot lock: {error.strerror}", where=str(path), fix="run it as root") from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadInput(
                "another memhp apply is at work here", where=str(path), fix="wait until it is done"
            ) from None
        yield
    finally:
        os.close(fd)
