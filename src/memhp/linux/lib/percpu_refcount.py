"""Reference counts that are killed and then drained: ``lib/percpu-refcount.c``.

One number stands for the sum over all CPUs; every change is an atomic door. The count starts with the reference of its
owner, which :func:`percpu_ref_kill` drops.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable
from dataclasses import dataclass, field

from memhp.errors import KernelBug
from memhp.hw.machine import Machine
from memhp.hw.shared import MARKED

KERNEL_FILE = "include/linux/percpu-refcount.h"


@dataclass(eq=False)
class PercpuRef:
    """``struct percpu_ref``: how many references there are, and whether new ones are refused."""

    name: str
    release: Callable[[], None]
    """Called once, when the last reference is dropped."""
    count: int = field(default=1, metadata=MARKED)
    dying: bool = field(default=False, metadata=MARKED)


def percpu_ref_get_many(hw: Machine, ref: PercpuRef, nr: int) -> None:
    """Take `nr` references, whatever state the count is in."""
    hw.atomic(ref.name)
    ref.count += nr


def percpu_ref_put_many(hw: Machine, ref: PercpuRef, nr: int) -> None:
    """Drop `nr` references; the last one calls the release function. KernelBug when there are not so many."""
    hw.atomic(ref.name)
    if nr > ref.count:
        raise KernelBug(f"{ref.name}: {nr} references dropped of {ref.count}", place="lib/percpu-refcount.c")
    if not nr:
        return
    ref.count -= nr
    if not ref.count:
        ref.release()


def percpu_ref_tryget_live(hw: Machine, ref: PercpuRef, nr: int = 1) -> bool:
    """Take `nr` references unless the count was killed: whether they were taken."""
    hw.atomic(ref.name)
    if ref.dying:
        return False
    ref.count += nr
    return True


def percpu_ref_tryget_many(hw: Machine, ref: PercpuRef, nr: int) -> bool:
    """Take `nr` references unless all have been dropped: whether they were taken."""
    hw.atomic(ref.name)
    if not ref.count:
        return False
    ref.count += nr
    return True


def percpu_ref_kill(hw: Machine, ref: PercpuRef) -> None:
    """Refuse new references, and drop the owner's."""
    hw.atomic(ref.name)
    if ref.dying:
        raise KernelBug(
            f"{ref.name} is killed a second time", place="lib/percpu-refcount.c:percpu_ref_kill_and_confirm"
        )
    ref.dying = True
    percpu_ref_put_many(hw, ref, 1)
