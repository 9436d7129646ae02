"""The order in which a kernel lists its sysfs: as a Linux 6.18 did, and as the one does that this runs on."""
# SPDX-License-Identifier: GPL-2.0-or-later

from pathlib import Path

import pytest

from memhp.linux.fs.kernfs.dir import kernfs_name_hash

OF_A_BLOCK = (
    "uevent", "node0", "power", "online", "phys_device", "phys_index", "valid_zones", "subsystem", "state", "removable",
)  # fmt: skip
OF_MEMORY = (
    "memory32", "memory3", "uevent", "memory22", "memory50", "memory12", "memory40", "memory1", "memory20", "memory49",
    "memory10", "memory39", "auto_online_blocks", "memory19", "memory47", "block_size_bytes", "memory37", "memory8",
    "power", "memory55", "memory17", "memory45", "memory35", "memory6", "memory53", "memory15", "memory43", "memory33",
    "memory4", "memory23", "memory51", "memory13", "memory41", "memory2", "memory21", "memory11", "memory0", "memory48",
    "memory38", "memory9", "memory18", "memory46", "memory36", "memory7", "memory54", "memory16", "memory44",
    "memory34", "memory5", "memory52", "memory14", "memory42",
)  # fmt: skip


@pytest.mark.parametrize("names", [OF_A_BLOCK, OF_MEMORY])
def test_names_come_in_the_order_of_a_real_kernel(names: tuple[str, ...]) -> None:
    assert sorted(names, key=kernfs_name_hash) == list(names)


@pytest.mark.parametrize("folder", ["/sys/module", "/sys/kernel", "/sys/devices/system/cpu"])
def test_this_machines_kernel_lists_folders_so(folder: str) -> None:
    if not Path(folder).is_dir():
        pytest.skip(f"no {folder} here")
    names = [each.name for each in Path(folder).iterdir()]
    assert sorted(names, key=kernfs_name_hash) == names
