"""``/sys/devices/system/node``: NUMA nodes as ``drivers/base/node.c`` shows them."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Callable, Iterable

from memhp.facts.counters import render_vmstat
from memhp.facts.derive import node_distance, node_lists
from memhp.facts.lines import render_id_list
from memhp.facts.nodes import NODE_STATES, Node
from memhp.linux.mm.memory_failure import memory_failure_stats
from memhp.linux.state import Kernel
from memhp.twin.files import node_counters
from memhp.twin.files.device import power, uevent
from memhp.twin.tree import Attribute, Entry, Folder, Link, folder, joined

_NODE = re.compile(r"node(0|[1-9][0-9]*)")
_LINK = re.compile(r"memory(0|[1-9][0-9]*)")
BITS = 32
"""Bits of each group of a map as ``lib/bitmap-str.c`` prints it."""


def node_root(k: Kernel) -> Folder:
    """The folder: which nodes are in which state, and a folder a node."""
    lists = {name: Attribute(0o444, _state_list(k, name)) for name in NODE_STATES}
    own = folder({**lists, "power": power(k, "node"), "uevent": uevent(k, "/devices/system/node", "")})

    def names() -> Iterable[str]:
        return (f"node{nid}" for nid in sorted(k.node_states.devices))

    def child(name: str) -> Entry | None:
        match = _NODE.fullmatch(name)
        return _node_folder(k, int(match[1])) if match and int(match[1]) in k.node_states.devices else None

    return joined(own, Folder(names, child))


def _state_list(k: Kernel, name: str) -> Callable[[], str]:
    return lambda: render_id_list(node_lists(k)[name]) + "\n"


def _node_folder(k: Kernel, nid: int) -> Folder:
    own = folder(
        {
            "cpulist": Attribute(0o444, lambda: render_id_list(k.node_states.cpus.get(nid, ())) + "\n"),
            "cpumap": Attribute(0o444, lambda: cpumap(k.node_states.cpus.get(nid, ()), k.config.nr_cpus)),
            "distance": Attribute(0o444, lambda: Node(nid, distance=node_distance(k, nid)).files()["distance"]),
            "meminfo": Attribute(0o444, lambda: Node(nid, meminfo=node_counters.meminfo(k, nid)).files()["meminfo"]),
            "numastat": Attribute(0o444, lambda: render_vmstat(node_counters.numastat()), fixed=True),
            "vmstat": Attribute(0o444, lambda: render_vmstat(node_counters.vmstat(k, nid))),
            "uevent": uevent(k, f"/devices/system/node/node{nid}", "node"),
            "subsystem": Link("../../../../bus/node"),
            "power": power(k, f"node{nid}"),
            **_memory_failure(k, nid),
        }
    )

    def names() -> Iterable[str]:
        linked = k.node_states.devices.get(nid, ())
        yield from (f"cpu{cpu}" for cpu in k.node_states.cpus.get(nid, ()))
        yield from (f"memory{block}" for span in linked for block in range(*span))

    def child(name: str) -> Entry | None:
        match = _LINK.fullmatch(name)
        linked = k.node_states.devices.get(nid)
        if match and linked is not None and int(match[1]) in linked:
            return Link(f"../../memory/{name}")
        if name in (f"cpu{cpu}" for cpu in k.node_states.cpus.get(nid, ())):
            return Link(f"../../cpu/{name}")
        return None

    return joined(own, Folder(names, child, lambda: nid in k.node_states.devices, usual=True))


def _memory_failure(k: Kernel, nid: int) -> dict[str, Entry]:
    """The folder of that name, where this kernel has it."""

    def show(name: str) -> Callable[[], str]:
        return lambda: f"{memory_failure_stats(k, nid)[name]}\n"

    files = {name: Attribute(0o444, show(name)) for name in memory_failure_stats(k, nid)}
    return {"memory_failure": folder(files)} if files else {}


def cpumap(cpus: Iterable[int], nr_cpus: int) -> str:
    """CPUs as a map of bits in groups of 32, the highest first."""
    bits = sum(1 << cpu for cpu in cpus)
    head, *rest = range(0, max(nr_cpus, 1), BITS)
    groups = [f"{bits >> at & 0xFFFFFFFF:08x}" for at in (head, *rest)]
    top = (nr_cpus - 1) % BITS // 4 + 1
    groups[-1] = groups[-1][-top:]
    return ",".join(reversed(groups)) + "\n"
