"""Who brings memory online on a machine: every place in files that says so, in the order in which they come to bear.

udev: rules files of all folders by name, one of a folder before masking its namesake in the later ones (udev(7)).
systemd units, tmpfiles and tuned profiles are read for what they write below ``/sys/devices/system/memory``.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from memhp.facts import cmdline, memory_blocks
from memhp.facts.memory_blocks import ONLINE_TYPES
from memhp.facts.source import SYS_MEMORY, Source
from memhp.operate.config_files import files_of, lines_of
from memhp.operate.systemd_units import commands
from memhp.operate.udev_rules import UDEV, Rule, rules_of

Actor = Literal["kernel", "cmdline", "udev", "systemd", "tmpfiles", "tuned", "daxctl", "modprobe"]

TMPFILES = ("/etc/tmpfiles.d", "/run/tmpfiles.d", "/usr/local/lib/tmpfiles.d", "/usr/lib/tmpfiles.d")
MODPROBE = ("/etc/modprobe.d", "/run/modprobe.d", "/usr/local/lib/modprobe.d", "/usr/lib/modprobe.d", "/lib/modprobe.d")
TUNED = ("/etc/tuned", "/usr/lib/tuned", "/etc/tuned/profiles", "/usr/lib/tuned/profiles")
DAXCTL = "/etc/daxctl.conf.d"
AUTO_ONLINE = f"{SYS_MEMORY}/auto_online_blocks"


class Setting(NamedTuple):
    """One place that says how memory goes online, or sets a parameter of memory hotplug."""

    actor: Actor
    file: str
    line: int
    what: str
    """``online`` for what brings blocks online, or the parameter's name."""
    value: str
    """The online type or the parameter's value; ``?`` where it is worked out at run time."""
    text: str
    """The line, as it stands."""


def settings(source: Source) -> list[Setting]:
    """All of them: the kernel's own first, then by actor and in the order in which they act."""
    found = list(_kernel(source))
    for read in (_udev, _systemd, _tmpfiles, _tuned, _daxctl, _modprobe):
        found += read(source)
    return found


def _kernel(source: Source) -> Iterator[Setting]:
    text = source.get("/proc/cmdline")
    if text:
        for option, value in cmdline.parse(text).hotplug().items():
            yield Setting("cmdline", "/proc/cmdline", 1, option.replace("-", "_"), value, f"{option}={value}")
    now = source.choice(AUTO_ONLINE, ONLINE_TYPES)
    if now is not None:
        yield Setting("kernel", AUTO_ONLINE, 1, "online", now, now)


_WRITES = re.compile(
    r"(?:(online(?:_kernel|_movable)?)\b['\"]?{0}([^\s'\";]*/(?:state|online|auto_online_blocks))"
    r"|(?<=[\s'\"])(1)['\"]?{0}((?:(?!/cpu)[^\s'\";])*/online))\b".replace(
        "{0}", r"\s*(?:>|\|\s*(?:sudo\s+)?tee)\s*['\"]?"
    )
)
"""An online type that goes to a file, or 1 to a block's ``online``."""


def _udev(source: Source) -> Iterator[Setting]:
    added = max((block.index for block in memory_blocks.read(source).blocks), default=-1) + 1
    programs, last = list[tuple[Rule, str]](), False
    for rule in rules_of(source, files_of(source, UDEV, ".rules"), added):
        for key in rule.assigns:
            if key.name == "ATTR" and key.argument in ("state", "online"):
                yield Setting("udev", rule.file, rule.line, *_target(key.argument, key.value), rule.text)
            elif key.name == "RUN" and not last:
                if key.operator in ("=", ":=") and rule.sure:
                    programs.clear()
                    last = key.operator == ":="
                programs.append((rule, key.value))
    for rule, command in programs:
        if written := _written(command):
            yield Setting("udev", rule.file, rule.line, *written, rule.text)


def _written(command: str) -> tuple[str, str] | None:
    """What a command of a shell writes, as :func:`_target` has it; None if nothing of that kind."""
    match = _WRITES.search(command)
    return match and _target((match[2] or match[4]).rpartition("/")[2], match[1] or match[3])


def _target(attribute: str, value: str) -> tuple[str, str]:
    """What is set, and to what: ``state`` takes the type; ``online`` only 0 and 1, which is the type online.

    drivers/base/memory.c:memory_subsys_online
    """
    if attribute == "online":
        return ("online", "online") if value == "1" else ("online-file", value)
    return "online" if attribute == "state" else attribute, value


def _systemd(source: Source) -> Iterator[Setting]:
    """What services start with, and the script that ``rc-local.service`` runs."""
    scripts = files_of(source, ("/etc", "/etc/rc.d"), "rc.local")
    for path, number, line in (*commands(source), *((path, *each) for path, lines in scripts for each in lines)):
        written = _written(line)
        if written is not None and "memory" in line:
            yield Setting("systemd", path, number, *written, line)
        elif re.search(r"\bchmem\b.*(?:-e|--enable)\b", line):
            zone = "online_movable" if re.search(r"(?:-z|--zone)[ =]?movable", line, re.I) else "online"
            yield Setting("systemd", path, number, "online", zone, line)
        elif re.search(r"\bdaxctl\b.*\b(?:reconfigure-device|online-memory)\b", line):
            if re.search(r"--no-online|\s-N\b", line):
                continue
            zone = "online" if re.search(r"--no-movable|\s-M\b", line) else "online_movable"
            yield Setting("daxctl", path, number, "online", zone, line)


_TMPFILE = re.compile(r"[wf][+!-]*\s+(/sys/devices/system/memory/\S+)(?:\s+\S+){4}\s+(\S+)")


def _tmpfiles(source: Source) -> Iterator[Setting]:
    for path, lines in files_of(source, TMPFILES, ".conf"):
        for number, line in lines:
            if match := _TMPFILE.fullmatch(line.replace('"', "").replace("'", "")):
                yield Setting("tmpfiles", path, number, *_target(match[1].rpartition("/")[2], match[2]), line)


def _tuned(source: Source) -> Iterator[Setting]:
    """What active profiles say; of several places that set one thing the last that is loaded."""
    files = list[str]()
    _load_profiles(source, (source.get("/etc/tuned/active_profile") or "").split(), [], files)
    said = set[str]()
    for path in reversed(files):
        for number, line in lines_of(source.get(path) or ""):
            name, equals, value = (part.strip() for part in line.partition("="))
            if not equals or name in said:
                continue
            if name.startswith(SYS_MEMORY):
                said.add(name)
                yield Setting("tuned", path, number, *_target(name.rpartition("/")[2], value), line)
            elif name.startswith("cmdline"):
                for option, told in cmdline.parse(value).hotplug().items():
                    yield Setting("tuned", path, number, option.replace("-", "_"), told, line)


def _load_profiles(source: Source, names: list[str], begun: list[str], loaded: list[str]) -> None:
    """The files of profiles in the order in which tuned merges them: each behind those that it includes, none twice.

    tuned/profiles/loader.py:_load_profile. One that includes its own name means its namesake in a later folder.
    """
    for name in names:
        paths = (f"{folder}/{name}/tuned.conf" for folder in TUNED)
        path = next((each for each in paths if each not in begun and source.get(each) is not None), None)
        if path is None:
            continue
        begun.append(path)
        for _, line in lines_of(source.get(path) or ""):
            key, _, value = (part.strip() for part in line.partition("="))
            if key == "include":
                _load_profiles(source, re.split(r"[,;\s]+", value), begun, loaded)
        loaded.append(path)


def _daxctl(source: Source) -> Iterator[Setting]:
    for path, lines in files_of(source, (DAXCTL,), ".conf"):
        section: dict[str, tuple[str, int]] = {}
        for number, line in [*lines, (0, "[end]")]:
            if line.startswith("["):
                yield from _reconfigured(path, section)
                section = {"": (line, number)} if line.startswith("[reconfigure-device") else {}
            elif section:
                name, _, value = (part.strip() for part in line.partition("="))
                section[name] = (value, number)


def _reconfigured(path: str, section: dict[str, tuple[str, int]]) -> Iterator[Setting]:
    """What a section of daxctl's configuration does when its device appears (daxctl-reconfigure-device(1))."""
    if section.get("mode", ("", 0))[0] != "system-ram" or section.get("online", ("true", 0))[0] == "false":
        return
    movable = section.get("movable", ("true", section["mode"][1]))
    value = "online" if movable[0] == "false" else "online_movable"
    yield Setting("daxctl", path, movable[1], "online", value, f"movable = {movable[0]}")


def _modprobe(source: Source) -> Iterator[Setting]:
    for path, lines in files_of(source, MODPROBE, ".conf"):
        for number, line in lines:
            words = line.split()
            if words[:1] == ["options"] and words[1:2] in (["memory_hotplug"], ["virtio_mem"]):
                for word in words[2:]:
                    name, _, value = word.partition("=")
                    yield Setting("modprobe", path, number, f"{words[1]}.{name}", value, line)
