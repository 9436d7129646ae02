"""What sort a value is, as far as announcing accesses to it goes."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import is_dataclass

from memhp.explore.doors.names import IMMUTABLE
from memhp.hw.lifetime import SlabObject

HARDWARE, DEVICES = "memhp.hw.", "memhp.hw.devices."
"""Where the classes are of what announces itself, and of devices, whose fields are announced as the kernel's are."""


def is_plain(value: object) -> bool:
    """Whether neither a value can change nor what it holds."""
    if isinstance(value, tuple | frozenset):
        return all(map(is_plain, value))
    return isinstance(value, IMMUTABLE)


def is_part_of_machine(kind: type) -> bool:
    """Whether objects of a class are part of the machine, which has doors."""
    return (
        kind.__module__.startswith(HARDWARE)
        and not kind.__module__.startswith(DEVICES)
        and not issubclass(kind, SlabObject)
    )


def is_record(value: object) -> bool:
    """Whether an object has fields, each under its name."""
    return is_dataclass(value) and hasattr(value, "__dict__")
