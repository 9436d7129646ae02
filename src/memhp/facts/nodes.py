"""/sys/devices/system/node: the NUMA nodes, as ``drivers/base/node.c`` shows them."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Mapping
from dataclasses import dataclass, field

from memhp.facts import counters
from memhp.facts.lines import id_list, render_id_list
from memhp.facts.source import SYS_NODE, Source

NODE_STATES = ("possible", "online", "has_memory", "has_normal_memory", "has_cpu", "has_generic_initiator")
"""The lists of nodes in the folder (``drivers/base/node.c:node_state_attr``)."""

POISONED_PAGES = ("total", "ignored", "failed", "delayed", "recovered")
"""The files of a node's folder ``memory_failure``, since 6.3."""


@dataclass(frozen=True)
class Node:
    """One online node. `meminfo` is in kB; `distance` has a number for each online node."""

    nid: int
    meminfo: Mapping[str, int] = field(default_factory=dict)
    cpulist: tuple[int, ...] | None = None
    distance: tuple[int, ...] | None = None
    numastat: Mapping[str, int] = field(default_factory=dict)
    memory_failure: Mapping[str, int] = field(default_factory=dict)
    """Pages that memory errors took, by what came of them (``mm/memory-failure.c:memory_failure_attr``)."""

    def files(self) -> dict[str, str]:
        """The node's attribute files by name, with the text that the kernel shows."""
        shown: dict[str, str] = {}
        if self.meminfo:
            shown["meminfo"] = counters.render_meminfo(self.meminfo, node=self.nid)
        if self.cpulist is not None:
            shown["cpulist"] = render_id_list(self.cpulist) + "\n"
        if self.distance is not None:
            shown["distance"] = " ".join(map(str, self.distance)) + "\n"
        if self.numastat:
            shown["numastat"] = counters.render_vmstat(self.numastat)
        shown.update((f"memory_failure/{name}", f"{count}\n") for name, count in self.memory_failure.items())
        return shown


@dataclass(frozen=True)
class Nodes:
    """The nodes of a machine: which are in each of NODE_STATES, and the online ones in detail."""

    states: Mapping[str, tuple[int, ...]]
    nodes: tuple[Node, ...] = ()

    def files(self) -> dict[str, str]:
        """The attribute files of the folder itself, by name."""
        return {name: render_id_list(ids) + "\n" for name, ids in self.states.items()}


def read(source: Source) -> Nodes | None:
    """The nodes of a machine; None for a kernel without NUMA, which has no such folder.

    Raises :class:`BadInput` naming the file that holds what no kernel shows.
    """
    states: dict[str, tuple[int, ...]] = {}
    for name in NODE_STATES:
        text = source.get(f"{SYS_NODE}/{name}")
        if text is not None:
            states[name] = id_list(text, source.where(f"{SYS_NODE}/{name}"))
    names = [name for name in source.listdir(SYS_NODE) if name.removeprefix("node").isdecimal()]
    if not states and not names:
        return None
    return Nodes(states, tuple(_node(source, int(name.removeprefix("node"))) for name in names))


def _node(source: Source, nid: int) -> Node:
    folder = f"{SYS_NODE}/node{nid}"
    meminfo = source.get(f"{folder}/meminfo")
    cpulist = source.get(f"{folder}/cpulist")
    distance = source.get(f"{folder}/distance")
    numastat = source.get(f"{folder}/numastat")
    return Node(
        nid=nid,
        meminfo=counters.parse_meminfo(meminfo, where=source.where(f"{folder}/meminfo")) if meminfo else {},
        cpulist=None if cpulist is None else id_list(cpulist, source.where(f"{folder}/cpulist")),
        distance=None if distance is None else tuple(map(int, distance.split())),
        numastat=counters.parse_vmstat(numastat, where=source.where(f"{folder}/numastat")) if numastat else {},
        memory_failure={
            name: count
            for name in POISONED_PAGES
            if (count := source.number(f"{folder}/memory_failure/{name}")) is not None
        },
    )
