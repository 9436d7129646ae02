"""What happens to a twin while tools work on it: at a moment of machine time, or when a tool has done something."""
# SPDX-License-Identifier: GPL-2.0-or-later

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from memhp.errors import BadInput
from memhp.inputs import read_input
from memhp.limits import SCENARIO_SIZE
from memhp.scenario.explain import explained
from memhp.scenario.load import toml
from memhp.scenario.schema import Seconds, StepKind
from memhp.twin.fault_injection import TroubleKind
from memhp.twin.machine import SECOND, Twin
from memhp.twin.record import Entry, What

T = TypeVar("T")


class Pattern(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Entries of the record: what is left out may be anything; `path` and `text` may hold ``*`` and ``?``."""

    what: What | None = None
    path: str = "*"
    text: str = "*"
    result: str | None = None

    def fits(self, entry: Entry) -> bool:
        """Whether an entry is meant; the newline at the end of a text does not count."""
        return (
            self.what in (None, entry.what)
            and self.result in (None, entry.result)
            and fnmatchcase(entry.path, self.path)
            and fnmatchcase(entry.text.removesuffix("\n"), self.text)
        )

    def __str__(self) -> str:
        said = {"text": self.text if self.text != "*" else None, "result": self.result}
        more = "".join(f" {name} {value!r}" for name, value in said.items() if value is not None)
        return f"{self.what or 'anything'} of {self.path}{more}"


class Cue(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`then`, at once, or `after` seconds of machine time, or as soon as something was done that `when` fits."""

    then: StepKind | TroubleKind
    after: Seconds | None = None
    when: Pattern | None = None
    times: Annotated[int, Meta(ge=1)] = 1
    """How often that has to be done until it happens, once."""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    twin: list[Cue] = []


def load_script(path: Path) -> list[Cue]:
    """The cues of a TOML file, a table ``[[twin]]`` each. Raises :class:`BadInput`."""
    return _checked(load_table(path, _File).twin, str(path))


def _checked(rows: list[Cue], where: str) -> list[Cue]:
    """Cues that wait for one thing each. Raises :class:`BadInput`."""
    for place, cue in enumerate(rows):
        if cue.after is not None and cue.when is not None:
            fix = "write one of them"
            raise BadInput("`after` and `when` are two things to wait for", where=f"{where}: twin[{place}]", fix=fix)
    return rows


def load_table(path: Path, kind: type[T]) -> T:
    """What a TOML file says, as a `kind`. Raises :class:`BadInput`."""
    where = str(path)
    try:
        text = read_input(path, SCENARIO_SIZE).decode("utf-8-sig")
    except OSError as error:
        raise BadInput(f"cannot read it: {error.strerror}", where=where, fix="name a TOML file") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"not TOML: {error}", where=where) from None
    data = toml(text, where=where)
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        raise explained(error, data, where, of=kind) from None


def cues(rows: list[dict[str, Any]], *, where: str) -> list[Cue]:
    """The cues of a scenario's ``[[twin]]``. Raises :class:`BadInput`."""
    data = {"twin": rows}
    try:
        return _checked(msgspec.convert(data, _File).twin, where)
    except msgspec.ValidationError as error:
        raise explained(error, data, where, of=_File) from None


class Script:
    """Cues that are waited for, on one twin."""

    def __init__(self, twin: Twin, rows: list[Cue]) -> None:
        self._twin = twin
        self._left: list[tuple[Cue, int]] = []
        self._due: list[Cue] = []
        for cue in rows:
            if cue.when is not None:
                self._left.append((cue, cue.times))
            elif cue.after is None:
                self._due.append(cue)
            else:
                twin.session.k.hw.arm(round(cue.after * SECOND), lambda cue=cue: self._due.append(cue))  # type: ignore[misc]
        twin.record.listeners.append(self._heard)
        twin.between.append(self.run_due)
        self.run_due()

    def _heard(self, entry: Entry) -> None:
        """Something was noted; what follows from it is done once the machine is at rest."""
        still: list[tuple[Cue, int]] = []
        for cue, left in self._left:
            assert cue.when is not None
            wanted = left - cue.when.fits(entry)
            if wanted:
                still.append((cue, wanted))
            else:
                self._due.append(cue)
        self._left = still

    def run_due(self) -> None:
        """Do what is due."""
        while self._due:
            self._twin.act(self._due.pop(0).then, where="twin")
