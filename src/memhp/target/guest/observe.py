"""What a guest shows, read in one request: every file of interest by one process that never forks."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np

from memhp.facts import memory_blocks
from memhp.facts.capture import File
from memhp.facts.hidden_addresses import PAGE_SIZES
from memhp.facts.kpageflags import ENTRY, Flags, online_pages, summary
from memhp.facts.observed import Facts, observe
from memhp.facts.source import DMESG, FileSource
from memhp.spans import Span, SpanSet
from memhp.target.captures.flatten import flatten
from memhp.target.captures.write import record
from memhp.target.guest.guest import Guest
from memhp.units import MiB

FILES = (
    *(f"/proc/{name}" for name in ("iomem", "zoneinfo", "buddyinfo", "vmstat", "meminfo", "pagetypeinfo", "cmdline")),
    "/proc/sys/kernel/osrelease",
    "/sys/devices/system/memory",
    "/sys/devices/system/node",
    "/sys/module/memory_hotplug/parameters",
)
BUSES = ("/sys/bus/dax/devices", "/sys/bus/nd/devices")
"""Folders of links to devices: what is behind each is read too."""

_MARK = "@memhp@"
COMMAND = (
    f"grep -rHs '' {' '.join(FILES)} $(ls -d {' '.join(f'{bus}/*/' for bus in BUSES)} 2>/dev/null); "
    f"echo {_MARK}; find /sys/devices/system/memory -name 'node*' -type l; echo {_MARK}; dmesg"
)
_LINE = re.compile(r"(/[^:\n]+):(.*)")


def parse(text: str) -> dict[str, str]:
    """Linux's paths with their texts, from what `COMMAND` prints."""
    files, links, log = [*text.split(f"{_MARK}\n"), "", ""][:3]
    found: dict[str, list[str]] = {}
    for line in files.splitlines():
        if match := _LINE.fullmatch(line):
            found.setdefault(match[1].replace("//", "/"), []).append(match[2])
    shown = {path: "".join(f"{line}\n" for line in lines) for path, lines in found.items()}
    shown |= dict.fromkeys(links.split(), "")
    return {**shown, DMESG: log}


def source(guest: Guest) -> FileSource:
    """Everything that a guest shows at this moment, and what QEMU says of it."""
    shown = parse(guest.agent.run(COMMAND).text)
    shown["/qmp.json"] = msgspec.json.format(msgspec.json.encode(qemu_record(guest)), indent=1).decode() + "\n"
    files = {path: File(text, f"guest:{path}") for path, text in shown.items()}
    return FileSource(f"guest {guest.release}", "capture", files)


def facts(guest: Guest) -> Facts:
    """The facts of a guest at this moment."""
    return observe(source(guest))


def qemu_record(guest: Guest) -> dict[str, Any]:
    """What QEMU says of the machine's memory, and how it was started."""
    return {
        "memory_devices": guest.monitor.execute("query-memory-devices"),
        "memory_size": guest.monitor.execute("query-memory-size-summary"),
        "qemu_args": guest.command,
    }


def step_files(guest: Guest, *, pages: bool = False) -> dict[str, str]:
    """A guest at this moment as the flat files of a capture step; `pages` reads ``/proc/kpageflags`` too."""
    seen = source(guest)
    files = {"capture.json": record("guest", ()), **flatten(seen)}
    if pages:
        files["kpageflags.tsv"] = "".join(_page_flags(guest, seen))
    return files


FLAGS_AT_ONCE = 16 * MiB
"""Bytes of flags that are asked for at a time: most of what a request costs is not the flags."""


def page_flags(guest: Guest, pages: Span) -> Flags:
    """``/proc/kpageflags`` of some page frames, those that the guest has."""
    at, size = pages.start * ENTRY, pages.size * ENTRY
    words = f"dd if=/proc/kpageflags bs=64k count={size} skip={at} iflag=skip_bytes,count_bytes,fullblock 2>/dev/null"
    return np.frombuffer(guest.agent.run(words).output[:size], dtype=np.uint64)


def _page_flags(guest: Guest, seen: FileSource) -> Iterator[str]:
    memory = memory_blocks.read(seen)
    page_size = observe(seen).page_size or PAGE_SIZES[0]
    online = online_pages(seen, memory, page_size)
    per = memory.block_size // page_size
    most = max(1, FLAGS_AT_ONCE // (per * ENTRY))
    numbers = sorted(block.index for block in memory.blocks)
    for run in SpanSet.joined((number, number + 1) for number in numbers):
        for first in range(*run, most):
            end = min(run.end, first + most)
            flags = page_flags(guest, Span(first * per, end * per))
            for number in range(first, end):
                at = (number - first) * per
                yield summary(f"memory{number}", number * per, flags[at : at + per], online)
