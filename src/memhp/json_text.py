"""JSON of whatever a report or an answer holds, also where a text is none: a file's name may have any bytes."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from memhp.printable import printable

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


def _as_text(value: Any) -> Any:
    """Plain values with all texts as such."""
    if isinstance(value, dict):
        return {_as_text(key): _as_text(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_as_text(each) for each in value]
    return _HALVES.sub(lambda found: printable(found[0]), value) if isinstance(value, str) else value
