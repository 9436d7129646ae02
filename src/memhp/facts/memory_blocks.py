"""/sys/devices/system/memory: the memory blocks, as ``drivers/base/memory.c`` shows them."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, cast, get_args

from memhp.errors import BadInput
from memhp.facts.source import SYS_MEMORY, SYS_NODE, Source
from memhp.spans import Span

State = Literal["online", "going-offline", "offline"]
STATES: tuple[State, ...] = get_args(State)
ONLINE_TYPES = ("offline", "online", "online_kernel", "online_movable")

ATTRIBUTES = ("phys_index", "state", "valid_zones", "removable", "phys_device")
"""The files of a block that are read."""

_SHOWN_STATES = {f"{state}\n": state for state in STATES}
_SHOWN_BITS: dict[str | None, bool | None] = {"0\n": False, "1\n": True, None: None}
_BLOCK = re.compile(r"memory(\d+)")
_NODE = re.compile(r"node(\d+)")


@dataclass(frozen=True)
class MemoryBlock:
    """One memory block. What a kernel does not show is None.

    `index` is the block's number: its physical address divided by the block size. `valid_zones` are the zones that
    it is in (online) or may go to (offline, the default first); ``("none",)`` for a block that spans several. `nodes`
    are the NUMA nodes that it is linked to.
    """

    index: int
    state: State
    valid_zones: tuple[str, ...] | None = None
    removable: bool | None = None
    phys_device: int | None = None
    nodes: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """The device's name: ``memory32``."""
        return f"memory{self.index}"

    @property
    def zone(self) -> str | None:
        """The zone of an online block; None for one that is offline or spans several."""
        if self.state != "online" or not self.valid_zones or self.valid_zones == ("none",):
            return None
        return self.valid_zones[0]

    def files(self) -> dict[str, str]:
        """The block's attribute files by name, with the text that the kernel shows."""
        shown = {"phys_index": f"{self.index:08x}\n", "state": f"{self.state}\n"}
        shown["online"] = f"{int(self.state != 'offline')}\n"
        if self.removable is not None:
            shown["removable"] = f"{int(self.removable)}\n"
        if self.phys_device is not None:
            shown["phys_device"] = f"{self.phys_device}\n"
        if self.valid_zones is not None:
            shown["valid_zones"] = " ".join(self.valid_zones) + "\n"
        return shown


@dataclass(frozen=True)
class MemoryBlocks:
    """All memory blocks of a machine, ascending. `block_size` is in bytes, `auto_online` the type for added memory."""

    block_size: int
    blocks: tuple[MemoryBlock, ...]
    auto_online: str | None = None
    crash_hotplug: int | None = None

    @cached_property
    def by_index(self) -> dict[int, MemoryBlock]:
        """The blocks by number."""
        return {block.index: block for block in self.blocks}

    def span(self, block: MemoryBlock) -> Span:
        """The physical addresses of a block, in bytes."""
        return Span(block.index * self.block_size, (block.index + 1) * self.block_size)

    def files(self) -> dict[str, str]:
        """The attribute files of the folder itself, by name."""
        shown = {"block_size_bytes": f"{self.block_size:x}\n"}
        if self.auto_online is not None:
            shown["auto_online_blocks"] = f"{self.auto_online}\n"
        if self.crash_hotplug is not None:
            shown["crash_hotplug"] = f"{self.crash_hotplug}\n"
        return shown


def read(source: Source) -> MemoryBlocks:
    """The memory blocks of a machine.

    Raises :class:`BadInput` naming the file: no memory blocks at all, a block without its state or at odds with its
    own name, a value that no kernel shows, or an attribute missing that other blocks have.
    """
    size_path = f"{SYS_MEMORY}/block_size_bytes"
    source.read(size_path)
    size = source.number(size_path, base=16)
    if size is None or size <= 0 or size & (size - 1):
        raise BadInput(f"want a power of two, got {size}", where=source.where(size_path))
    names = [name for name in source.entries(SYS_MEMORY) if _BLOCK.fullmatch(name)]
    names.sort(key=lambda name: int(name.removeprefix("memory")))
    if not names:
        raise BadInput("shows no memory blocks", where=source.where(size_path), fix="take it again from the machine")
    nodes = _linked_nodes(source)
    rows = source.rows(SYS_MEMORY, names, ATTRIBUTES)
    blocks = tuple(
        _block(source, name, row, nodes.get(name, ()) if nodes else _own_links(source, name))
        for name, row in zip(names, rows, strict=True)
    )
    _check_alike(source, blocks)
    return MemoryBlocks(
        block_size=size,
        blocks=blocks,
        auto_online=source.choice(f"{SYS_MEMORY}/auto_online_blocks", ONLINE_TYPES),
        crash_hotplug=source.number(f"{SYS_MEMORY}/crash_hotplug"),
    )


def _linked_nodes(source: Source) -> dict[str, tuple[int, ...]]:
    """The nodes that each block is linked to, as the nodes' own folders tell (``drivers/base/node.c``)."""
    found: dict[str, tuple[int, ...]] = {}
    for entry in source.listdir(SYS_NODE):
        if node := _NODE.fullmatch(entry):
            for name in source.entries(f"{SYS_NODE}/{entry}"):
                if _BLOCK.fullmatch(name):
                    found[name] = (*found.get(name, ()), int(node[1]))
    return found


def _own_links(source: Source, name: str) -> tuple[int, ...]:
    entries = source.entries(f"{SYS_MEMORY}/{name}")
    return tuple(sorted(int(node[1]) for entry in entries if (node := _NODE.fullmatch(entry))))


def _block(source: Source, name: str, row: tuple[str | None, ...], nodes: tuple[int, ...]) -> MemoryBlock:
    """A block of its files' texts, in the order of ATTRIBUTES; what is not as usual is read and told by the source."""
    phys_index, state, zones, removable, phys_device = row
    folder, index = f"{SYS_MEMORY}/{name}", int(name.removeprefix("memory"))
    if phys_index is not None and phys_index != f"{index:08x}\n":
        number = source.number(f"{folder}/phys_index", base=16)
        if number not in (None, index):
            where = source.where(f"{folder}/phys_index")
            raise BadInput(f"want {index:08x}, as {name} is block {index}", where=where)
    if state not in _SHOWN_STATES:
        source.read(f"{folder}/state")
        state = source.choice(f"{folder}/state", STATES)
    return MemoryBlock(
        index=index,
        state=_SHOWN_STATES.get(state or "") or cast(State, state),
        valid_zones=None if zones is None else tuple(zones.split()),
        removable=_SHOWN_BITS[removable] if removable in _SHOWN_BITS else source.number(f"{folder}/removable") == 1,
        phys_device=0 if phys_device == "0\n" else source.number(f"{folder}/phys_device"),
        nodes=nodes,
    )


def _check_alike(source: Source, blocks: tuple[MemoryBlock, ...]) -> None:
    """Blocks of one machine show the same attributes: one that lacks some comes from a capture cut off."""
    for attribute in ("valid_zones", "removable", "phys_device"):
        without = [block for block in blocks if getattr(block, attribute) is None]
        if without and len(without) < len(blocks):
            where = source.where(f"{SYS_MEMORY}/{without[0].name}/{attribute}")
            raise BadInput(f"{without[0].name} has no {attribute}, other blocks have", where=where, fix="take it again")
