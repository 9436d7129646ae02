"""What was tried in a capture, told by its ``log.txt`` and its kernel log: every write to a block's ``state``.

``log.txt`` shows writes to one block as ``-> online_movable``, an error of the shell, ``rc=1``, the state and the valid
zones after it; and those to the first eight blocks as ``memory7 rc=1 online``, each put back when it went offline.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
import tarfile
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from captures import archive, facts, open_capture
from memhp.spans import Span

ERRNO = {
    "Invalid argument": "EINVAL",
    "Device or resource busy": "EBUSY",
    "Operation not permitted": "EPERM",
}

_ONE = re.compile(r"-> (\w+)\n(?:sh: write error: (.+)\n)?rc=(\d)\n(\w+)\n(.+)")
_MANY = re.compile(r"(?:sh: write error: (.+)\n)?memory(\d+) rc=(\d) (\w+)$", re.M)
_BLOCK = re.compile(r"^memory(\d+)\n(?=\w+\n.+\n-> )", re.M)
_DUMPED = re.compile(r"page:.* pfn:(0x[0-9a-f]+)")

STEP_OF_ONE = "2-onoff"
STEP_OF_MANY = "3-offline-boot-tried"


class Write(NamedTuple):
    """A write to a block's ``state``, and what came of it; `valid_zones` where the log shows them."""

    block: int
    text: str
    errno: str
    state: str
    valid_zones: str | None = None


class Refusal(NamedTuple):
    """``memory offlining [mem ...] failed due to ...``: bytes, the reason, and the page shown to be unmovable."""

    span: Span
    reason: str
    pfn: int | None


@cache
def log_text(name: str) -> str:
    """The ``log.txt`` of a capture; "" when it has none."""
    with tarfile.open(archive(name)) as tar:
        if "log.txt" not in tar.getnames():
            return ""
        file = tar.extractfile("log.txt")
        assert file is not None
        return file.read().decode()


def writes(name: str, step: str) -> list[Write]:
    """Every write to ``state`` that led to a step, in order; empty for a step that came about otherwise."""
    told = {STEP_OF_ONE: _to_one_block, STEP_OF_MANY: _to_many_blocks}.get(step)
    return list(told(name)) if told is not None and step in open_capture(name) else []


def _to_one_block(name: str) -> Iterator[Write]:
    block = _BLOCK.search(log_text(name))
    assert block is not None
    for text, error, rc, state, zones in _ONE.findall(log_text(name)):
        yield Write(int(block[1]), text, ERRNO[error] if int(rc) else "ok", state, zones)


def _to_many_blocks(name: str) -> Iterator[Write]:
    for error, block, rc, state in _MANY.findall(log_text(name)):
        yield Write(int(block), "offline", ERRNO[error] if int(rc) else "ok", state)
        if not int(rc):
            yield Write(int(block), "online", "ok", "online")


def refusals(name: str) -> list[Refusal]:
    """Every range that could not go offline, in order."""
    log = facts(name, list(open_capture(name))[-1]).log
    failures = iter(log.offline_failures if log else ())
    found = []
    pfn = None
    for line in log.lines if log else ():
        if dumped := _DUMPED.fullmatch(line.text):
            pfn = int(dumped[1], 16)
        elif line.text.startswith("memory offlining [mem"):
            failure = next(failures)
            found.append(Refusal(failure.span, failure.reason, pfn))
            pfn = None
    return found
