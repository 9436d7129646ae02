"""udev's rules as they come to bear on a memory block that was added: what matches, where they go on, what they assign.

After udev(7). What only a run can tell is open: programs and what they print, environments that others set, devices
that nothing shows. A rule of which that is asked may run, and a GOTO of such a rule may be taken.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import NamedTuple

from memhp.facts.source import Source

Truth = bool | None
"""Yes, no, or open."""

DMI = "/sys/class/dmi/id"
EVENT = {"SUBSYSTEM": "memory", "ACTION": "add", "KERNEL": "memory{}", "DEVPATH": "/devices/system/memory/memory{}"}
"""What the kernel says of the block; its number comes in."""
BLOCK = {"state": "offline", "online": "0"}
"""Files of a block that was added, if nobody brought it online."""
FILES = frozenset({*BLOCK, "phys_device", "phys_index", "removable", "valid_zones"})
_KEY = re.compile(r'([A-Z]+)(?:\{([^}]*)\})?\s*(==|!=|\+=|-=|:=|=)\s*"((?:[^"\\]|\\.)*)"')
_DMI_KEY = re.compile(r"\[dmi/id\](\w+)")
_VARIABLE = re.compile(r"\$env\{([^}]*)\}|%E\{([^}]*)\}")


class Key(NamedTuple):
    """``ATTR{state}=="offline"``, with the variable that is its value put in; ``?`` where that is not known."""

    name: str
    argument: str
    operator: str
    value: str


class Rule(NamedTuple):
    """A rule that runs, or may: where it stands, and what it assigns."""

    file: str
    line: int
    text: str
    assigns: list[Key]


def rules_of(source: Source, files: Iterable[tuple[str, list[tuple[int, str]]]], block: int) -> Iterator[Rule]:
    """Those rules of some files, each with its lines in effect, that run when `block` is added, or may run."""
    environment: dict[str, str] = {}
    for file, lines in files:
        here: Truth = True
        jumps: dict[str, Truth] = {}
        for number, text in lines:
            keys = [Key(*found) for found in _KEY.findall(text)]
            for key in keys:
                if key.name == "LABEL":
                    here = _either(here, jumps.pop(key.value, False))
            fits = _both(*(_matches(source, key, environment, block) for key in keys))
            runs = _both(here, fits)
            if runs is False:
                continue
            assigns = [key._replace(value=_known(key.value, environment)) for key in keys if _assigns(key)]
            for name, argument, _, value in assigns:
                if name == "ENV":
                    same = runs or environment.get(argument, value) == value
                    environment[argument] = value if same else "?"
                elif name == "GOTO":
                    jumps[value] = _either(jumps.get(value, False), runs)
                    here = False if fits else None
            yield Rule(file, number, text, assigns)


def _assigns(key: Key) -> bool:
    return key.operator not in ("==", "!=") and key.name not in ("PROGRAM", "LABEL")


def _known(value: str, environment: dict[str, str]) -> str:
    match = _VARIABLE.fullmatch(value)
    return environment.get(match[1] or match[2], "?") if match else value


def _matches(source: Source, key: Key, environment: dict[str, str], block: int) -> Truth:
    """Whether a key fits the event; True for one that asks nothing."""
    if key.name in ("PROGRAM", "IMPORT"):
        return None
    if _assigns(key) or key.name == "LABEL":
        return True
    seen = _seen(source, key, environment, block)
    if seen is None:
        return None
    return any(fnmatchcase(seen, each) for each in key.value.split("|")) == (key.operator == "==")


def _seen(source: Source, key: Key, environment: dict[str, str], block: int) -> str | None:
    """What a key is held against; None where nothing shows it."""
    if key.name in EVENT:
        return EVENT[key.name].format(block)
    if key.name == "TEST":
        return key.value if key.value in FILES else None
    if key.name == "ENV":
        value = environment.get(key.argument, "?")
        return None if value == "?" else value
    if key.name == "ATTR" and (match := _DMI_KEY.fullmatch(key.argument)):
        text = source.get(f"{DMI}/{match[1]}")
        return None if text is None else text.strip()
    return BLOCK.get(key.argument) if key.name == "ATTR" else None


def _both(*all_of: Truth) -> Truth:
    return False if False in all_of else None if None in all_of else True


def _either(one: Truth, other: Truth) -> Truth:
    return True if one or other else None if None in (one, other) else False
