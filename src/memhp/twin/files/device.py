"""What every device has: ``uevent`` of ``drivers/base/core.c``, ``power`` of ``drivers/base/power/sysfs.c``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from functools import partial

from memhp.linux.drivers.base.power.sysfs import (
    autosuspend_delay_ms_show,
    autosuspend_delay_ms_store,
    control_show,
    control_store,
)
from memhp.linux.lib.kobject_uevent import kobject_synth_uevent
from memhp.linux.state import Kernel
from memhp.twin.tree import Attribute, Entry, Folder

FIXED = {"runtime_active_time": "0\n", "runtime_status": "unsupported\n", "runtime_suspended_time": "0\n"}

POWER: dict[str, Entry] = {
    "autosuspend_delay_ms": Attribute(0o644, autosuspend_delay_ms_show, autosuspend_delay_ms_store),
    **{name: Attribute(0o444, partial(str, text), fixed=True) for name, text in FIXED.items()},
}
"""What is the same for every device."""


def power(k: Kernel, device: str) -> Folder:
    """``power`` of a device that cannot save any, without what ``CONFIG_PM_ADVANCED_DEBUG`` adds."""

    def child(name: str) -> Entry | None:
        if name == "control":
            return Attribute(0o644, lambda: control_show(k, device), lambda text: control_store(k, device, text))
        return POWER.get(name)

    return Folder(lambda: ("autosuspend_delay_ms", "control", *FIXED), child)


def uevent(k: Kernel, devpath: str, subsystem: str, shown: str = "") -> Attribute:
    """``uevent``: the variables of a device at a path below ``/sys``, and a way to have its events sent again."""
    store = partial(kobject_synth_uevent, k, devpath, subsystem)
    return Attribute(0o644, lambda: shown, store, fixed=True)
