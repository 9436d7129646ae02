"""``/sys/devices/system/memory``: memory blocks as ``drivers/base/memory.c`` shows them and takes what is written."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Iterable, Iterator
from errno import ENODEV

from memhp.errors import KernelError
from memhp.facts.derive import valid_zones_of
from memhp.linux.drivers.base.memory import (
    auto_online_blocks_store,
    crash_hotplug,
    hard_offline_page_store,
    soft_offline_page_store,
)
from memhp.linux.drivers.base.memory_state import online_store, state_store
from memhp.linux.lib.kstrtox import kstrtoull
from memhp.linux.mmzone import MemoryBlock
from memhp.linux.state import Kernel
from memhp.scenario import schema
from memhp.target.model.probe import probe
from memhp.twin.files.device import power, uevent
from memhp.twin.machine import Twin
from memhp.twin.tree import Attribute, Entry, Folder, Link, folder, joined

_BLOCK = re.compile(r"memory(0|[1-9][0-9]*)")


def memory_root(twin: Twin) -> Folder:
    """The folder: its own attributes, and a folder a block."""
    k = twin.session.k
    own = folder(
        {
            "auto_online_blocks": Attribute(
                0o644, lambda: f"{k.auto_online_blocks}\n", lambda text: auto_online_blocks_store(k, text)
            ),
            "block_size_bytes": Attribute(0o444, lambda: f"{k.memory_block_size:x}\n", fixed=True),
            **_crash_hotplug(k),
            **_bad_pages(k),
            **_probe(twin),
            "power": power(k, "memory"),
            "uevent": uevent(k, "/devices/system/memory", ""),
        }
    )
    return joined(own, _blocks(k))


def _crash_hotplug(k: Kernel) -> dict[str, Entry]:
    shown = crash_hotplug(k)
    return {} if shown is None else {"crash_hotplug": Attribute(0o444, lambda: f"{shown}\n", fixed=True)}


def _bad_pages(k: Kernel) -> dict[str, Entry]:
    if not k.port.has_memory_failure:
        return {}
    return {
        "hard_offline_page": Attribute(0o200, None, lambda text: hard_offline_page_store(k, text)),
        "soft_offline_page": Attribute(0o200, None, lambda text: soft_offline_page_store(k, text)),
    }


def _probe(twin: Twin) -> dict[str, Entry]:
    """What kernels that are built with ``ARCH_MEMORY_PROBE`` have; there is memory wherever one is told of it."""
    if not twin.session.k.port.has_memory_probe:
        return {}
    return {"probe": Attribute(0o200, None, lambda text: probe(twin.session, schema.Probe(at=hex(kstrtoull(text)))))}


def block_ids(k: Kernel) -> Iterator[int]:
    """The memory blocks that there are, ascending."""
    for first, end, _ in k.memory_blocks:
        yield from range(first, end)


def _blocks(k: Kernel) -> Folder:
    def names() -> Iterable[str]:
        return (f"memory{block}" for block in block_ids(k))

    def child(name: str) -> Entry | None:
        match = _BLOCK.fullmatch(name)
        return block_folder(k, int(match[1])) if match and k.memory_blocks.get(int(match[1])) is not None else None

    return Folder(names, child)


def block_of(k: Kernel, block_id: int) -> MemoryBlock:
    """A block. Raises ENODEV, as an open file of a device that is gone does (``fs/kernfs/file.c``)."""
    block = k.memory_blocks.get(block_id)
    if block is None:
        raise KernelError(ENODEV, f"memory{block_id} is gone", place="fs/kernfs/file.c:kernfs_fop_read_iter")
    return block


def nodes_of_block(k: Kernel, block_id: int) -> list[int]:
    """The nodes that a block is linked to."""
    return [nid for nid, linked in sorted(k.node_states.devices.items()) if block_id in linked]


def block_folder(k: Kernel, block_id: int) -> Folder:
    """``memoryN``: what a block shows, what can be written to it, and links to its nodes."""

    def names() -> Iterable[str]:
        return (*FILES, "power", "subsystem", *(f"node{nid}" for nid in nodes_of_block(k, block_id)))

    def child(name: str) -> Entry | None:
        if name in FILES:
            return _file(k, block_id, name)
        if name == "subsystem":
            return Link("../../../../bus/memory")
        if name == "power":
            return power(k, f"memory{block_id}")
        nid = name.removeprefix("node")
        linked = nid.isdecimal() and block_id in k.node_states.devices.get(int(nid), ())
        return Link(f"../../node/{name}") if linked else None

    return Folder(names, child, lambda: k.memory_blocks.get(block_id) is not None, usual=True)


FILES = ("online", "phys_device", "phys_index", "removable", "state", "uevent", "valid_zones")


def _file(k: Kernel, block_id: int, name: str) -> Attribute:
    if name == "state":
        return Attribute(
            0o644,
            lambda: f"{block_of(k, block_id).state}\n",
            lambda text: state_store(k, block_id, text),
            usual=True,
        )
    if name == "online":
        return Attribute(
            0o644,
            lambda: f"{int(block_of(k, block_id).state != 'offline')}\n",
            lambda text: online_store(k, block_id, text),
        )
    if name == "valid_zones":
        return Attribute(0o444, lambda: _valid_zones(k, block_id), usual=True)
    if name == "uevent":
        return uevent(k, f"/devices/system/memory/memory{block_id}", "memory")
    fixed = {"phys_index": f"{block_id:08x}\n", "removable": "1\n", "phys_device": "0\n"}[name]
    return Attribute(0o444, lambda: fixed, fixed=True, usual=name == "removable")


def _valid_zones(k: Kernel, block_id: int) -> str:
    block_of(k, block_id)
    return " ".join(valid_zones_of(k, block_id)) + "\n"
