"""What the work of the virtio-mem driver shares with interrupts and memory notifiers: drivers/virtio/virtio_mem.c.

States of blocks are read under the hotplug mutex, from the first word of a change to the last. The work changes those
of blocks that are not added without it; sizes and flags are atomic.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import ENOMEM

from memhp.errors import KernelBug, KernelError
from memhp.linux.drivers.virtio.virtio_mem_state import PLACE, BbState, MbState, VirtioMem
from memhp.linux.kernel.panic import warn
from memhp.linux.place import kernel_function, of_file
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import align_up


@of_file("drivers/virtio/virtio_mem.c")
def virtio_mem_could_add_memory(k: Kernel, vm: VirtioMem, size: int) -> bool:
    """Whether `size` bytes may be added before what was added earlier is online."""
    if size > vm.offline_threshold:
        warn(k, f"{PLACE}:virtio_mem_could_add_memory", once=True)
        return False
    k.hw.atomic(f"{vm.name}.offline_size")
    return vm.offline_size + size <= vm.offline_threshold


def add_offline_size(k: Kernel, vm: VirtioMem, size: int) -> None:
    """So many bytes more, or fewer, are added and not online: ``atomic64_add()``, ``atomic64_sub()``."""
    k.hw.atomic(f"{vm.name}.offline_size")
    vm.offline_size += size


def config_changed(k: Kernel, vm: VirtioMem) -> bool:
    """Whether the device's configuration changed since it was read: ``atomic_read(&vm->config_changed)``."""
    k.hw.reads(f"{vm.name}.config_changed")
    return vm.config_changed


def set_config_changed(k: Kernel, vm: VirtioMem, *, changed: bool) -> None:
    """Note that the configuration changed, or that it is about to be read: ``atomic_set()``."""
    k.hw.writes(f"{vm.name}.config_changed")
    vm.config_changed = changed


def wq_active(k: Kernel, vm: VirtioMem) -> bool:
    """Whether the work is running: ``atomic_read(&vm->wq_active)``."""
    k.hw.reads(f"{vm.name}.wq_active")
    return vm.wq_active


def set_wq_active(k: Kernel, vm: VirtioMem, *, active: bool) -> None:
    """The work starts or ends: ``atomic_set()``."""
    k.hw.writes(f"{vm.name}.wq_active")
    vm.wq_active = active


def set_block_state(k: Kernel, vm: VirtioMem, block_id: int, state: int) -> None:
    """Change the state of a memory block or big block, and count it there: one fewer, one more.

    ``virtio_mem_sbm_set_mb_state()``, ``virtio_mem_bbm_set_bb_state()``. Raises :class:`KernelBug` where none is left
    to be counted: the counters are plain, and so is what is done to them, a read and then a write.
    """
    if not k.hw.holds(vm.hotplug_mutex, write=True):
        k.hw.writes(f"{vm.name}.block_states[{block_id}]")
    assert vm.mode is not None
    blocks = vm.mode.blocks
    before = blocks.move(block_id, state)
    names, counters = (MbState, "mb_count") if vm.in_sbm else (BbState, "bb_count")
    for which, by in ((before, -1), (state, 1)):
        name = names(which).name
        counter = f"{vm.name}.{counters}[{name}]"
        k.hw.reads(counter)
        count = blocks.counts[which]
        if by < 0 and not count:
            function = "virtio_mem_sbm_set_mb_state" if vm.in_sbm else "virtio_mem_bbm_set_bb_state"
            text = f"BUG_ON: block {block_id} is no longer {name}, and no block is counted as that"
            raise KernelBug(text, place=f"{PLACE}:{function}")
        k.hw.writes(counter)
        blocks.counts[which] = count + by


def block_state(k: Kernel, vm: VirtioMem, block_id: int) -> int:
    """The state of a memory block or big block."""
    k.hw.reads(f"{vm.name}.block_states[{block_id}]")
    assert vm.mode is not None
    return vm.mode.blocks.get(block_id)


def grow_array(
    k: Kernel, vm: VirtioMem, old: int, new: int, place: str, take_over: Callable[[], None] = lambda: None
) -> None:
    """Have room for `new` bytes of states after `old`: another array when a page more is needed. Raises ENOMEM.

    `take_over` copies the old one and puts the new one in its place.
    """
    if old and align_up(old, k.config.page_size) == align_up(new, k.config.page_size):
        return
    if k.hw.may_fail(place):
        raise KernelError(ENOMEM, "no memory for the states of another block", place=place)
    with k.hw.locked(vm.hotplug_mutex):
        take_over()


def set_sub_blocks(k: Kernel, vm: VirtioMem, sbs: Span, *, plugged: bool) -> None:
    """Note that sub-blocks are plugged, or are not: ``virtio_mem_sbm_set_sb_plugged()`` and its counterpart."""
    if not k.hw.holds(vm.hotplug_mutex, write=True):
        k.hw.writes(f"{vm.name}.sb_states[{sbs.start // vm.sbm.sbs_per_mb}]")
    (vm.sbm.plugged.add if plugged else vm.sbm.plugged.remove)(*sbs)


def plugged_sub_blocks(k: Kernel, vm: VirtioMem, sbs: Span) -> list[Span]:
    """The runs of sub-blocks that are plugged of some of one memory block."""
    k.hw.reads(f"{vm.name}.sb_states[{sbs.start // vm.sbm.sbs_per_mb}]")
    return list(vm.sbm.plugged.runs(*sbs))


@of_file("drivers/virtio/virtio_mem.c")
def virtio_mem_retry(k: Kernel, vm: VirtioMem) -> None:
    """Have the work run as soon as time goes on: ``queue_work()``; once is enough until it starts."""
    with k.hw.locked(vm.removal_lock):
        if not vm.removing and not test_and_set_pending(k, vm):
            k.hw.arm(0, vm.run_work)


def test_and_set_pending(k: Kernel, vm: VirtioMem) -> bool:
    """Whether the work was queued before; it is from now on: ``WORK_STRUCT_PENDING``."""
    k.hw.atomic(f"{vm.name}.work")
    before, vm.work_pending = vm.work_pending, True
    return before


@contextmanager
@kernel_function("kernel/workqueue.c:process_one_work")
def work_taken_up(k: Kernel, vm: VirtioMem) -> Iterator[bool]:
    """The work queue takes the work up, if it still is to be done and nobody is at it; it may be asked for once more
    from then on.
    """
    k.hw.atomic(f"{vm.name}.current_work")
    if vm.work_runs:
        yield False
        return
    vm.work_runs = True
    k.hw.atomic(f"{vm.name}.work")
    taken, vm.work_pending = vm.work_pending, False
    try:
        yield taken
    finally:
        k.hw.atomic(f"{vm.name}.current_work")
        vm.work_runs = False


@kernel_function("kernel/workqueue.c:cancel_work_sync")
def cancel_work_sync(k: Kernel, vm: VirtioMem) -> None:
    """Work that is queued is not done; whoever is at it is waited for."""
    k.hw.atomic(f"{vm.name}.work")
    vm.work_pending = False
    k.hw.wait(lambda: not vm.work_runs, "the work", f"{vm.name}.current_work")
