"""Reading scenario files: TOML in, a checked :class:`Scenario` out, or one line that says what to change."""
# SPDX-License-Identifier: GPL-2.0-or-later

import errno
import tomllib
from pathlib import Path

import msgspec

from memhp.errors import BadInput
from memhp.scenario.explain import explained, one_of, quoted
from memhp.scenario.schema import Scenario

OUTCOMES = ("ok", "BUG", "PANIC", *sorted({*errno.errorcode.values(), "EHWPOISON"}))
"""How a step can end, and so what it can be expected to: well, with an errno, or with the end of the machine."""


def load(path: Path) -> Scenario:
    """The scenario in a TOML file. Raises :class:`BadInput` with file and key."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadInput(
            f"cannot read the scenario: {error.strerror}", where=str(path), fix="name a TOML file, or use --machine"
        ) from None
    except UnicodeDecodeError as error:
        raise BadInput(
            f"not a text file: byte {error.start} is not UTF-8", where=str(path), fix="scenarios are TOML in UTF-8"
        ) from None
    return loads(text, where=str(path))


def loads(text: str, *, where: str = "scenario") -> Scenario:
    """The scenario in TOML text; `where` names its origin in errors."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"not TOML: {error}", where=where) from None
    try:
        scenario = msgspec.convert(data, Scenario)
    except msgspec.ValidationError as error:
        raise explained(error, data, where) from None
    for index, step in enumerate(scenario.steps):
        if step.expect not in OUTCOMES:
            raise BadInput(
                f"no step can end in {quoted(step.expect)}",
                where=f"{where}: steps[{index}].expect",
                fix=one_of(step.expect, OUTCOMES),
            )
    return scenario
