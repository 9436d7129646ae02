"""A small runner of udev's rules: those keys that rules about memory use, as udev(7) has them.

What a rule reads and writes goes through functions, so that the same rules act on a twin and on a guest.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import NamedTuple

from memhp.errors import KernelError
from memhp.twin.files.root import twin_files, twin_root
from memhp.twin.machine import Twin
from memhp.twin.tree import Attribute, resolve

_KEY = re.compile(r'\s*([A-Z]+)(?:\{([^}]*)\})?\s*(==|!=|\+=|=)\s*"([^"]*)"\s*,?')
_VALUE = re.compile(r"\$env\{([^}]*)\}")

FROM_KERNEL = 'SUBSYSTEM=="memory", ACTION=="add", ATTR{state}=="offline", ATTR{state}="online"'
"""The rule that commit 31bc3858ea3e ("add automatic onlining policy for the newly added memory") tells of."""
UBUNTU = """
ATTR{[dmi/id]sys_vendor}=="Xen", GOTO="vm_hotadd_apply"
ATTR{[dmi/id]sys_vendor}=="QEMU", GOTO="vm_hotadd_apply"
GOTO="vm_hotadd_end"
LABEL="vm_hotadd_apply"
SUBSYSTEM=="memory", ACTION=="add", DEVPATH=="/devices/system/memory/memory[0-9]*", TEST=="state", ATTR{state}="online"
LABEL="vm_hotadd_end"
"""
"""The same as ``40-vm-hotadd.rules`` of Ubuntu's udev has it, for another hypervisor."""
RED_HAT = """
SUBSYSTEM!="memory", GOTO="memory_hotplug_end"
ACTION!="add", GOTO="memory_hotplug_end"
PROGRAM="/bin/uname -p", RESULT=="s390*", GOTO="memory_hotplug_end"
ENV{.state}="online"
PROGRAM="/bin/systemd-detect-virt", RESULT=="none", ENV{.state}="online_movable"
ATTR{state}=="offline", ATTR{state}="$env{.state}"
LABEL="memory_hotplug_end"
"""
"""The same as ``40-redhat.rules`` of Red Hat Enterprise Linux 7 has it."""
MOVABLE = 'SUBSYSTEM=="memory", ACTION=="add|change", ATTR{state}=="offline", ATTR{state}="online_movable"'
"""What an operator writes who wants to have the memory back."""

HOST = {"/sys/class/dmi/id/sys_vendor": "QEMU"}
"""Files that are no memory's."""
PROGRAMS = {"/bin/uname -p": "x86_64", "/bin/systemd-detect-virt": "none"}
"""What the commands of these rules print."""

Read = Callable[[str], str | None]
"""What a file says; None where there is none."""
Write = Callable[[str, str], str]
"""What a write to a file comes to: ``ok``, or an errno's name."""


class Key(NamedTuple):
    """``ATTR{state}=="offline"``."""

    name: str
    argument: str
    operator: str
    value: str


def parse(text: str) -> list[list[Key]]:
    """Rules, a line each. Raises ValueError for a line that is none."""
    found = []
    for line in filter(None, (line.strip() for line in text.splitlines())):
        if line.startswith("#"):
            continue
        keys = [Key(*match.groups(default="")) for match in _KEY.finditer(line)]
        if _KEY.sub("", line).strip():
            raise ValueError(f"no rule: {line}")
        found.append(keys)
    return found


@dataclass
class Udev:
    """Rules, and the files below ``/sys`` that they act on; `wrote` has every write with what it came to."""

    rules: list[list[Key]]
    read: Read
    write: Write
    wrote: list[tuple[str, str, str]] = field(default_factory=list)

    def event(self, environment: Mapping[str, str]) -> None:
        """Apply the rules to an event, one after the other."""
        env, result, skip = dict(environment), "", ""
        for rule in self.rules:
            if skip and Key("LABEL", "", "=", skip) not in rule:
                continue
            skip = ""
            for key in rule:
                value = _VALUE.sub(lambda match: env.get(match[1], ""), key.value)
                path = self._path(env["DEVPATH"], key.argument)
                if key.name == "PROGRAM":
                    result = PROGRAMS[value]
                elif key.operator in ("==", "!="):
                    seen = {"RESULT": result, "TEST": value, "ENV": env.get(key.argument, "")}.get(key.name)
                    if key.name == "TEST":
                        seen = value if self.read(f"/sys{env['DEVPATH']}/{value}") is not None else None
                    elif key.name == "ATTR":
                        seen = HOST.get(path) or self.read(path)
                    elif seen is None:
                        seen = env[key.name]
                    fits = seen is not None and any(fnmatchcase(seen, each) for each in value.split("|"))
                    if fits != (key.operator == "=="):
                        break
                elif key.name == "GOTO":
                    skip = value
                elif key.name == "ENV":
                    env[key.argument] = value
                elif key.name == "ATTR":
                    self.wrote.append((path, value, self.write(path, value)))

    @staticmethod
    def _path(device: str, name: str) -> str:
        """``[dmi/id]sys_vendor`` is another device's attribute."""
        match = re.fullmatch(r"\[([^\]]*)\](.*)", name)
        return f"/sys/class/{match[1]}/{match[2]}" if match else f"/sys{device}/{name}"


def files_of(twin: Twin) -> tuple[Read, Write]:
    """The files of a twin."""
    root = twin_root(twin_files(twin, ""))

    def read(path: str) -> str | None:
        entry = resolve(root, path)
        return entry.show().removesuffix("\n") if isinstance(entry, Attribute) and entry.show else None

    def write(path: str, text: str) -> str:
        entry = resolve(root, path)
        assert isinstance(entry, Attribute) and entry.store is not None
        try:
            twin.wrote(0, path, text, entry.store)
        except KernelError as error:
            return error.name
        return "ok"

    return read, write
