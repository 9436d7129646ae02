"""Two machines held against each other: every fact that differs, by name."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from memhp.errors import BadInput
from memhp.facts import iomem
from memhp.facts.observed import Facts

Value = int | str | None


class Difference(NamedTuple):
    """One fact: its name, what was expected and what came; None stands for "not there"."""

    path: str
    expected: Value
    got: Value

    def __str__(self) -> str:
        return f"{self.path}: expected {self.expected!r}, got {self.got!r}"


Named = Iterator[tuple[str, Value]]


def _iomem(facts: Facts) -> Named:
    for depth, resource in iomem.walk(facts.iomem):
        yield f"/proc/iomem {resource.start:08x}-{resource.end:08x} : {resource.name}", depth


def _blocks(facts: Facts) -> Named:
    folder = "/sys/devices/system/memory"
    yield f"{folder}/block_size_bytes", f"{facts.memory.block_size:x}"
    if facts.memory.auto_online is not None:
        yield f"{folder}/auto_online_blocks", facts.memory.auto_online
    for block in facts.memory.blocks:
        for name, text in block.files().items():
            yield f"{folder}/{block.name}/{name}", text.rstrip("\n")
        yield f"{folder}/{block.name}/node", ",".join(map(str, block.nodes))


def _zones(facts: Facts) -> Named:
    for zone in facts.zones:
        for name in ("spanned", "present", "managed", "start_pfn"):
            yield f"/proc/zoneinfo node {zone.node} {zone.name} {name}", getattr(zone, name)


def _params(facts: Facts) -> Named:
    for name, text in facts.params.files().items():
        yield f"/sys/module/memory_hotplug/parameters/{name}", text.rstrip("\n")


def _dax(facts: Facts) -> Named:
    for dax in facts.dax:
        for name in ("resource", "size", "align", "target_node", "memmap_on_memory", "mode"):
            if (value := getattr(dax, name)) is not None:
                yield f"/sys/bus/dax/devices/{dax.name}/{name}", value


def _nodes(facts: Facts) -> Named:
    for name, ids in facts.nodes.states.items() if facts.nodes else ():
        yield f"/sys/devices/system/node/{name}", ",".join(map(str, ids))


def _buddyinfo(facts: Facts) -> Named:
    for zone in facts.buddyinfo:
        for order, count in enumerate(zone.free):
            yield f"/proc/buddyinfo node {zone.node} {zone.zone} order {order}", count


def _pagetypes(facts: Facts) -> Named:
    """The pageblocks of zones Movable, as far as there are some of a type: those of others change with use."""
    for node in facts.pagetypeinfo:
        for blocks in node.blocks:
            for migratetype, count in zip(node.migratetypes, blocks.count, strict=True):
                if blocks.zone == "Movable" and count:
                    yield f"/proc/pagetypeinfo node {node.node} {blocks.zone} {migratetype} blocks", count


def _counters(path: str, counters: Mapping[str, int]) -> Named:
    return ((f"{path} {name}", value) for name, value in counters.items())


SECTIONS: dict[str, Callable[[Facts], Named]] = {
    "iomem": _iomem,
    "blocks": _blocks,
    "zones": _zones,
    "params": _params,
    "dax": _dax,
    "nodes": _nodes,
    "buddyinfo": _buddyinfo,
    "pagetypeinfo": _pagetypes,
    "meminfo": lambda facts: _counters("/proc/meminfo", facts.meminfo),
    "vmstat": lambda facts: _counters("/proc/vmstat", facts.vmstat),
}
"""The named facts of each part of a machine."""

STABLE = ("iomem", "blocks", "zones", "params", "dax", "nodes")
"""The parts that stay as they are while nobody plugs: what a model can be held to."""


def named_facts(facts: Facts, sections: Iterable[str] = STABLE) -> dict[str, Value]:
    """Every fact of some sections by its name. Raises :class:`BadInput` for a section that does not exist."""
    found: dict[str, Value] = {}
    for section in sections:
        if section not in SECTIONS:
            raise BadInput(f"no section {section!r}", where="compare", fix=f"one of: {', '.join(SECTIONS)}")
        found.update(SECTIONS[section](facts))
    return found


def compare(expected: Facts, got: Facts, *, sections: Iterable[str] = STABLE) -> list[Difference]:
    """Every fact of `sections` that differs, in the order of the expected machine, what it lacks at the end."""
    wanted = tuple(sections)
    left, right = named_facts(expected, wanted), named_facts(got, wanted)
    names = list(left) + [name for name in right if name not in left]
    return [
        Difference(name, left.get(name), right.get(name))
        for name in names
        if (name in left) != (name in right) or left.get(name) != right.get(name)
    ]
