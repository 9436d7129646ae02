"""Files of a bus of which no driver takes any device, as those of memory blocks and nodes: ``drivers/base/bus.c``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Collection
from dataclasses import dataclass, field
from errno import ENODEV

from memhp.errors import KernelError
from memhp.linux.place import here
from memhp.linux.state import Kernel

KERNEL_FILE = "drivers/base/bus.c"


@dataclass
class SubsysPrivate:
    """``drivers_autoprobe`` of each bus."""

    by_hand: set[str] = field(default_factory=set)
    """Buses on which nobody looks for a driver of a new device."""


def drivers_autoprobe_show(k: Kernel, bus: str) -> str:
    """Whether a new device is offered to the drivers."""
    return f"{int(bus not in k.statics(SubsysPrivate).by_hand)}\n"


def drivers_autoprobe_store(k: Kernel, bus: str, text: str) -> None:
    """Anything that begins with 0 is no, all else yes."""
    by_hand = k.statics(SubsysPrivate).by_hand
    (by_hand.add if text.startswith("0") else by_hand.discard)(bus)


def drivers_probe_store(names: Collection[str], text: str) -> None:
    """Offer a device to the drivers; that none takes it is no error. Raises ENODEV for one that is not on the bus."""
    if text.removesuffix("\n") not in names:
        raise KernelError(ENODEV, f"no device {text.strip()!r} on the bus", place=here())
