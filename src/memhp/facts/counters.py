"""Files of names and numbers: /proc/meminfo, a node's meminfo, /proc/vmstat, a node's numastat.

``fs/proc/meminfo.c:meminfo_proc_show``, ``drivers/base/node.c:node_read_meminfo``, ``mm/vmstat.c:vmstat_show``.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Mapping

from memhp.facts.lines import bad_line, lines

_MEMINFO = re.compile(r"(?:Node (\d+) )?([^:\s]+): *(\d+)( kB)?")
_VMSTAT = re.compile(r"(\w+) (\d+)")

UNITLESS = "HugePages_"
"""Lines of meminfo that start so count huge pages; every other line is in kB (1024 bytes)."""


def parse_meminfo(text: str, *, where: str = "/proc/meminfo") -> dict[str, int]:
    """Every line of /proc/meminfo or of a node's meminfo by name, in kB (huge pages: a count), in the file's order.

    Raises :class:`BadInput` naming a line of another form, without its unit, or that comes twice.
    """
    found: dict[str, int] = {}
    for number, line in lines(text, where):
        match = _MEMINFO.fullmatch(line)
        if match is None or (match[4] is None) != match[2].startswith(UNITLESS) or match[2] in found:
            raise bad_line(where, number, line, "'Name:   NUMBER kB', each name once")
        found[match[2]] = int(match[3])
    return found


def render_meminfo(counters: Mapping[str, int], *, node: int | None = None) -> str:
    """The text of /proc/meminfo, or of the meminfo of one node."""
    return "".join(f"{_meminfo_line(name, value, node)}\n" for name, value in counters.items())


def _meminfo_line(name: str, value: int, node: int | None) -> str:
    label = 16
    if name == "HardwareCorrupted" or (node is None and name.startswith(UNITLESS)):
        label = 19
    elif name.startswith(UNITLESS):
        label = 17
    width = 8 if label == 16 else 5
    prefix = "" if node is None else f"Node {node} "
    return f"{prefix}{name + ':':<{label}}{value:{width}d}{'' if name.startswith(UNITLESS) else ' kB'}"


def parse_vmstat(text: str, *, where: str = "/proc/vmstat") -> dict[str, int]:
    """Every line of /proc/vmstat or of a node's numastat by name, in the file's order; pages, or events for counters.

    Raises :class:`BadInput` naming a line of another form or a name that comes twice.
    """
    found: dict[str, int] = {}
    for number, line in lines(text, where):
        match = _VMSTAT.fullmatch(line)
        if match is None or match[1] in found:
            raise bad_line(where, number, line, "'name NUMBER', each name once")
        found[match[1]] = int(match[2])
    return found


def render_vmstat(counters: Mapping[str, int]) -> str:
    """The text of /proc/vmstat."""
    return "".join(f"{name} {value}\n" for name, value in counters.items())
