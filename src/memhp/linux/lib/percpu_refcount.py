"""Reference counts that each CPU keeps of its own until they are killed: ``lib/percpu-refcount.c``.

While the count lives, a CPU takes and drops references on its own counter, having looked at the mode first: two steps,
within RCU. Killing marks the count as dead, so that nobody begins that any more; when all who had begun are through,
after a grace period, the counters are added to the one that all share, and the owner's reference is dropped: before
that the count cannot reach zero. Nobody here asks to be told that all CPUs see a count as dead (``confirm_kill``), nor
brings one back to life.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable
from dataclasses import dataclass, field

from memhp.errors import KernelBug
from memhp.hw.lifetime import RCU, SlabObject, use_object
from memhp.hw.machine import Machine
from memhp.hw.shared import marked
from memhp.linux.kernel.rcu import call_rcu, rcu_read_lock, wait_for_readers
from memhp.linux.place import here, kernel_function

KERNEL_FILE = "include/linux/percpu-refcount.h"
SWITCH = "lib/percpu-refcount.c:percpu_ref_switch_to_atomic_rcu"
SWITCH_LOCK = "percpu_ref_switch_lock"
"""One for all counts: who kills one or gives one up holds it; who switches one after a grace period does not."""


@dataclass(eq=False)
class PercpuRef:
    """``struct percpu_ref``: how many references there are, where they are counted, and whether new ones are refused.

    It begins with the reference of its owner.
    """

    name: str
    release: Callable[[], None]
    """Called once, when the last reference is dropped."""
    within: SlabObject | None = None
    """What it is part of, and goes with."""
    shared: int = field(default=1, metadata=marked(lambda ref: ref.together))
    """References that are counted together, as all are from the switch on."""
    switched: bool = field(default=False, metadata=marked(lambda ref: ref.together))
    """Whether those of all CPUs are in it; the kernel adds a bias until then."""
    by_cpu: dict[int, int] = field(default_factory=dict, metadata=marked(lambda ref: ref.own))
    """CPU → those that it has taken, less those that it has dropped; from the switch on nobody looks at them."""
    dying: bool = field(default=False, metadata=marked(lambda ref: ref.mode))
    given_up: bool = field(default=False, metadata=marked(lambda ref: ref.together))
    """Whether there is no counter that all share any more: ``ref->data`` is NULL."""
    waited_for: frozenset[int] | None = None
    """The read-side sections that end before the switch, where who waits for the last reference does it: nobody else
    looks at them."""

    @property
    def count(self) -> int:
        """How many references there are, wherever they are counted: for messages, as no kernel can tell."""
        now = vars(self)
        return int(now["shared"]) + (0 if now["switched"] else sum(dict.values(now["by_cpu"])))

    @property
    def mode(self) -> str:
        """The field that tells where to count, and whether it is dead."""
        return f"{self.name}.percpu_count_ptr"

    @property
    def own(self) -> str:
        """The counters of the CPUs."""
        return f"{self.name}.percpu_count"

    @property
    def together(self) -> str:
        """The counter that all share."""
        return f"{self.name}.count"


def _is_percpu(hw: Machine, ref: PercpuRef) -> bool:
    """Whether each CPU counts on its own: ``__ref_is_percpu()``; the caller is within RCU."""
    if ref.within is None:
        hw.reads(ref.mode)
    else:
        use_object(hw, ref.within, here(), ref.mode)
    return not ref.dying


def _count_own(hw: Machine, ref: PercpuRef, nr: int) -> None:
    """``this_cpu_add()``: counters of CPUs that were added up already are never looked at again."""
    hw.adds(ref.own)
    counts = ref.by_cpu
    counts[hw.cpu] = counts.get(hw.cpu, 0) + nr


def _together(hw: Machine, ref: PercpuRef) -> None:
    """The counter that all share is about to be changed. KernelBug when there is none any more."""
    hw.atomic(ref.together)
    if ref.given_up:
        raise KernelBug(f"{ref.name} is used after percpu_ref_exit(): its data are NULL", place=here())


def percpu_ref_get_many(hw: Machine, ref: PercpuRef, nr: int) -> None:
    """Take `nr` references, whatever state the count is in."""
    with rcu_read_lock(hw):
        if _is_percpu(hw, ref):
            _count_own(hw, ref, nr)
        else:
            _together(hw, ref)
            ref.shared += nr


def percpu_ref_put_many(hw: Machine, ref: PercpuRef, nr: int) -> None:
    """Drop `nr` references; the last one calls the release function. KernelBug when there are not so many."""
    if not nr:
        return
    with rcu_read_lock(hw):
        if _is_percpu(hw, ref):
            _count_own(hw, ref, -nr)
        else:
            _together(hw, ref)
            ref.shared -= nr
            if ref.switched:
                _release_at_zero(ref, nr)


def _release_at_zero(ref: PercpuRef, nr: int) -> None:
    if ref.shared < 0:
        raise KernelBug(f"{ref.name}: {nr} references dropped of {ref.shared + nr}", place="lib/percpu-refcount.c")
    if not ref.shared:
        ref.release()


def percpu_ref_tryget_live(hw: Machine, ref: PercpuRef, nr: int = 1) -> bool:
    """Take `nr` references unless the count was killed: whether they were taken."""
    with rcu_read_lock(hw):
        return percpu_ref_tryget_live_rcu(hw, ref, nr)


def percpu_ref_tryget_live_rcu(hw: Machine, ref: PercpuRef, nr: int = 1) -> bool:
    """As :func:`percpu_ref_tryget_live`, within RCU already: the mode is looked at, then the CPU counts."""
    if not _is_percpu(hw, ref):
        return False
    _count_own(hw, ref, nr)
    return True


def percpu_ref_tryget_many(hw: Machine, ref: PercpuRef, nr: int) -> bool:
    """Take `nr` references unless all have been dropped: whether they were taken."""
    with rcu_read_lock(hw):
        if _is_percpu(hw, ref):
            _count_own(hw, ref, nr)
            return True
        _together(hw, ref)
        if ref.switched and not ref.shared:
            return False
        ref.shared += nr
        return True


def percpu_ref_kill(hw: Machine, ref: PercpuRef, *, at_once: bool = False, waits: bool = False) -> None:
    """Refuse new references; the owner's is dropped once the counters are added up, by ``call_rcu()``.

    With `at_once` nobody waits for the grace period, as no kernel has it. With `waits` the caller waits for the last
    reference later and calls :func:`switch_by_waiter` then; nobody else sees what the release function does.
    """
    with hw.locked(SWITCH_LOCK):
        hw.atomic(ref.mode)
        if ref.dying:
            raise KernelBug(
                f"{ref.name} is killed a second time", place="lib/percpu-refcount.c:percpu_ref_kill_and_confirm"
            )
        ref.dying = True
        if at_once:
            _switch_to_atomic(hw, ref)
        elif waits and hw.is_watched:
            ref.waited_for = hw.grace_period(RCU)
        else:
            call_rcu(hw, lambda: _switch_to_atomic(hw, ref))


@kernel_function("lib/percpu-refcount.c:percpu_ref_exit")
def percpu_ref_exit(hw: Machine, ref: PercpuRef) -> None:
    """Give up a count that was killed and that nobody uses any more."""
    with hw.locked(SWITCH_LOCK):
        hw.writes(ref.together)
        ref.given_up = True


@kernel_function(SWITCH)
def _switch_to_atomic(hw: Machine, ref: PercpuRef) -> None:
    """What ``call_rcu()`` has done of a count that was killed; the last reference may go with it."""
    hw.atomic(ref.own)
    counted = sum(ref.by_cpu.values())
    hw.atomic(ref.together)
    ref.shared += counted
    ref.switched = True
    if ref.shared <= 0:
        raise KernelBug(f"{ref.name}: {ref.shared} references after switching to atomic", place=SWITCH)
    ref.shared -= 1
    _release_at_zero(ref, 1)


@kernel_function(SWITCH)
def switch_by_waiter(hw: Machine, ref: PercpuRef) -> None:
    """What ``call_rcu()`` has done of a count that was killed with `waits`, done by who is about to wait for the last
    reference: any time between the grace period and here, which nobody can tell, as the count is not zero before.
    """
    before, ref.waited_for = ref.waited_for, None
    if before:
        wait_for_readers(hw, before)
    if before is not None:
        _switch_to_atomic(hw, ref)
