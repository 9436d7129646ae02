"""Sockets that belong to their owner alone, by path; what an earlier server left behind is cleared away."""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import socket
import stat
from pathlib import Path

from memhp.errors import BadInput

MOST_PATH = 107
"""Bytes of a path that ``struct sockaddr_un`` holds, without its end."""
OWNER_ONLY = 0o177
"""The mode bits that are masked while a socket is made: it is 0600 from its first moment on."""


def listen(path: Path, *, where: str, backlog: int = 1) -> socket.socket:
    """A non-blocking listening socket at `path`, of mode 0600, where so many may wait. Raises :class:`BadInput`."""
    if len(os.fsencode(path)) > MOST_PATH:
        raise BadInput(f"the path has more than {MOST_PATH} bytes", where=f"{where} {path}", fix="a shorter path")
    _clear(path, where)
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    before = os.umask(OWNER_ONLY)
    try:
        line.bind(os.fspath(path))
        line.listen(backlog)
    except OSError as error:
        line.close()
        raise BadInput(f"cannot listen: {error.strerror}", where=f"{where} {path}") from None
    finally:
        os.umask(before)
    line.setblocking(False)
    return line


def _clear(path: Path, where: str) -> None:
    """Remove a socket that nobody listens at any more. Raises :class:`BadInput` for anything else that is there."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise BadInput(f"cannot listen: {error.strerror}", where=f"{where} {path}") from None
    if not stat.S_ISSOCK(mode):
        raise BadInput("is there already, and no socket", where=f"{where} {path}", fix="another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
        trial.settimeout(1)
        try:
            trial.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise BadInput(f"cannot listen: {error.strerror}", where=f"{where} {path}") from None
    raise BadInput("another program listens there", where=f"{where} {path}", fix="end it, or take another path")
