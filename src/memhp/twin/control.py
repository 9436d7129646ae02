"""The control socket of a twin: a line of JSON asks for a step, for trouble, for another speed, or how things are.

Each line is answered by one; a connection may ask as often as it likes. Steps are those of scenarios.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from contextlib import closing
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from memhp.errors import BadInput, MemhpError
from memhp.json_text import json_decoded, json_encoded
from memhp.limits import ANSWER_SECONDS, SECONDS, STEP_SECONDS
from memhp.scenario import schema
from memhp.scenario.explain import explained
from memhp.scenario.schema import StepKind
from memhp.target.socket_line import SocketLine
from memhp.twin.fault_injection import TroubleKind
from memhp.twin.machine import Twin
from memhp.twin.record import Entry


class Speed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="do", tag="speed"):
    """Machine time is to pass so many times as fast as outside; with 0 it stands still."""

    factor: Annotated[float, Meta(ge=0, le=SECONDS.most)] | Annotated[int, Meta(ge=0, le=SECONDS.most)]


class Status(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="do", tag="status"):
    """How things are, with the record from entry `since` on; None for none of it."""

    since: Annotated[int, Meta(ge=0)] | None = None


Ask: TypeAlias = StepKind | TroubleKind | Speed | Status

HOW = "name the --ctl SOCKET of a memhp twin that runs"
"""What helps where no twin is."""


class Answer(msgspec.Struct, frozen=True, kw_only=True, rename={"time": "time_ns"}):
    """``memhp twin ctl --json``: what came of it, and how things are now. All of it is said by every twin."""

    schema: Literal[1] = 1
    verdict: Literal["done", "refused"] = "done"
    result: str = "ok"
    reason: str = ""
    place: str = ""
    notes: list[str] = []
    time: int = 0
    """Nanoseconds of machine time."""
    speed: float = 0
    entries: int = 0
    """How long the record is."""
    trouble: list[TroubleKind] = []
    dead: str = ""
    record: list[Entry] = []
    error: str = ""
    """Why the request could not be meant."""


def answer(twin: Twin, line: bytes) -> Answer:
    """Do what a line asks for."""
    try:
        asked: Ask = json_decoded(line, Ask)  # type: ignore[arg-type]
    except msgspec.MsgspecError as error:
        return Answer(verdict="refused", error=f"the request cannot be read: {error}")
    since = asked.since if isinstance(asked, Status) else None
    came = None
    try:
        if isinstance(asked, Speed):
            twin.tick()
            twin.speed = float(asked.factor)
        elif not isinstance(asked, Status):
            came = twin.act(asked, where="ask")
    except MemhpError as error:
        return Answer(verdict="refused", error=str(error))
    return Answer(
        verdict="done" if came is None or came.result == "ok" else "refused",
        result=came.result if came else "ok",
        reason=came.reason if came else "",
        place=came.place if came else "",
        notes=list(twin.session.notes) if isinstance(asked, schema.Step) else [],
        time=twin.session.k.hw.now,
        speed=twin.speed,
        entries=len(twin.record.entries),
        trouble=[row for row, _ in twin.trouble.rows],
        dead=twin.dead,
        record=[] if since is None else twin.record.entries[since:],
    )


class Control:
    """Somebody who is connected to the control socket (:class:`~memhp.twin.sockets.Talk`)."""

    def __init__(self, twin: Twin) -> None:
        self._twin = twin

    def greeting(self) -> bytes:
        """Nothing is said unasked."""
        return b""

    def said(self) -> None:
        """Nothing follows from that."""

    def line(self, text: bytes) -> bytes:
        """The answer as a line."""
        return json_encoded(answer(self._twin, text)) + b"\n"


def ask(path: Path, asked: dict[str, object]) -> Answer:
    """Ask a twin. Raises :class:`BadInput` for what no twin can be asked for, where none answers, and with what it has
    against the request.
    """
    try:
        msgspec.convert(asked, Ask)
    except msgspec.ValidationError as error:
        raise explained(error, asked, "the request", of=Ask) from None
    try:
        with closing(SocketLine(path)) as line:
            # A step may take its time; whether a twin is there at all shows at once.
            for words, seconds in (({"do": "status"}, ANSWER_SECONDS.most), (asked, STEP_SECONDS.most)):
                line.send(json_encoded(words) + b"\n")
                told = _read_answer(line.until(b"\n", seconds))
    except OSError as error:
        why = error.strerror or str(error)
        raise BadInput(f"no twin answers: {why}", where=str(path), fix=HOW) from None
    except EOFError as error:
        raise BadInput(f"no twin answers: {error}", where=str(path), fix=HOW) from None
    except msgspec.MsgspecError:
        raise BadInput("what listens there is no twin", where=str(path), fix=HOW) from None
    if told.error:
        raise BadInput(told.error, where=str(asked.get("do", "")))
    return told


def _read_answer(text: bytes) -> Answer:
    """What a twin answers. Raises :class:`msgspec.MsgspecError` for what none does: a twin says all there is to say."""
    said = json_decoded(text, dict[str, msgspec.Raw])
    if missing := {field.encode_name for field in msgspec.structs.fields(Answer)} - set(said):
        raise msgspec.ValidationError(f"no {min(missing)}")
    return json_decoded(text, Answer)
