"""systemd's services that start on a machine, and the commands that they start with.

After systemd.unit(5) and systemd.service(5): of files of one name the first folder's counts, drop-ins come after it by
name (its own, those of ``a-.service`` for ``a-b.service``, those of all services), an empty ``ExecStart=`` takes back
what was said before. A service with an [Install] section that nothing links to is disabled; without one it is started
by others, and counts. Drop-ins alone are no service: systemd finds none of that name to load.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from memhp.facts.source import Source
from memhp.operate.config_files import files_of
from memhp.operate.udev_rules import UDEV

FOLDERS = (
    "/etc/systemd/system.control", "/run/systemd/system.control", "/run/systemd/transient",
    "/run/systemd/generator.early", "/etc/systemd/system", "/etc/systemd/system.attached", "/run/systemd/system",
    "/run/systemd/system.attached", "/run/systemd/generator", "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system", "/lib/systemd/system", "/run/systemd/generator.late",
)  # fmt: skip
"""Where units are, the first first: generators' output too (systemd.unit(5), system unit search path)."""
LINKS = (".wants", ".requires", ".upholds")
"""Folders beside units whose links start what they name."""
STARTERS = ("timer", "path", "socket")
"""Units that start the service of their name."""
PULLS = frozenset({"Wants", "Requires", "Requisite", "BindsTo", "Upholds"})
"""What a unit says of others that are to start with it."""
_WANTED = re.compile(r'SYSTEMD_WANTS\}\s*\+?=\s*"([^"]*)"')
INSTANCE = re.compile(r"@[^.]*\.")


class Command(NamedTuple):
    """A command that a service starts with, and where it stands."""

    file: str
    line: int
    text: str


def commands(source: Source) -> Iterator[Command]:
    """The commands of all services that start, each service's in the order of its files."""
    services = {path.rpartition("/")[2]: (path, lines) for path, lines in files_of(source, FOLDERS, ".service")}
    listed = [(folder, name) for folder in FOLDERS for name in source.listdir(folder)]
    beside = [(name.removesuffix(".d"), f"{folder}/{name}") for folder, name in listed if name.endswith("service.d")]
    targets = (lines for _, lines in files_of(source, FOLDERS, ".target"))
    started = _started(source, (*(lines for _, lines in services.values()), *targets))
    for name, file in sorted(services.items()):
        installable = any(line.startswith("[Install]") for _, line in file[1])
        if installable and not any(_is(name, each) for each in started):
            continue
        folders = [folder for whose in _dropped_for(name) for each, folder in beside if each == whose]
        yield from _in_effect([file, *files_of(source, folders, ".conf")])


def _dropped_for(name: str) -> Iterator[str]:
    """Whose drop-ins a service has, its own first: ``a-b.service``, ``a-.service``, all services."""
    yield name
    if (template := INSTANCE.sub("@.", name)) != name:
        yield template
    stem = name.removesuffix(".service")
    yield from (f"{stem[: at + 1]}.service" for at in range(len(stem) - 2, 0, -1) if stem[at] == "-")
    yield "service"


def _in_effect(files: Iterable[tuple[str, list[tuple[int, str]]]]) -> Iterator[Command]:
    """What is left of ``ExecStart…=`` lines."""
    found: dict[str, list[Command]] = {}
    for path, lines in files:
        for number, line in lines:
            key, equals, value = (part.strip() for part in line.partition("="))
            if equals and key.startswith("ExecStart"):
                said = found.setdefault(key, [])
                said.append(Command(path, number, line)) if value else said.clear()
    yield from (command for said in found.values() for command in said)


def _started(source: Source, units: Iterable[list[tuple[int, str]]]) -> set[str]:
    """The names of units that links, other units or udev's rules start; a timer's service for the timer's."""
    names = {name for folder in FOLDERS for beside in source.listdir(folder) if beside.endswith(LINKS)
             for name in source.listdir(f"{folder}/{beside}")}  # fmt: skip
    for lines in units:
        for _, line in lines:
            key, _, value = (part.strip() for part in line.partition("="))
            if key in PULLS:
                names.update(value.split())
    for _, lines in files_of(source, UDEV, ".rules"):
        for _, line in lines:
            names.update(name for value in _WANTED.findall(line) for name in value.split())
    services = {f"{name.removesuffix(kind)}service" for name in names for kind in STARTERS if name.endswith(f".{kind}")}
    return names | services


def _is(name: str, started: str) -> bool:
    """Whether a unit of that name is what was started: ``a@.service`` of ``a@sda.service``."""
    return name == started or name == INSTANCE.sub("@.", started)
