"""``/sys/bus/memory`` and ``/sys/bus/node``: links to their devices, of which no driver takes any."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Iterable
from functools import partial

from memhp.linux.drivers.base.bus import drivers_autoprobe_show, drivers_autoprobe_store, drivers_probe_store
from memhp.linux.lib.kobject_uevent import kobject_synth_uevent
from memhp.linux.state import Kernel
from memhp.twin.files.memory import block_ids
from memhp.twin.tree import Attribute, Entry, Folder, Link, folder


def bus_files(k: Kernel) -> dict[str, Entry]:
    """Both buses; that of memory blocks is there where they are."""
    found = {"/sys/bus/node": _bus(k, "node", lambda: k.node_states.devices)}
    if k.config.memory_hotplug:
        found["/sys/bus/memory"] = _bus(k, "memory", lambda: block_ids(k))
    return found


def _bus(k: Kernel, kind: str, ids: Callable[[], Iterable[int]]) -> Entry:
    def names() -> set[str]:
        return {f"{kind}{each}" for each in ids()}

    def device(name: str) -> Link | None:
        return Link(f"../../../devices/system/{kind}/{name}") if name in names() else None

    show, store = partial(drivers_autoprobe_show, k, kind), partial(drivers_autoprobe_store, k, kind)
    return folder(
        {
            "devices": Folder(names, device),
            "drivers": folder({}),
            "drivers_autoprobe": Attribute(0o644, show, store),
            "drivers_probe": Attribute(0o200, None, lambda text: drivers_probe_store(names(), text)),
            "uevent": Attribute(0o200, None, partial(kobject_synth_uevent, k, f"/bus/{kind}", "bus")),
        }
    )
