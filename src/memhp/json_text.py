"""JSON of whatever a report or an answer holds, also where a text is none: a file's name may have any bytes.

And what JSON from outside holds, whatever that is.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import msgspec

from memhp.printable import printable

T = TypeVar("T")
_HALVES = re.compile("[\ud800-\udfff]+")
"""Halves of surrogate pairs, which stand for bytes that are no text (``os.fsdecode()``)."""


def json_encoded(
    value: object, *, enc_hook: Callable[[Any], Any] | None = None, order: Literal["sorted"] | None = None
) -> bytes:
    """A value as JSON. Bytes that are no text are written out, as people are shown them."""
    try:
        return msgspec.json.encode(value, enc_hook=enc_hook, order=order)
    except UnicodeEncodeError:
        return msgspec.json.encode(_as_text(msgspec.to_builtins(value, enc_hook=enc_hook)), order=order)


def json_decoded(data: bytes | str, kind: type[T]) -> T:
    """What JSON from outside says. Raises msgspec.DecodeError for what is not of that kind, no text, or has no end."""
    try:
        return msgspec.json.decode(data, type=kind)
    except RecursionError:
        raise msgspec.DecodeError("nested too deep") from None
    except UnicodeError as error:
        raise msgspec.DecodeError(str(error)) from None


def _as_text(value: Any) -> Any:
    """Plain values with all texts as such."""
    if isinstance(value, dict):
        return {_as_text(key): _as_text(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_as_text(each) for each in value]
    return _HALVES.sub(lambda found: printable(found[0]), value) if isinstance(value, str) else value
