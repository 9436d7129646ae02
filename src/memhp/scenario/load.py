"""Reading scenario files: TOML in, a checked :class:`Scenario` out, or one line that says what to change."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
import tomllib
from pathlib import Path

import msgspec

from memhp.errors import BadInput
from memhp.scenario.schema import Scenario

_PATH = re.compile(r" - at `\$\.?(.*?)`$")


def load(path: Path) -> Scenario:
    """The scenario in a TOML file. Raises :class:`BadInput` with file and key."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadInput(f"cannot read the scenario: {error.strerror}", where=str(path)) from None
    except UnicodeDecodeError as error:
        raise BadInput(f"not a text file: byte {error.start} is not UTF-8", where=str(path)) from None
    return loads(text, where=str(path))


def loads(text: str, *, where: str = "scenario") -> Scenario:
    """The scenario in TOML text; `where` names its origin in errors."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"not TOML: {error}", where=where) from None
    try:
        return msgspec.convert(data, Scenario)
    except msgspec.ValidationError as error:
        message = str(error)
        match = _PATH.search(message)
        key = match[1] if match else ""
        plain = message[: match.start()] if match else message
        raise BadInput(_plainly(plain), where=f"{where}: {key}" if key else where) from None


def _plainly(message: str) -> str:
    """A decoder's message in the words of somebody who writes scenario files."""
    message = message.replace("Object contains unknown field", "unknown key")
    message = message.replace("Object missing required field", "missing key")
    return message.replace("Invalid value", "unknown value")
