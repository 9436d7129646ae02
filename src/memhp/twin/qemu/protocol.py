"""Requests and answers of QMP and the guest agent: JSON lines, checked as ``qapi/qmp-dispatch.c`` checks them."""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Arguments = Mapping[str, Any]

DIGITS = len(str(-(1 << 63)))
"""Characters of a number that 64 bits may hold."""
JSON_TYPES = {"string": str, "integer": int, "boolean": bool, "array": list, "object": dict, "any": object}
"""Types by the word that an error uses."""


class QmpError(Exception):
    """A command is refused: with QEMU's class of error, and its text."""

    def __init__(self, text: str, kind: str = "GenericError") -> None:
        self.text = text
        self.kind = kind
        super().__init__(text)


class Parameter(NamedTuple):
    """What a command takes: the word of its type, and whether it may be left out."""

    type: str
    optional: bool = False


@dataclass(frozen=True)
class Command:
    """A command: what it takes, and what it does; `free` takes anything else too, as ``device_add`` does."""

    act: Callable[[Any, Arguments], Any]
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    free: bool = False


def fits(value: object, word: str) -> bool:
    """Whether a JSON value is of a type; a truth value is no integer."""
    wanted = JSON_TYPES[word]
    return isinstance(value, wanted) and not (isinstance(value, bool) and word == "integer")


def check(arguments: Arguments, command: Command) -> None:
    """See that arguments are what a command takes. Raises :class:`QmpError`."""
    for name, parameter in command.parameters.items():
        if name not in arguments:
            if not parameter.optional:
                raise QmpError(f"Parameter '{name}' is missing")
        elif not fits(arguments[name], parameter.type):
            raise QmpError(f"Invalid parameter type for '{name}', expected: {parameter.type}")
    extra = next((name for name in arguments if name not in command.parameters), None)
    if extra is not None and not command.free:
        raise QmpError(f"Parameter '{extra}' is unexpected")


class _NoJson(ValueError):
    """What Python takes for JSON, and QEMU does not."""


_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'', re.DOTALL)


def _in_double_quotes(string: re.Match[bytes]) -> bytes:
    text = string[0]
    return text if text.startswith(b'"') else b'"' + text[1:-1].replace(b'"', b'\\"').replace(b"\\'", b"'") + b'"'


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object's members. Raises :class:`_NoJson` for one that is there twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _NoJson("duplicate key")
    return found


def _stray(word: str) -> Any:
    raise _NoJson(f"stray '{word[0]}'")


def _number(text: str) -> int | float:
    """A whole number that 64 bits hold; any other is a ``double`` to QEMU (``qobject/json-parser.c:parse_literal``)."""
    number = int(text) if len(text) <= DIGITS else float(text)
    return number if -(1 << 63) <= number < 1 << 64 else float(number)


_JSON: dict[str, Any] = {"object_pairs_hook": _members, "parse_constant": _stray, "parse_int": _number}


def parse(text: bytes, line: int) -> dict[str, Any]:
    """A request as an object; strings may be in either quotes. Raises :class:`QmpError` for what is none."""
    try:
        found = json.loads(_STRINGS.sub(_in_double_quotes, text), **_JSON)
    except RecursionError:
        raise QmpError("JSON nesting depth limit exceeded") from None
    except _NoJson as error:
        raise QmpError(f"{line}:1: JSON parse error, {error}") from None
    except ValueError:
        word = text.decode(errors="replace").strip()
        what = f"invalid keyword '{word}'" if word.isalpha() else "expecting value"
        raise QmpError(f"{line}:1: JSON parse error, {what}") from None
    if not isinstance(found, dict):
        raise QmpError("QMP input must be a JSON object")
    return found


def command_name(request: Mapping[str, Any], *, oob: bool = False) -> str:
    """What a request asks for, whose members are what they may be (``qmp_dispatch_check_obj()``).

    `oob`: whether ``exec-oob`` was agreed on. Raises :class:`QmpError`.
    """
    name, key = "", ""
    for member, value in request.items():
        if member == "execute" or (member == "exec-oob" and oob):
            if not isinstance(value, str):
                raise QmpError(f"QMP input member '{member}' must be a string")
            if key:
                raise QmpError(f"QMP input member '{member}' clashes with '{key}'")
            name, key = value, member
        elif member == "arguments":
            if not isinstance(value, dict):
                raise QmpError("QMP input member 'arguments' must be an object")
        elif member != "id":
            raise QmpError(f"QMP input member '{member}' is unexpected")
    if not key:
        raise QmpError("QMP input lacks member 'execute'")
    return name


def dispatch(commands: Mapping[str, Command], target: object, request: dict[str, Any], *, oob: bool = False) -> Any:
    """What a request returns; none of these commands is carried out out of band. Raises :class:`QmpError`."""
    name = command_name(request, oob=oob)
    command = commands.get(name)
    if command is None:
        raise QmpError(f"The command {name} has not been found", "CommandNotFound")
    if "exec-oob" in request:
        raise QmpError(f"The command {name} does not support OOB")
    arguments = request.get("arguments", {})
    check(arguments, command)
    return command.act(target, arguments)


def reply(request: Mapping[str, Any], body: dict[str, Any]) -> bytes:
    """An answer as a line, with the request's id."""
    if "id" in request:
        body = {**body, "id": request["id"]}
    return json.dumps(body).encode() + b"\r\n"


def error_body(error: QmpError) -> dict[str, Any]:
    """A refusal as QEMU tells it."""
    return {"error": {"class": error.kind, "desc": error.text}}
