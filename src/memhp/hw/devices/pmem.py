"""Memory that firmware keeps from the kernel: persistent, or soft-reserved for a dax device."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.hw.machine import Machine
from memhp.hw.memory import Owner, Use
from memhp.spans import Span

PMEM = Owner(Use.DEVICE, "pmem")


def plug_pmem(hw: Machine, frames: Span) -> None:
    """The memory of a device is there, at `frames` (PFNs); no driver has it yet."""
    hw.plug(frames, PMEM)
