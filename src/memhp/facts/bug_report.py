"""What bug reports carry, as files under Linux's own paths: a kernel log, the output of lsmem, a sosreport.

A sosreport (``sos report``, its plugins kernel, memory, numa and pci) keeps files where Linux has them, and the output
of commands under ``sos_commands/PLUGIN/COMMAND``: memory blocks come from ``lsmem``, the release from ``uname``, the
log from ``dmesg`` or, where that lost its beginning, from the journal or ``/var/log``. What a report lacks is missing
here too; :mod:`memhp.target.seen.inferred` assumes it.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from memhp.facts import dmesg, lsmem_output
from memhp.facts.capture import File
from memhp.facts.memory_blocks import MemoryBlocks
from memhp.facts.source import BEGINNING, DMESG, OSRELEASE, SOS_MARK, SYS_MEMORY

CMDLINE = "/proc/cmdline"

_GLOBS = (
    "proc/*",
    "proc/sys/kernel/osrelease",
    "sys/devices/system/memory/**/*",
    "sys/devices/system/node/**/*",
    "sys/module/memory_hotplug/parameters/*",
    "var/log/*",
    f"{SOS_MARK}/*/*",
)
_KEPT = re.compile(
    r"proc/(?:buddyinfo|cmdline|cpuinfo|iomem|meminfo|pagetypeinfo|vmstat|zoneinfo|sys/kernel/osrelease)|sys/devices/system/(?:memory|node)/.+"
    r"|sys/module/memory_hotplug/parameters/\w+"
)
_LOGS = tuple(
    re.compile(pattern)
    for pattern in (
        r"sos_commands/\w+/dmesg",
        r"sos_commands/\w+/dmesg_-T",
        r"sos_commands/\w+/journalctl_--no-pager(_--catalog)?_--boot",
        r"var/log/dmesg",
        r"var/log/(kern\.log|messages|syslog)",
    )
)
"""What holds the kernel's log, the best first; of those that have not lost their beginning the first is taken."""
_LSMEM = re.compile(r"sos_commands/\w+/lsmem[^/]*")
_UNAME_A = re.compile(r"sos_commands/\w+/uname_-a")
_COMMANDS = (*_LOGS, _LSMEM, _UNAME_A)
"""The outputs of commands that are read; the plugin has been another one in older reports."""
_UNAME = re.compile(r"Linux \S+ (\S+) ")
_LOG = re.compile(r"Linux version \d|BIOS-e820: \[mem|Early memory node ranges$|Zone ranges:$", re.MULTILINE)


def is_wanted(member: str) -> bool:
    """Whether a file of a sosreport, named from its top, is read."""
    return bool(_KEPT.fullmatch(member)) or any(each.fullmatch(member) for each in _COMMANDS)


def wanted_files(root: Path) -> dict[str, Path]:
    """The files of a sosreport's folder that are read, by their names from its top."""
    found = (path for glob in _GLOBS for path in root.glob(glob))
    named = {path.relative_to(root).as_posix(): path for path in found}
    return {name: path for name, path in named.items() if is_wanted(name) and path.is_file()}


def of_text(text: str, where: str) -> dict[str, File] | None:
    """The files that the text of one file stands for, a kernel log or what lsmem printed; None for other text."""
    if lsmem_output.is_listing(text):
        return dict(_blocks(lsmem_output.parse(text, where=where), where))
    if _LOG.search(text):
        return dict(_log(text, where))
    return None


def of_sos(members: Mapping[str, File]) -> dict[str, File]:
    """The files that a sosreport stands for, from those of its members that are wanted.

    Raises :class:`~memhp.errors.BadInput` for an output of lsmem that is none.
    """
    files = {f"/{name}": file for name, file in members.items() if _KEPT.fullmatch(name)}
    logs = [log for pattern in _LOGS if (log := _member(members, pattern)) is not None and BEGINNING in log.text]
    if logs:
        files[DMESG] = logs[0]
    if (kept := files.get(DMESG)) is not None:
        files = {**dict(_log(kept.text, kept.where)), **files}
    uname = _member(members, _UNAME_A)
    if uname is not None and (match := _UNAME.match(uname.text)) is not None:
        files.setdefault(OSRELEASE, File(f"{match[1]}\n", uname.where))
    listed = _member(members, _LSMEM)
    if listed is not None and f"{SYS_MEMORY}/block_size_bytes" not in files:
        files |= dict(_blocks(lsmem_output.parse(listed.text, where=listed.where), listed.where))
    return files


def _member(members: Mapping[str, File], name: re.Pattern[str]) -> File | None:
    return next((file for path, file in sorted(members.items()) if name.fullmatch(path)), None)


def _log(text: str, where: str) -> Iterator[tuple[str, File]]:
    """A kernel log, and what it says that has a file of its own."""
    log = dmesg.parse(text)
    yield DMESG, File(text, where)
    if log.release is not None:
        yield OSRELEASE, File(f"{log.release}\n", where)
    if log.command_line is not None:
        yield CMDLINE, File(f"{log.command_line}\n", where)


def _blocks(memory: MemoryBlocks, where: str) -> Iterator[tuple[str, File]]:
    """The folder of memory blocks."""
    for name, text in memory.files().items():
        yield f"{SYS_MEMORY}/{name}", File(text, where)
    for block in memory.blocks:
        yield from ((f"{SYS_MEMORY}/{block.name}/{name}", File(text, where)) for name, text in block.files().items())
        yield from ((f"{SYS_MEMORY}/{block.name}/node{nid}", File("", where)) for nid in block.nodes)


def top_of(members: Iterable[str]) -> str | None:
    """The folder, with its slash, that a sosreport has in an archive; None where there is no sosreport."""
    mark = f"{SOS_MARK}/"
    return next((name[: name.index(mark)] for name in members if name.startswith(mark) or f"/{mark}" in name), None)
