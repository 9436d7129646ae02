"""A step at a door as a line of a trace."""
# SPDX-License-Identifier: GPL-2.0-or-later

from typing import NamedTuple

from memhp.explore.doors import access_text
from memhp.explore.engine.trace import Change, Line, Value
from memhp.hw.locks import Lock
from memhp.hw.stepper import Access, Level
from memhp.hw.tlb import ALL_ADDRESSES, Table
from memhp.linux.place import NOWHERE
from memhp.linux.state import Kernel
from memhp.spans import Span


class Step(NamedTuple):
    """What is known of a step that was taken."""

    thread: int
    name: str
    """The actor."""
    place: str
    text: str
    """The step in words, as it was announced."""
    access: Access | None
    """None of an allocation that may fail, and of a wait."""
    outcome: str
    """``fails`` or ``succeeds`` of such an allocation."""
    old: int | None
    """What stood in the entry that it is about."""
    new: int | None
    before: Lock | None
    """The lock that it is about, as it was."""
    changes: tuple[Change, ...]


def told(step: Step) -> str:
    """The step in one line, with old and new value."""
    if step.outcome:
        return f"{step.text}: {step.outcome}"
    if step.old is None:
        return step.text
    return f"{step.text}: {step.old:#x}" + ("" if step.new in (None, step.old) else f" -> {step.new:#x}")


def line(k: Kernel, number: int, step: Step) -> Line:
    """Step `number` of an execution, counted from 1."""
    kind, what = step.text.partition(" ")[::2]
    about, address, result = "", None, step.outcome
    old: Value | None = None
    new: Value | None = None
    entry: tuple[Change, ...] = ()
    access = step.access
    if access is not None:
        kind, target = access.kind, access.target
        if isinstance(target, Table):
            what = access_text.entry_name(target, access.entry)
            about = access_text.entry_about(k, target, access.entry)
            address = access_text.entry_span(k, target, access.entry).start
            old, new = _value(k, step.old, target), _value(k, step.new, target)
            entry = _entry(what, old, new)
        elif isinstance(target, Span) and kind == "flush":
            what, about = "everything" if target == ALL_ADDRESSES else f"[{target.start:#x}-{target.end:#x})", ""
            about = access_text.flushed(k, target)
            address = target.start
        elif isinstance(target, Span) and kind == "touch":
            kind, what, about = "read", f"memory at {target.start:#x}", access_text.area(k, target)
            address = target.start
        elif isinstance(target, Level):
            about = "free pages of the zone, a counter that is read without a lock"
        elif isinstance(target, Span):
            what, about = access_text.pfns(target), access_text.frames_about(k, target)
        elif isinstance(target, str):
            what, about, result = target, *_lock(step, access)
    return Line(
        step=number, thread=step.thread, name=step.name, place="" if step.place == NOWHERE else step.place,
        kind=kind, what=what, about=about,
        address=address, old=old, new=new if new != old else None, result=result, text=told(step),
        changes=(*entry, *step.changes),
    )  # fmt: skip


def _value(k: Kernel, entry: int | None, table: Table) -> Value | None:
    return None if entry is None else access_text.entry_value(k, entry, table.height)


def _entry(what: str, old: Value | None, new: Value | None) -> tuple[Change, ...]:
    """The entry among what is different."""
    if old is None or new is None or old == new:
        return ()
    return (Change("entry", what, f"{old.raw:#x} {old.text}", f"{new.raw:#x} {new.text}"),)


def _lock(step: Step, access: Access) -> tuple[str, str]:
    """In which way a lock is taken, and whether it was; nothing of a shared field."""
    if access.kind not in ("lock", "trylock", "unlock"):
        return "", ""
    about = "alone" if access.value else "shared"
    if access.kind == "unlock":
        return about, ""
    if access.kind == "lock":
        queues = step.before is not None and not step.before.can_take(step.thread, write=bool(access.value))
        return about, "has to wait" if queues else ""
    free = step.before is None or step.before.can_take(step.thread, write=bool(access.value))
    return about, "taken" if free else "busy"
