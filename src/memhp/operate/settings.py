"""Who brings memory online on a machine: every place in files that says so, in the order in which they come to bear.

udev: rules files of all folders by name, one of a folder before masking its namesake in the later ones (udev(7)).
systemd units, tmpfiles and tuned profiles are read for what they write below ``/sys/devices/system/memory``.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from memhp.errors import BadInput
from memhp.facts import cmdline, memory_blocks
from memhp.facts.memory_blocks import ONLINE_TYPES
from memhp.facts.source import SYS_MEMORY, Source
from memhp.operate.udev_rules import rules_of

Actor = Literal["kernel", "cmdline", "udev", "systemd", "tmpfiles", "tuned", "daxctl", "modprobe"]

UDEV = ("/etc/udev/rules.d", "/run/udev/rules.d", "/usr/local/lib/udev/rules.d", "/usr/lib/udev/rules.d",
        "/lib/udev/rules.d")  # fmt: skip
SYSTEMD = ("/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system",
           "/lib/systemd/system")  # fmt: skip
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


def _files(source: Source, folders: tuple[str, ...], suffix: str) -> Iterator[tuple[str, list[tuple[int, str]]]]:
    """The files of some folders by name, the first folder's before its namesakes, with their lines in effect."""
    seen: dict[str, str] = {}
    for folder in folders:
        for name in source.listdir(folder):
            if name.endswith(suffix):
                seen.setdefault(name, f"{folder}/{name}")
    for name in sorted(seen):
        if text := _text(source, seen[name]):
            yield seen[name], list(_lines(text))


def _text(source: Source, path: str) -> str | None:
    """A file's text; None for one that masks its namesakes by being a link to the null device."""
    try:
        return source.get(path)
    except BadInput:
        return None


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their number, continued ones joined, without comments."""
    joined, first = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        first = first or number
        if line.endswith("\\"):
            joined += line[:-1]
            continue
        whole = (joined + line).strip()
        if whole and whole[0] not in "#;":
            yield first, whole
        joined, first = "", 0


_WRITES = re.compile(
    r"(online(?:_kernel|_movable)?)\b['\"]?\s*(?:>|\|\s*(?:sudo\s+)?tee)\s*['\"]?"
    r"([^\s'\";]*/(?:state|online|auto_online_blocks))\b"
)


def _udev(source: Source) -> Iterator[Setting]:
    added = max((block.index for block in memory_blocks.read(source).blocks), default=-1) + 1
    for rule in rules_of(source, _files(source, UDEV, ".rules"), added):
        for key in rule.assigns:
            if key.name == "ATTR" and key.argument in ("state", "online"):
                yield Setting("udev", rule.file, rule.line, _target(key.argument), key.value, rule.text)
            elif key.name == "RUN" and (written := _WRITES.search(key.value)):
                what = _target(written[2].rpartition("/")[2])
                yield Setting("udev", rule.file, rule.line, what, written[1], rule.text)


def _target(attribute: str) -> str:
    """What is written: ``state`` takes the type, ``online`` only 0 and 1."""
    return {"state": "online", "auto_online_blocks": "auto_online_blocks"}.get(attribute, "online-file")


def _units(source: Source) -> Iterator[tuple[str, list[tuple[int, str]]]]:
    """Services, then what is dropped into the folders beside them (systemd.unit(5))."""
    yield from _files(source, SYSTEMD, ".service")
    beside = {name for folder in SYSTEMD for name in source.listdir(folder) if name.endswith(".service.d")}
    for name in sorted(beside):
        yield from _files(source, tuple(f"{folder}/{name}" for folder in SYSTEMD), ".conf")


def _systemd(source: Source) -> Iterator[Setting]:
    for path, lines in _units(source):
        for number, line in lines:
            if not line.startswith("Exec"):
                continue
            written = _WRITES.search(line)
            if written is not None and "memory" in line:
                yield Setting("systemd", path, number, _target(written[2].rpartition("/")[2]), written[1], line)
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
    for path, lines in _files(source, TMPFILES, ".conf"):
        for number, line in lines:
            if match := _TMPFILE.fullmatch(line):
                yield Setting("tmpfiles", path, number, _target(match[1].rpartition("/")[2]), match[2], line)


def _tuned(source: Source) -> Iterator[Setting]:
    """The active profiles, then those that they include, of which they override what they say as well."""
    pending = (source.get("/etc/tuned/active_profile") or "").split()
    read, said = set[str](), set[str]()
    while pending:
        profile = pending.pop(0)
        if profile in read:
            continue
        read.add(profile)
        path = next((each for folder in TUNED if source.get(each := f"{folder}/{profile}/tuned.conf") is not None), "")
        for number, line in _lines(source.get(path) or ""):
            name, equals, value = (part.strip() for part in line.partition("="))
            if not equals or name in said:
                continue
            if name == "include":
                pending += re.split(r"[,;\s]+", value)
            elif name.startswith(SYS_MEMORY):
                said.add(name)
                yield Setting("tuned", path, number, _target(name.rpartition("/")[2]), value, line)
            elif name.startswith("cmdline"):
                for option, told in cmdline.parse(value).hotplug().items():
                    yield Setting("tuned", path, number, option.replace("-", "_"), told, line)


def _daxctl(source: Source) -> Iterator[Setting]:
    for path, lines in _files(source, (DAXCTL,), ".conf"):
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
    for path, lines in _files(source, MODPROBE, ".conf"):
        for number, line in lines:
            words = line.split()
            if words[:1] == ["options"] and words[1:2] in (["memory_hotplug"], ["virtio_mem"]):
                for word in words[2:]:
                    name, _, value = word.partition("=")
                    yield Setting("modprobe", path, number, f"{words[1]}.{name}", value, line)
