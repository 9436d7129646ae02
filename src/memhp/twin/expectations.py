"""What a run on a twin is to have been like: a file that fails it when the end is not as told."""
# SPDX-License-Identifier: GPL-2.0-or-later

from pathlib import Path

import msgspec

from memhp.errors import KernelError
from memhp.twin.record import Entry
from memhp.twin.script import Pattern, load_table
from memhp.twin.tree import Attribute, Folder, Link, resolve


class Expectation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`saw` are entries of the record, in this order, whatever lies between; `never` are such that may not be there."""

    exit: int | None = None
    """The command's exit code; any by default."""
    saw: list[Pattern] = []
    never: list[Pattern] = []
    end: dict[str, str] = {}
    """What files say at the end, by path, without the last newline; "-" for no such file."""


def load_expectation(path: Path) -> Expectation:
    """The expectation in a TOML file. Raises :class:`~memhp.errors.BadInput`."""
    return load_table(path, Expectation)


def unmet(wanted: Expectation, entries: list[Entry], root: Folder, code: int | None) -> list[str]:
    """All that is not as told, a line each."""
    found = []
    if wanted.exit is not None and code is not None and code != wanted.exit:
        found.append(f"the command ended with {code}, not {wanted.exit}")
    at = 0
    for pattern in wanted.saw:
        place = next((place for place in range(at, len(entries)) if pattern.fits(entries[place])), None)
        if place is None:
            found.append(f"no {pattern}" + (" after what was to come before it" if at else ""))
            break
        at = place + 1
    for pattern in wanted.never:
        found.extend(f"{pattern}, at {entry.number}" for entry in entries if pattern.fits(entry))
    for path, text in wanted.end.items():
        says = text_at(root, path)
        if says != text:
            found.append(f"{path} says {says!r}, not {text!r}")
    return found


def text_at(root: Folder, path: str) -> str:
    """What a file says, without its last newline; "-" where there is none, an errno's name where it cannot be read."""
    entry = resolve(root, path)
    if isinstance(entry, Link):
        return entry.target
    if not isinstance(entry, Attribute) or entry.show is None:
        return "-"
    try:
        return entry.show().removesuffix("\n")
    except KernelError as error:
        return error.name
