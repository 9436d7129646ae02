"""Who brings memory online on a machine: every place in files that says so, in the order in which they come to bear.

udev: rules files of all folders by name, one of a folder before masking its namesake in the later ones (udev(7)).
systemd units, tmpfiles and tuned profiles are read for what they write below ``/sys/devices/system/memory``.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from memhp.errors import BadInput
from memhp.facts import cmdline
from memhp.facts.memory_blocks import ONLINE_TYPES
from memhp.facts.source import SYS_MEMORY, Source

Actor = Literal["kernel", "cmdline", "udev", "systemd", "tmpfiles", "tuned", "daxctl", "modprobe"]

UDEV = ("/etc/udev/rules.d", "/run/udev/rules.d", "/usr/local/lib/udev/rules.d", "/usr/lib/udev/rules.d",
        "/lib/udev/rules.d")  # fmt: skip
SYSTEMD = ("/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
TMPFILES = ("/etc/tmpfiles.d", "/run/tmpfiles.d", "/usr/lib/tmpfiles.d")
MODPROBE = ("/etc/modprobe.d", "/run/modprobe.d", "/usr/lib/modprobe.d", "/lib/modprobe.d")
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


_TOKEN = re.compile(r'([A-Z]+)(?:\{([^}]*)\})?\s*(==|!=|\+=|-=|:=|=)\s*"((?:[^"\\]|\\.)*)"')
_WRITES = re.compile(
    r"(online(?:_kernel|_movable)?)\b['\"]?\s*(?:>|\|\s*(?:sudo\s+)?tee)\s*['\"]?"
    r"([^\s'\";]*/(?:state|online|auto_online_blocks))\b"
)
_VARIABLE = re.compile(r"\$env\{([^}]*)\}|%E\{([^}]*)\}")


def _udev(source: Source) -> Iterator[Setting]:
    for path, lines in _files(source, UDEV, ".rules"):
        variables: dict[str, str] = {}
        for number, line in lines:
            tokens = _TOKEN.findall(line)
            matches = {(key, name): value for key, name, operator, value in tokens if operator == "=="}
            for key, name, operator, value in tokens:
                if key == "ENV" and operator in ("=", ":="):
                    variables[name] = value if variables.get(name, value) == value else "?"
                elif key == "ATTR" and operator in ("=", ":=") and name in ("state", "online"):
                    if matches.get(("SUBSYSTEM", ""), "memory") == "memory":
                        yield Setting("udev", path, number, _target(name), _value(value, variables), line)
                elif key == "RUN" and (written := _WRITES.search(value)) and '"memory"' in line:
                    yield Setting("udev", path, number, _target(written[2].rpartition("/")[2]), written[1], line)


def _target(attribute: str) -> str:
    """What is written: ``state`` takes the type, ``online`` only 0 and 1."""
    return {"state": "online", "auto_online_blocks": "auto_online_blocks"}.get(attribute, "online-file")


def _value(value: str, variables: dict[str, str]) -> str:
    match = _VARIABLE.fullmatch(value)
    return variables.get(match[1] or match[2], "?") if match else value


def _systemd(source: Source) -> Iterator[Setting]:
    for path, lines in _files(source, SYSTEMD, ".service"):
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
    active = (source.get("/etc/tuned/active_profile") or "").split()
    for profile in active:
        path = next((each for folder in TUNED if source.get(each := f"{folder}/{profile}/tuned.conf") is not None), "")
        for number, line in _lines(source.get(path) or ""):
            name, equals, value = (part.strip() for part in line.partition("="))
            if equals and name.startswith(SYS_MEMORY):
                yield Setting("tuned", path, number, _target(name.rpartition("/")[2]), value, line)
            elif equals and name.startswith("cmdline"):
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
