"""A twin from beginning to end: a command that runs on it, a folder that it is mounted at, or sockets only."""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from memhp.errors import BadInput
from memhp.facts.source import SYS_MEMORY, SYS_NODE
from memhp.twin import namespace
from memhp.twin.boot import Booted
from memhp.twin.control import Control
from memhp.twin.expectations import Expectation, unmet
from memhp.twin.files.root import twin_files, twin_root
from memhp.twin.fuse.mount import mounted
from memhp.twin.fuse.page_cache import KeptServer
from memhp.twin.fuse.server import Server
from memhp.twin.loop import AT_ONCE, Loop
from memhp.twin.plain_files import plain_files
from memhp.twin.qemu.agent import Agent
from memhp.twin.qemu.framing import JsonValues
from memhp.twin.qemu.monitor import Monitor
from memhp.twin.qemu.platform import Platform
from memhp.twin.result import TwinRun, block_ranges
from memhp.twin.script import Cue, Script
from memhp.twin.sockets import LineServer
from memhp.twin.tree import Entry
from memhp.twin.uevents import UeventLog

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
CONTROL = "MEMHP_TWIN"
"""The variable that tells the command where the control socket is."""
PLAIN = "MEMHP_FILES"
"""The variable that tells the command where plain files are."""
KEPT = (SYS_MEMORY, SYS_NODE)
"""Folders whose files the kernel may keep, as each change of them is known."""


@dataclass(frozen=True)
class Wanted:
    """What is to be served to whom, and how the run is judged."""

    command: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    mount: Path | None = None
    plain: Path | None = None
    """A folder for plain files, where there is no FUSE: the command runs beside them, in no namespace."""
    control: Path | None = None
    qmp: Path | None = None
    qga: Path | None = None
    slots: int = 16
    max_memory: int = 0
    """QEMU's ``-m``: slots for DIMMs, and bytes of all memory; 0 for 64 GiB more than there are."""
    uevents: Path | None = None
    cues: Sequence[Cue] = ()
    expectation: Expectation = field(default_factory=Expectation)
    heard: bool = True
    """Whether all that is opened and read is to be in the record; it is heard too where somebody may wait for it."""


def run(booted: Booted, wanted: Wanted) -> TwinRun:
    """Serve a twin until its command has ended or, without one, until somebody wants it to end.

    Raises :class:`~memhp.errors.BadInput` for sockets and folders that cannot be had, and
    :class:`~memhp.twin.namespace.NoNamespace` when a command cannot be run; nothing was run then.
    """
    twin = booted.twin
    files = twin_files(twin, booted.cmdline)
    with ExitStack() as stack:
        loop = Loop(twin)
        stack.callback(loop.close)
        _sockets(stack, loop, wanted, files)
        cues = [*booted.cues, *wanted.cues]
        Script(twin, cues)
        code = None
        if wanted.plain is not None:
            stack.enter_context(plain_files(loop, wanted.plain, twin_root(files)))
        if wanted.command:
            environment = dict(wanted.environment)
            if wanted.control is not None:
                environment[CONTROL] = str(wanted.control.absolute())
            if wanted.plain is not None:
                environment[PLAIN] = str(wanted.plain.absolute())
            heard = wanted.heard or bool(cues) or not (wanted.control is wanted.uevents is None)
            if wanted.plain is None:
                code = run_command(loop, wanted.command, environment, files, heard=heard)
            else:
                code = run_beside(loop, wanted.command, environment)
        else:
            if wanted.mount is not None:
                device = stack.enter_context(mounted(wanted.mount))
                stack.enter_context(served(loop, Server(device, twin_root(files), twin)))
            stack.enter_context(_ends_when_asked(loop))
            loop.run()
    twin.tick()
    return TwinRun(
        title=booted.title,
        machine=twin.session.k.config.title,
        command=list(wanted.command),
        exit_code=code,
        time=twin.session.k.hw.now,
        entries=twin.record.entries,
        blocks=block_ranges(twin.session.k),
        unmet=unmet(wanted.expectation, twin.record.entries, twin_root(files), code),
        dead="" if twin.off else twin.dead,
    )


def _sockets(stack: ExitStack, loop: Loop, wanted: Wanted, files: dict[str, Entry]) -> None:
    twin = loop.twin
    if wanted.control is not None:
        stack.callback(LineServer(loop, wanted.control, lambda _: Control(twin)).close)
    if wanted.qmp is not None:
        platform = Platform(twin, wanted.slots, wanted.max_memory)
        monitor = Monitor(platform)
        if not wanted.command:
            platform.at_end.append(loop.end)
        stack.callback(LineServer(loop, wanted.qmp, monitor.connection, JsonValues).close)
    if wanted.qga is not None:
        root = twin_root(files)
        stack.callback(LineServer(loop, wanted.qga, lambda _: Agent(twin, root), JsonValues).close)
    if wanted.uevents is not None:
        log = UeventLog(wanted.uevents, lambda: twin.session.k.hw.now)
        stack.callback(log.close)
        twin.uevents.append(log.tell)


def run_command(
    loop: Loop, command: Sequence[str], environment: Mapping[str, str], files: dict[str, Entry], *, heard: bool = True
) -> int:
    """Run a command whose files are the twin's, and give its exit code.

    All that is opened and read is `heard`, or the kernel keeps what stands in folders of sysfs (:data:`KEPT`).
    Raises :class:`~memhp.twin.namespace.NoNamespace` when a command cannot be run; nothing was run then.
    """
    kept = {} if heard else {path: files[path] for path in KEPT}
    trees = [{path: entry for path, entry in files.items() if path not in kept}, *([kept] if kept else [])]
    inside = namespace.start(command, trees, environment)
    devices = inside.connect()
    watch = os.pidfd_open(inside.pid)
    acts = {signal.SIGINT: lambda _: None, **dict.fromkeys((signal.SIGTERM, signal.SIGHUP), inside.end)}
    try:
        kinds = zip((Server, KeptServer), devices, trees, strict=False)
        servers = [kind(device, twin_root(tree), loop.twin) for kind, device, tree in kinds]
        loop.add(inside.line.fileno(), lambda: _told(loop, inside, servers))
        loop.add(watch, loop.end)
        with ExitStack() as stack:
            for server in servers:
                stack.enter_context(served(loop, server))
            stack.enter_context(_signals(acts))
            loop.run()
    except BaseException:
        inside.end(signal.SIGKILL)
        raise
    finally:
        # What is left of the command ends when it waits for no file any more.
        for each in (*devices, watch):
            os.close(each)
        code = inside.wait()
    return code


def run_beside(loop: Loop, command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a command that finds the twin's files in a folder, and give its exit code as a shell does.

    Raises :class:`BadInput` for one that cannot be run.
    """
    try:
        process = subprocess.Popen(command, env=environment)
    except OSError as error:
        raise BadInput(f"cannot be run: {error.strerror}", where=command[0]) from None
    watch = os.pidfd_open(process.pid)
    ending = dict.fromkeys((signal.SIGTERM, signal.SIGHUP), process.send_signal)
    try:
        loop.add(watch, loop.end)
        with _signals({signal.SIGINT: lambda _: None, **ending}):
            loop.run()
        code = process.wait()
        return code if code >= 0 else 128 - code
    finally:
        process.kill()
        process.wait()
        os.close(watch)


@contextmanager
def _signals(acts: Mapping[signal.Signals, Callable[[int], object]]) -> Iterator[None]:
    """Have signals do something else meanwhile."""
    kept = {number: signal.signal(number, lambda number, _, act=act: act(number)) for number, act in acts.items()}  # type: ignore[misc]
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


@contextmanager
def _ends_when_asked(loop: Loop) -> Iterator[None]:
    """A signal ends the loop, even one that waits."""
    heard, wake = socket.socketpair()
    with heard, wake:
        heard.setblocking(False)
        wake.setblocking(False)
        before = signal.set_wakeup_fd(wake.fileno())
        loop.add(heard.fileno(), lambda: _swallow(heard))
        try:
            with _signals({number: lambda _: loop.end() for number in ENDING}):
                yield
        finally:
            signal.set_wakeup_fd(before)
            loop.remove(heard.fileno())


def _swallow(heard: socket.socket) -> None:
    with suppress(BlockingIOError):
        heard.recv(64)


@contextmanager
def served(loop: Loop, server: Server) -> Iterator[None]:
    """Serve files in a loop meanwhile, as long as they are mounted, and wake who waits for more of a stream."""

    def turn() -> None:
        for _ in range(AT_ONCE):
            if not server.serve():
                break
        if not server.alive:
            loop.remove(server.device)

    loop.add(server.device, turn)
    # Before anybody hears of a change, the kernel has let go of what it kept.
    loop.twin.moved.insert(0, server.moved)
    try:
        yield
    finally:
        loop.twin.moved.remove(server.moved)
        if server.alive:
            loop.remove(server.device)


def _told(loop: Loop, inside: namespace.Inside, servers: Sequence[Server]) -> None:
    """The process on the inside says that its files are in place: it may run the command. Or that this has ended."""
    if inside.running:
        loop.remove(inside.line.fileno())
        inside.hear_the_end()
        loop.end()
        return
    inside.ready()
    for server in servers:
        if isinstance(server, KeptServer):
            server.fill()
    inside.go()
