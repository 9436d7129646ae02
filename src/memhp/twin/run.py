"""A twin from beginning to end: a command that runs on it, or a folder that it is mounted at."""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import signal
from collections.abc import Mapping, Sequence

from memhp.twin import namespace
from memhp.twin.files.root import twin_files, twin_root
from memhp.twin.fuse.server import Server
from memhp.twin.loop import AT_ONCE, Loop
from memhp.twin.machine import Twin


def run_command(twin: Twin, loop: Loop, command: Sequence[str], environment: Mapping[str, str], cmdline: str) -> int:
    """Run a command whose files are the twin's, and give its exit code.

    Raises :class:`~memhp.twin.namespace.NoNamespace` when that cannot be; nothing was run then.
    """
    files = twin_files(twin.session.k, cmdline)
    inside = namespace.start(command, list(files), environment)
    device = inside.connect()
    server = Server(device, twin_root(files), twin)
    twin.moved.append(server.streams_moved)
    watch = os.pidfd_open(inside.pid)
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        serve(loop, server)
        loop.add(inside.line.fileno(), lambda: _told(loop, inside))
        loop.add(watch, lambda: setattr(loop, "done", True))
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, _: inside.end(number))
        loop.run()
        return inside.wait()
    finally:
        inside.end(signal.SIGKILL)
        os.close(device)
        os.close(watch)
        for number, handler in kept.items():
            signal.signal(number, handler)


def serve(loop: Loop, server: Server) -> None:
    """Serve files in a loop, as long as they are mounted."""

    def turn() -> None:
        for _ in range(AT_ONCE):
            if not server.serve():
                break
        if not server.alive:
            loop.remove(server.device)

    loop.add(server.device, turn)


def _told(loop: Loop, inside: namespace.Inside) -> None:
    """The process on the inside says that its files are in place, or closes its line as it runs the command."""
    loop.remove(inside.line.fileno())
    inside.ready()
