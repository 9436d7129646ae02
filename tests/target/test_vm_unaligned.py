"""A DIMM that is not made of memory blocks: QEMU plugs it, and the guest's kernel refuses it; so does the rehearsal."""
# SPDX-License-Identifier: GPL-2.0-or-later

import msgspec
import pytest

from memhp.errors import BadInput
from memhp.target.vm import VmDevice, VmStatus
from memhp.target.vm_rehearse import Guest, rehearse_plug

MiB, GiB = 1 << 20, 1 << 30
ALONE = VmStatus(monitor="QEMU 11.1.0", name="vm", arch="x86_64", state="running", base=2 * GiB, most=16 * GiB, slots=4)
BESIDE = [VmDevice(id="d0", kind="dimm", at=4 * GiB, size=100 * MiB), VmDevice(id="d1", kind="dimm", at=5 * GiB,
          size=GiB)]  # fmt: skip


def test_a_dimm_of_no_whole_blocks_is_rehearsed_as_the_kernel_refuses_it() -> None:
    """mm/memory_hotplug.c:check_hotplug_memory_range of a memory block of 128 MiB"""
    rehearsed = rehearse_plug(ALONE, Guest(), 100 * MiB)
    assert not rehearsed.ok
    assert rehearsed.step.outcome.result == "EINVAL"


def test_one_that_is_there_already_is_no_bar_to_another() -> None:
    status = msgspec.structs.replace(ALONE, devices=BESIDE)
    assert rehearse_plug(status, Guest(), 512 * MiB).ok
    assert not rehearse_plug(status, Guest(), 100 * MiB).ok


def test_what_is_wrong_otherwise_is_told() -> None:
    with pytest.raises(BadInput, match="no model of this machine's architecture"):
        rehearse_plug(VmStatus(monitor="", name="vm", arch="sparc", state="running", base=GiB), Guest(), GiB)
