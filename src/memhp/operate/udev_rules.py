"""udev's rules as they come to bear on a memory block that was added: what matches, where they go on, what they assign.

After udev(7). What only a run can tell is open: programs and what they print, environments that others set, devices
that nothing shows. A rule of which that is asked may run, and a GOTO of such a rule may be taken.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import NamedTuple

from memhp.errors import BadInput
from memhp.facts import cpuinfo
from memhp.facts.describe import architecture
from memhp.facts.observed import observe
from memhp.facts.source import SYS_MEMORY, Source

Truth = bool | None
"""Yes, no, or open."""

UDEV = ("/etc/udev/rules.d", "/run/udev/rules.d", "/usr/local/lib/udev/rules.d", "/usr/lib/udev/rules.d",
        "/lib/udev/rules.d")  # fmt: skip
DMI = "/sys/class/dmi/id"
EVENT = {
    "SUBSYSTEM": ("memory",),
    "ACTION": ("add",),
    "KERNEL": ("memory{}",),
    "DEVPATH": ("/devices/system/memory/memory{}",),
    "DRIVER": ("",),
    "SUBSYSTEMS": ("memory", ""),
    "KERNELS": ("memory{}", "memory"),
    "DRIVERS": ("",),
}
"""What the kernel says of the block, whose number comes in; in the plural of the block and the folder that it is in."""
BLOCK = {"state": "offline", "online": "0"}
"""Files of a block that was added, if nobody brought it online."""
BARE_OR_NOT = frozenset({"hypervisor", "syscall"})
"""Flags of CPUs of which x86-64 shows one at least (arch/x86/kernel/cpu/capflags.c)."""
FILES = frozenset({*BLOCK, "phys_device", "phys_index", "removable", "valid_zones"})
_KEY = re.compile(r'([A-Z]+)(?:\{([^}]*)\})?\s*(==|!=|\+=|-=|:=|=)\s*([ei]*)"((?:[^"\\]|\\.)*)"')
_DMI_KEY = re.compile(r"\[dmi/id\](\w+)")
_VARIABLE = re.compile(r"\$env\{([^}]*)\}|%E\{([^}]*)\}")
_WORKED_OUT = re.compile(r"(?<![$%])(?:[$%]{2})*(?:%[cs]|\$(?:attr|result|sysfs)\b|\$env\{|%E\{)")
"""What udev puts into a value when it runs: what a program printed, files of devices, more than one variable."""


class Key(NamedTuple):
    """``ATTR{state}=="offline"``, with the variable that is its value put in; ``?`` where that is not known."""

    name: str
    argument: str
    operator: str
    value: str
    any_case: bool = False
    """Whether upper and lower case are one: ``==i"…"``."""


class Rule(NamedTuple):
    """A rule that runs, or may: where it stands, and what it assigns."""

    file: str
    line: int
    text: str
    assigns: list[Key]
    sure: bool
    """Whether it runs for all that is seen."""


def rules_of(source: Source, files: Iterable[tuple[str, list[tuple[int, str]]]], block: int) -> Iterator[Rule]:
    """Those rules of some files, each with its lines in effect, that run when `block` is added, or may run."""
    environment: dict[str, str] = {}
    for file, lines in files:
        here: Truth = True
        jumps: dict[str, Truth] = {}
        for number, text in lines:
            keys = [_key(*found) for found in _KEY.findall(text)]
            for key in keys:
                if key.name == "LABEL":
                    here = _either(here, jumps.pop(key.value, False))
            fits = _both(*(_matches(source, key, environment, block) for key in keys))
            runs = _both(here, fits)
            if runs is False:
                continue
            assigns = [key._replace(value=_known(key, environment)) for key in keys if _assigns(key)]
            for name, argument, operator, given, _ in assigns:
                value = given
                if name == "ENV":
                    value = _added(environment, argument, given) if operator == "+=" else given
                    same = runs or environment.get(argument, value) == value
                    environment[argument] = value if same else "?"
                elif name == "GOTO":
                    jumps[value] = _either(jumps.get(value, False), runs)
                    here = False if fits else None
            yield Rule(file, number, text, assigns, runs is True)


def _key(name: str, argument: str, operator: str, prefix: str, value: str) -> Key:
    """A key as it is written; before its quotes stands ``e`` where it has escapes of C, ``i`` where case is one."""
    return Key(name, argument, operator, value.replace('\\"', '"'), "i" in prefix)


def _added(environment: dict[str, str], name: str, value: str) -> str:
    """What ``ENV{…}+=`` makes of a variable: its words, and these."""
    before = environment.get(name, "")
    return "?" if "?" in (before, value) else f"{before} {value}".strip()


def _assigns(key: Key) -> bool:
    return key.operator not in ("==", "!=") and key.name not in ("PROGRAM", "LABEL")


def _known(key: Key, environment: dict[str, str]) -> str:
    """What a key assigns, with the variable that is its value put in; ``?`` where it shows when the rule runs."""
    if match := _VARIABLE.fullmatch(key.value):
        return environment.get(match[1] or match[2], "?")
    return "?" if key.name in ("ATTR", "ENV") and _WORKED_OUT.search(key.value) else key.value


def _matches(source: Source, key: Key, environment: dict[str, str], block: int) -> Truth:
    """Whether a key fits the event; True for one that asks nothing."""
    if key.name in ("PROGRAM", "IMPORT"):
        return None
    if _assigns(key) or key.name == "LABEL":
        return True
    seen = _seen(source, key, environment, block)
    if seen is None:
        return None
    if key.any_case:
        key, seen = key._replace(value=key.value.lower()), tuple(each.lower() for each in seen)
    asked = key.value.split("|")
    return any(any(fnmatchcase(each, one) for one in asked) == (key.operator == "==") for each in seen)


def _seen(source: Source, key: Key, environment: dict[str, str], block: int) -> tuple[str, ...] | None:
    """What a key is held against, each of several; none where the device lacks it, None where nothing shows it."""
    if key.name in EVENT:
        return tuple(each.format(block) for each in EVENT[key.name])
    if key.name == "TEST":
        return (key.value,) if key.value in FILES else None
    if key.name == "ENV":
        value = environment.get(key.argument, "?")
        return None if value == "?" else (value,)
    if key.name == "CONST":
        return _constant(source, key)
    if key.name not in ("ATTR", "ATTRS"):
        return None
    if match := _DMI_KEY.fullmatch(key.argument):
        return _text(source, f"{DMI}/{match[1]}")
    if key.argument in BLOCK:
        return (BLOCK[key.argument],)
    if key.name == "ATTRS" and key.argument not in FILES:
        return _text(source, f"{SYS_MEMORY}/{key.argument}") or ()
    return None


def _text(source: Source, path: str) -> tuple[str, ...] | None:
    text = source.get(path)
    return None if text is None else (text.strip(),)


def _constant(source: Source, key: Key) -> tuple[str, ...] | None:
    """``CONST{arch}``; and of ``CONST{virt}`` whether it is ``none``, which x86 shows in the flags of its CPUs."""
    if key.argument == "arch":
        return _arch(source)
    flags = cpuinfo.parse(source.get("/proc/cpuinfo") or "").flags
    if key.argument != "virt" or not flags & BARE_OR_NOT:
        return None
    if "hypervisor" not in flags:
        return ("none",)
    return ("a hypervisor's",) if key.value == "none" else None


@lru_cache(maxsize=1)
def _arch(source: Source) -> tuple[str, ...] | None:
    """The machine's architecture as systemd calls it; looked at once, for every rule may ask."""
    try:
        return (architecture(observe(source))[0].replace("_", "-"),)
    except BadInput:
        return None


def _both(*all_of: Truth) -> Truth:
    return False if False in all_of else None if None in all_of else True


def _either(one: Truth, other: Truth) -> Truth:
    return True if one or other else None if None in (one, other) else False
