"""Facts written as a tree of files that Linux tools read: ``lsmem --sysroot``, and our own reader."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from pathlib import Path

from memhp.facts import buddyinfo, counters, iomem, pagetypeinfo, zoneinfo
from memhp.facts.dmesg import Line
from memhp.facts.observed import Facts
from memhp.facts.params import DIRECTORY as PARAMETERS
from memhp.facts.source import DMESG, OSRELEASE, SYS_MEMORY, SYS_NODE
from memhp.outputs.tree import write_tree


def files(facts: Facts) -> Iterator[tuple[str, str]]:
    """Every file of the tree: Linux's path and the text. What the facts do not tell is left out."""
    yield "/proc/iomem", iomem.render(facts.iomem)
    yield "/proc/zoneinfo", zoneinfo.render(facts.zones)
    if facts.meminfo:
        yield "/proc/meminfo", counters.render_meminfo(facts.meminfo)
    if facts.vmstat:
        yield "/proc/vmstat", counters.render_vmstat(facts.vmstat)
    if facts.buddyinfo:
        yield "/proc/buddyinfo", buddyinfo.render(facts.buddyinfo)
    if facts.pagetypeinfo and all(node.free for node in facts.pagetypeinfo):
        yield "/proc/pagetypeinfo", pagetypeinfo.render(facts.pagetypeinfo)
    if facts.cmdline is not None:
        yield "/proc/cmdline", f"{facts.cmdline.text}\n"
    if facts.release is not None:
        yield OSRELEASE, f"{facts.release}\n"
    if facts.log is not None:
        yield DMESG, "".join(_log_line(line) for line in facts.log.lines)
    for name, text in facts.params.files().items():
        yield f"{PARAMETERS}/{name}", text
    for name, text in facts.memory.files().items():
        yield f"{SYS_MEMORY}/{name}", text
    for block in facts.memory.blocks:
        for name, text in block.files().items():
            yield f"{SYS_MEMORY}/{block.name}/{name}", text
    if facts.nodes is not None:
        for name, text in facts.nodes.files().items():
            yield f"{SYS_NODE}/{name}", text
        for node in facts.nodes.nodes:
            for name, text in node.files().items():
                yield f"{SYS_NODE}/node{node.nid}/{name}", text


def _log_line(line: Line) -> str:
    """A line of the kernel log as ``dmesg`` prints it (``kernel/printk/printk.c:print_time``)."""
    return f"{line.text}\n" if line.time is None else f"[{line.time:12.6f}] {line.text}\n"


def links(facts: Facts) -> Iterator[tuple[str, str]]:
    """Every link of the tree: its path and where it points (``do_register_memory_block_under_node()``)."""
    for block in facts.memory.blocks:
        for nid in block.nodes:
            yield f"{SYS_MEMORY}/{block.name}/node{nid}", f"../../node/node{nid}"
            yield f"{SYS_NODE}/node{nid}/{block.name}", f"../../memory/{block.name}"


def write_sysroot(facts: Facts, directory: Path) -> None:
    """Write the tree, all of it or nothing, into a folder that is new, empty or was written here before.

    Raises :class:`~memhp.errors.BadInput` for a place that cannot be written and for a folder with anything else in it
    (:func:`memhp.outputs.tree.write_tree`).
    """
    write_tree(directory, dict(files(facts)), dict(links(facts)))
