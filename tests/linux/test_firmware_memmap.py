"""The firmware map keeps one entry for each range that was added whole: ``drivers/firmware/memmap.c``."""
# SPDX-License-Identifier: GPL-2.0-or-later

import errno

import pytest

from kernels import kernel
from memhp.errors import KernelError
from memhp.linux.choices import Arch
from memhp.linux.drivers.firmware.memmap import (
    firmware_map,
    firmware_map_add_early,
    firmware_map_add_hotplug,
    firmware_map_remove,
    firmware_memmap_init,
)
from memhp.linux.state import Kernel
from steppers import Recorder

RAM = "System RAM"


def folders(k: Kernel) -> list[tuple[int | None, int, int, str]]:
    return [(entry.nr, entry.start, entry.end, entry.type) for entry in firmware_map(k)]


def booted() -> Kernel:
    k = kernel("x86_64")
    firmware_map_add_early(k, 0, 0x9FC00, RAM)
    firmware_map_add_early(k, 0x9FC00, 0xA0000, "Reserved")
    firmware_memmap_init(k)
    return k


def test_entries_of_boot_get_their_folders_late_and_in_order() -> None:
    k = kernel("x86_64")
    firmware_map_add_early(k, 0, 0x9FC00, RAM)
    assert folders(k) == [(None, 0, 0x9FBFF, RAM)]
    assert folders(booted()) == [(0, 0, 0x9FBFF, RAM), (1, 0x9FC00, 0x9FFFF, "Reserved")]


def test_the_number_of_a_removed_entry_is_not_used_again() -> None:
    k = booted()
    for nr in (2, 3):
        firmware_map_add_hotplug(k, 1 << 32, 3 << 31, RAM)
        assert folders(k)[-1] == (nr, 1 << 32, (3 << 31) - 1, RAM)
        firmware_map_remove(k, 1 << 32, 3 << 31, RAM)
    assert folders(k) == folders(booted())


def test_an_equal_entry_is_added_once() -> None:
    k = booted()
    firmware_map_add_hotplug(k, 0, 0x9FC00, RAM)
    assert folders(k) == folders(booted())


@pytest.mark.parametrize(
    ("start", "end", "kind"), [(0, 0x80000, RAM), (0, 0x9FC00, "Reserved"), (1 << 40, 2 << 40, RAM)]
)
def test_only_the_exact_range_and_type_can_be_removed(start: int, end: int, kind: str) -> None:
    k = booted()
    with pytest.raises(KernelError) as error:
        firmware_map_remove(k, start, end, kind)
    assert error.value.errno == errno.EINVAL
    assert folders(k) == folders(booted())


@pytest.mark.parametrize("arch", ["arm64", "riscv64", "loongarch64"])
def test_kernels_without_the_folder_have_no_entries(arch: Arch) -> None:
    """include/linux/firmware-map.h: without CONFIG_FIRMWARE_MEMMAP nothing is added, and removing finds no fault."""
    k = kernel(arch, "7.2")
    firmware_map_add_hotplug(k, 1 << 32, 3 << 31, RAM)
    assert not firmware_map(k)
    firmware_map_remove(k, 1 << 32, 3 << 31, RAM)


def test_the_list_changes_under_its_lock_and_adding_looks_at_it_before() -> None:
    """firmware_map_add_entry() and firmware_map_remove() take map_entries_lock, whether there is an entry or not."""
    k = booted()
    k.hw.stepper = recorder = Recorder()
    firmware_map_add_hotplug(k, 1 << 32, 3 << 31, RAM)
    firmware_map_add_hotplug(k, 1 << 32, 3 << 31, RAM)
    firmware_map_remove(k, 1 << 32, 3 << 31, RAM)
    with pytest.raises(KernelError):
        firmware_map_remove(k, 1 << 32, 3 << 31, RAM)
    k.hw.stepper = None
    assert [(access.kind, access.target) for access in recorder.accesses] == [
        ("lock", "map_entries_lock"),
        ("unlock", "map_entries_lock"),
    ] * 3
