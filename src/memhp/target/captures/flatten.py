"""One machine at one moment as the flat files of a capture step: the inverse of :mod:`memhp.facts.capture`.

It reads what any source shows under Linux's own paths, so that a guest, a host and a sysroot give the same files.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Iterable, Iterator

from memhp.facts import capture
from memhp.facts.nodes import POISONED_PAGES
from memhp.facts.source import DMESG, SYS_MEMORY, SYS_NODE, Source

FORMAT = 1
"""The version of the format: a file is only ever added within one."""

PROC = ("iomem", "zoneinfo", "buddyinfo", "vmstat", "meminfo", "pagetypeinfo", "cmdline")
PARAMETERS = "/sys/module/memory_hotplug/parameters"
BUSES = {"sys_dax.tsv": "/sys/bus/dax/devices", "sys_nd.tsv": "/sys/bus/nd/devices"}
NODE_FILES = ("meminfo", "cpulist", "distance", "numastat", *(f"memory_failure/{name}" for name in POISONED_PAGES))
BLOCK_FILES = ("online", "phys_device", "phys_index", "removable", "state", "valid_zones")

_BLOCK = re.compile(r"memory\d+")
_NODE = re.compile(r"node\d+")
_MAPPING = re.compile(r"mapping\d+")
_ZERO_PHYSICAL = re.compile(r"^ *0+-0+ : ", re.MULTILINE)


def flatten(source: Source) -> dict[str, str]:
    """The flat files of a step by name. Raises :class:`BadInput` where memory blocks or ``/proc/iomem`` are missing."""
    files = {f"proc_{name}": source.get(f"/proc/{name}") for name in PROC}
    files["proc_iomem"] = source.read("/proc/iomem")
    files["osrelease"] = source.get("/proc/sys/kernel/osrelease")
    files["dmesg"] = source.get(DMESG)
    files["sys_memory.tsv"] = "".join(_memory(source))
    files["sys_node.txt"] = "".join(_nodes(source))
    files["memory_hotplug_params.tsv"] = _table(source, PARAMETERS, source.listdir(PARAMETERS), under=PARAMETERS)
    for name, folder in BUSES.items():
        devices = [f"{folder}/{each}" for each in source.listdir(folder)]
        files[name] = "".join(_table(source, device, _attributes(source, device)) for device in devices)
    for name in ("qmp.json", "kpageflags.tsv"):
        files[name] = source.get(capture.PLAIN[name])
    return {name: text for name, text in files.items() if text}


def hides_addresses(iomem: str) -> bool:
    """Whether ``/proc/iomem`` shows zeroes only, as it does to all but root (``kernel/resource.c:r_show``)."""
    lines = iomem.count("\n")
    return lines > 1 and len(_ZERO_PHYSICAL.findall(iomem)) == lines


def _memory(source: Source) -> Iterator[str]:
    """``sys_memory.tsv``: files of the folder and of each block, and each block's links to nodes."""
    names = source.listdir(SYS_MEMORY)
    yield _table(source, SYS_MEMORY, [name for name in names if not _BLOCK.fullmatch(name)], under=SYS_MEMORY)
    for block in names:
        if not _BLOCK.fullmatch(block):
            continue
        yield _table(source, f"{SYS_MEMORY}/{block}", BLOCK_FILES, under=SYS_MEMORY)
        for node in source.listdir(f"{SYS_MEMORY}/{block}"):
            if _NODE.fullmatch(node):
                yield f"{block}/{node}\t../../node/{node}\n"


def _nodes(source: Source) -> Iterator[str]:
    """``sys_node.txt``: each file after a line with its path, then the folders of the nodes."""
    names = source.listdir(SYS_NODE)
    nodes = [f"{SYS_NODE}/{name}" for name in names if _NODE.fullmatch(name)]
    paths = [f"{SYS_NODE}/{name}" for name in names if f"{SYS_NODE}/{name}" not in nodes]
    for path in [*paths, *(f"{node}/{name}" for node in nodes for name in NODE_FILES)]:
        text = source.get(path)
        if text is not None:
            yield f"== {path}\n{text}" + ("" if text.endswith("\n") or not text else "\n")
    yield "".join(f"{node}\n" for node in nodes)


def _attributes(source: Source, device: str) -> Iterator[str]:
    """The names of a device's attributes, and of those of its ranges: ``mappingN`` of a dax device."""
    for name in source.listdir(device):
        inside = source.listdir(f"{device}/{name}")
        if _MAPPING.fullmatch(name):
            yield from (f"{name}/{each}" for each in inside)
        elif not inside:
            yield name


def _table(source: Source, folder: str, names: Iterable[str], under: str = "") -> str:
    """A line ``path TAB first line`` for each file that can be read."""
    rows = []
    for name in names:
        path = f"{folder}/{name}"
        text = source.get(path)
        if text is not None and name not in {"uevent"}:
            rows.append(f"{path.removeprefix(under + '/') if under else path}\t{text.partition(chr(10))[0]}\n")
    return "".join(rows)
