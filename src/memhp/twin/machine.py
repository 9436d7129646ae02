"""The machine behind the files: everything that anybody does to it goes through here, one after the other.

A write to a file runs the kernel's own path on the model. While an operation takes time (trouble on demand), reads go
on and other writes wait, as they do for ``device_hotplug_lock``.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import errno
import time
from collections import deque
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec

from memhp.errors import BadInput, KernelBug, KernelError, KernelPanic
from memhp.linux.lib.kobject_uevent import Uevent, Uevents
from memhp.linux.lib.memory_notifier_error_inject import err_inject_init
from memhp.scenario import result, schema
from memhp.scenario.titles import title
from memhp.target.model.run import DEADLY, outcome_of
from memhp.target.model.session import Session
from memhp.twin.fault_injection import Trouble, TroubleKind
from memhp.twin.fuse.server import Later
from memhp.twin.record import Record, What

Answer = Callable[[int], None]
"""Called with the errno of an operation that is over, 0 for none."""

SECOND = 1_000_000_000
"""Nanoseconds."""
COMM_LEN = 64
"""Bytes that ``/proc/PID/comm`` has at most (``fs/proc/array.c:proc_task_name``)."""


@dataclass
class _Pending:
    """A write that has not begun, or is not over."""

    pid: int
    path: str
    text: str
    act: Callable[[str], None]
    answer: Answer


@dataclass
class Twin:
    """A modelled machine that tools work on. `speed` is machine time by time outside; 0 lets it stand still."""

    session: Session
    speed: float = 1.0
    record: Record = field(default_factory=Record)
    trouble: Trouble = field(default_factory=Trouble)
    between: list[Callable[[], None]] = field(default_factory=list)
    """What is called when something was done or read, before whoever did it hears of it."""
    moved: list[Callable[[], None]] = field(default_factory=list)
    """Who is to be told that something may have changed."""
    eject_enabled: bool = True
    """``/sys/firmware/acpi/hotplug/memory/enabled``: whether DIMMs may be ejected."""
    uevents: list[Callable[[Uevent], None]] = field(default_factory=list)
    """Who gets the events that are not lost."""
    dead: str = ""
    """How the machine died, if it did."""
    off: bool = False
    """Whether it was switched off from outside, and so is as dead as was wanted."""
    waiting: deque[_Pending] = field(default_factory=deque)
    devices_changed: int = 0
    """Devices that have come or gone so far."""
    busy: bool = False
    """Whether an operation is going on that others wait for."""
    _seen: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        k = self.session.k
        k.statics(Uevents).listeners.append(self._uevent)
        err_inject_init(k)
        self.trouble.attach(k)

    # Time ----------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Let as much machine time pass as has passed outside since the last look."""
        now = time.monotonic()
        passed, self._seen = now - self._seen, now
        if self.speed and not self.dead:
            hw, duration = self.session.k.hw, round(passed * self.speed * SECOND)
            due = hw.next_due()
            with suppress(KernelError):
                self._alive(lambda: hw.advance(duration))
            if due is not None and due <= hw.now:
                self.changed()
            self.rest()

    def until_due(self) -> float | None:
        """Seconds until something is due on the machine; None for never."""
        due = self.session.k.hw.next_due()
        if due is None or not self.speed or self.dead:
            return None
        return max(0.0, (due - self.session.k.hw.now) / SECOND / self.speed)

    # What is done to it --------------------------------------------------------------------------------------

    def do(self, step: schema.StepKind, *, where: str = "step") -> result.Outcome:
        """Carry out a step of a scenario. Raises :class:`BadInput` for one that cannot be meant."""
        if self.dead:
            outcome = result.Outcome(result="not run", reason=f"the machine died: {self.dead}")
        else:
            self.session.notes.clear()
            outcome = outcome_of(self.session, step, where)
        if outcome.result in DEADLY:
            self.dead = outcome.reason
        self.note("step", title(step), result=outcome.result, reason=outcome.reason, place=outcome.place)
        self.changed()
        return outcome

    def act(self, asked: schema.StepKind | TroubleKind, *, where: str) -> result.Outcome:
        """Carry out a step, or see that there is trouble from now on. Raises :class:`BadInput`."""
        if isinstance(asked, schema.Step):
            return self.do(asked, where=where)
        self.trouble.add(asked, where=where)
        self.note("step", str(asked.__struct_config__.tag), msgspec.json.encode(asked).decode())
        return result.Outcome(result="ok")

    def rest(self) -> None:
        """An operation is over: what follows from it is done now."""
        for act in self.between:
            act()

    def changed(self) -> None:
        """Tell whoever wants to know that something may have changed."""
        for tell in self.moved:
            tell()

    def note(self, what: What, path: str, text: str = "", **more: str | int) -> None:
        """Put something into the record, at this moment of machine time."""
        self.record.add(self.session.k.hw.now, what, path, text, **more)  # type: ignore[arg-type]

    # Journal of the files (memhp.twin.fuse.server.Journal) ---------------------------------------------------

    def read(self, pid: int, path: str, text: str) -> None:
        """A file was read. Raises EIO once the machine is dead."""
        self.check()
        self.note("read", path, text, pid=pid)
        self.rest()

    def listed(self, pid: int, path: str) -> None:
        """A folder was listed. Raises EIO once the machine is dead."""
        self.check()
        self.note("list", path, pid=pid)

    def refused(self, pid: int, path: str, code: int) -> None:
        """A file was not opened."""
        self.note("open", path, result=errno.errorcode[code], pid=pid, command=command_of(pid))

    def wrote(self, pid: int, path: str, text: str, act: Callable[[str], None]) -> None:
        """Somebody writes to a file: what the file does is done, now or, by :class:`Later`, after what goes before.

        Raises :class:`KernelError` with what came of it.
        """
        self.check()
        delay = self.trouble.delay(path)
        if not delay and not self.busy:
            self._carry_out(pid, path, text, act)
            return

        def begin(answer: Answer) -> None:
            self.waiting.append(_Pending(pid, path, text, act, answer))
            if not self.busy:
                self._next()

        raise Later(begin)

    def _next(self) -> None:
        """Begin what waits first, if anything does."""
        while self.waiting and not self.busy:
            pending = self.waiting.popleft()
            delay = self.trouble.delay(pending.path)
            if not delay:
                self._finish(pending)
                continue
            self.busy = True
            undo = self.trouble.going(self.session.k, pending.path, pending.text)

            def over(pending: _Pending = pending, undo: Callable[[], None] = undo) -> None:
                self.busy = False
                undo()
                self._finish(pending)
                self._next()

            self.session.k.hw.arm(round(delay * SECOND), over)
            self.changed()

    def _finish(self, pending: _Pending) -> None:
        code = 0
        try:
            self._carry_out(pending.pid, pending.path, pending.text, pending.act)
        except KernelError as error:
            code = error.errno
        pending.answer(code)

    def _carry_out(self, pid: int, path: str, text: str, act: Callable[[str], None]) -> None:
        command = command_of(pid)
        try:
            self._alive(lambda: act(text))
            self._alive(lambda: self.session.k.hw.advance(0))
        except KernelError as error:
            self.note(
                "write", path, text, result=error.name, reason=error.reason, place=error.place, pid=pid, command=command
            )
            raise
        else:
            self.note("write", path, text, pid=pid, command=command)
        finally:
            self.changed()
            self.rest()

    def _alive(self, act: Callable[[], object]) -> None:
        """Do something that may be the machine's end. Raises EIO then."""
        try:
            act()
        except KernelBug as error:
            kind = "PANIC" if isinstance(error, KernelPanic) else "BUG"
            self.dead = f"{kind}: {error.reason}"
            raise KernelError(errno.EIO, self.dead, place=error.place) from error
        except BadInput as error:
            raise KernelError(errno.EINVAL, str(error), place="twin") from error

    def check(self) -> None:
        """See that the machine is alive. Raises EIO once it is dead."""
        if self.dead:
            raise KernelError(errno.EIO, self.dead, place="twin")

    def shape(self) -> Hashable:
        """What differs when devices have come or gone: those that are told of by events, and nodes."""
        return self.devices_changed, tuple(self.session.k.node_states.devices)

    def _uevent(self, event: Uevent) -> None:
        self.devices_changed += event.action in ("add", "remove")
        lost = self.trouble.loses(event)
        self.note("uevent", event.devpath, event.action, result="lost" if lost else "ok")
        if not lost:
            for tell in self.uevents:
                tell(event)


def command_of(pid: int) -> str:
    """What a process is called; "" for one that is gone or not to be seen, as nobody, pid 0, is."""
    try:
        with open(f"/proc/{pid}/comm", "rb", 0) as file:  # noqa: PTH123 - it is read at each write
            return file.read(COMM_LEN).decode(errors="replace").rstrip("\n")
    except OSError:
        return ""
