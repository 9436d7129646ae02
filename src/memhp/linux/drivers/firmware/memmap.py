"""The firmware's memory map as kexec reads it from ``/sys/firmware/memmap``: ``drivers/firmware/memmap.c``.

Only kernels with ``CONFIG_FIRMWARE_MEMMAP`` (x86) have entries and the folder. That the kernel keeps the storage of
entries made at boot for later use shows nowhere and is not modelled.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass, field
from errno import EINVAL

from memhp.errors import KernelError
from memhp.linux.place import here
from memhp.linux.state import Kernel

KERNEL_FILE = "drivers/firmware/memmap.c"
MAP_ENTRIES_LOCK = "map_entries_lock"


@dataclass
class FirmwareMapEntry:
    """``struct firmware_map_entry``: bytes `start` to `end`, both included as the kernel shows them, and their type."""

    start: int
    end: int
    type: str
    nr: int | None = None
    """The number of its folder in sysfs; None until there is one."""


@dataclass
class FirmwareMap:
    """The variables of the file: the entries, and how many folders there have been.

    Equal entries do not occur: those of boot come of a table that is free of overlaps (``e820__update_table()``).
    """

    map_entries: dict[tuple[int, int, str], FirmwareMapEntry] = field(default_factory=dict)
    """First byte, last byte and type → entry, in the order in which they came."""
    map_entries_nr: int = 0
    """The number of the next folder: they count up and are never used again."""


def firmware_map(k: Kernel) -> list[FirmwareMapEntry]:
    """The entries in the order in which they came."""
    return list(k.statics(FirmwareMap).map_entries.values())


def _add_entry(k: Kernel, start: int, end: int, type_: str) -> FirmwareMapEntry:
    """A new last entry for ``[start, end)``."""
    entry = FirmwareMapEntry(start, end - 1, type_)
    with k.hw.locked(MAP_ENTRIES_LOCK):
        k.statics(FirmwareMap).map_entries[start, end - 1, type_] = entry
    return entry


def _add_sysfs(k: Kernel, entry: FirmwareMapEntry) -> None:
    own = k.statics(FirmwareMap)
    entry.nr = own.map_entries_nr
    own.map_entries_nr += 1


def firmware_map_add_early(k: Kernel, start: int, end: int, type_: str) -> None:
    """``firmware_map_add_early()``: add ``[start, end)``; the folder comes with :func:`firmware_memmap_init`."""
    _add_entry(k, start, end, type_)


def firmware_memmap_init(k: Kernel) -> None:
    """``firmware_memmap_init()``: give every entry of early boot its folder, in order."""
    for entry in firmware_map(k):
        _add_sysfs(k, entry)


def firmware_map_add_hotplug(k: Kernel, start: int, end: int, type_: str) -> None:
    """``firmware_map_add_hotplug()``: an entry with its folder for ``[start, end)``, unless there is an equal one.

    That is looked for without the list's lock: ``device_hotplug_lock`` keeps others out.
    """
    if k.port.has_firmware_memmap and (start, end - 1, type_) not in k.statics(FirmwareMap).map_entries:
        _add_sysfs(k, _add_entry(k, start, end, type_))


def firmware_map_remove(k: Kernel, start: int, end: int, type_: str) -> None:
    """``firmware_map_remove()``: drop the entry for exactly ``[start, end)``. Raises EINVAL when there is none.

    ``try_remove_memory()`` does not look at the error: a removal in pieces leaves the entry of the whole behind.
    """
    if not k.port.has_firmware_memmap:
        return
    with k.hw.locked(MAP_ENTRIES_LOCK):
        entry = k.statics(FirmwareMap).map_entries.pop((start, end - 1, type_), None)
    if entry is None:
        reason = f"no firmware map entry {type_} [{start:#x}-{end - 1:#x}]"
        raise KernelError(EINVAL, reason, place=here())
