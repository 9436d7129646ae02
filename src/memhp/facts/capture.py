"""The flat files of a capture step, mapped onto Linux's own paths.

A capture step is a folder that a small script in a guest filled. ``proc_NAME`` is /proc/NAME, ``dmesg`` the kernel log.
``sys_memory.tsv`` holds a line ``path TAB first line`` for each file below /sys/devices/system/memory, and
``memory_hotplug_params.tsv`` for /sys/module/memory_hotplug/parameters; ``sys_dax.tsv`` and ``sys_nd.tsv`` do the same
with absolute paths. ``sys_node.txt`` holds the files below /sys/devices/system/node, each after a line ``== path``.
``qmp.json`` is what QEMU said of the machine. An attribute that could not be read holds the error of ``cat``: it is
left out here, as it would be missing for any reader.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from memhp.facts.lines import bad_line, cut_off, lines

MARKS = frozenset({"proc_iomem", "sys_memory.tsv", "proc_zoneinfo"})
"""A folder with one of these files is a capture step."""

TABLES = {
    "sys_memory.tsv": "/sys/devices/system/memory/",
    "memory_hotplug_params.tsv": "/sys/module/memory_hotplug/parameters/",
    "sys_dax.tsv": "/",
    "sys_nd.tsv": "/",
}
"""The folder that the paths of each table are relative to."""

PLAIN = {
    "dmesg": "/var/log/dmesg",
    "osrelease": "/proc/sys/kernel/osrelease",
    "capture.json": "/capture.json",
    "kpageflags.tsv": "/kpageflags.tsv",
    "debug_kernel_page_tables": "/sys/kernel/debug/kernel_page_tables",
    "debug_page_tables_kernel": "/sys/kernel/debug/page_tables/kernel",
    "debug_page_tables_current_kernel": "/sys/kernel/debug/page_tables/current_kernel",
    "qmp.json": "/qmp.json",
    "qemu_info_registers": "/qemu_info_registers",
}
"""Files that stand for one path. Those at the top of the tree are not Linux's: docs/captures.md tells."""

NODES = "sys_node.txt"
_NODE_HEAD = "== "


class File(NamedTuple):
    """The text of a file and where it was read, as errors name it."""

    text: str
    where: str


def is_step(names: Iterable[str]) -> bool:
    """Whether a folder with these files is a capture step."""
    return not MARKS.isdisjoint(names)


def is_read(name: str) -> bool:
    """Whether a flat file of this name stands for a path; others may lie beside it, text or not."""
    return name.startswith("proc_") or name in PLAIN or name in TABLES or name == NODES


def file_of(path: str) -> str:
    """The flat file that holds one of Linux's paths."""
    for name, known in PLAIN.items():
        if path == known:
            return name
    for name, folder in TABLES.items():
        if folder != "/" and path.startswith(folder.rstrip("/")):
            return name
    if path.startswith("/sys/devices/system/node"):
        return NODES
    return path.strip("/").replace("/", "_")


def expand(flat: Mapping[str, tuple[str, str]]) -> dict[str, File]:
    """Linux's paths with their texts, from the flat files of a step: name to text and place.

    Raises :class:`BadInput` for a table whose lines have no tab, or that ends within a line.
    """
    files: dict[str, File] = {}
    for name, (text, where) in flat.items():
        if name.startswith("proc_"):
            files[f"/proc/{name.removeprefix('proc_')}"] = File(text, where)
        elif name in PLAIN:
            files[PLAIN[name]] = File(text, where)
        elif name in TABLES:
            files.update(_table(text, where, TABLES[name]))
        elif name == NODES:
            files.update(_nodes(text, where))
    return files


def _table(text: str, where: str, folder: str) -> Iterator[tuple[str, File]]:
    for number, line in lines(text, where) if text else ():
        path, tab, value = line.partition("\t")
        if not tab:
            raise bad_line(where, number, line, "a path, a tab and the first line of that file")
        if not _unreadable(value):
            yield folder + path.lstrip("/"), File(value + "\n", f"{where}:{number}")


def _nodes(text: str, where: str) -> Iterator[tuple[str, File]]:
    numbered = lines(text, where) if text else []
    path, at = "", 0
    content: list[str] = []
    for number, line in numbered:
        head = line.startswith(_NODE_HEAD)
        if head or line.startswith("/sys/devices/system/node/node"):
            if path and not _unreadable(content[0] if content else ""):
                yield path, File("".join(content), f"{where}:{at}")
            path, at, content = line.removeprefix(_NODE_HEAD) if head else "", number, []
        elif not path:
            raise bad_line(where, number, line, f"'{_NODE_HEAD}' and a path")
        else:
            content.append(f"{line}\n")
    if path:
        raise cut_off(where, len(numbered), "the list of node folders")


def _unreadable(value: str) -> bool:
    return value.startswith("cat: ")
