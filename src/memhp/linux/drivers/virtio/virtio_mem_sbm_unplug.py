"""Sub-block mode, shrinking: which sub-blocks the virtio-mem driver unplugs, in which order.

Offline memory goes first, then what is partly unplugged, so that whole memory blocks can be removed; Movable before
kernel zones; the highest address first. drivers/virtio/virtio_mem.c.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from errno import EBUSY

from memhp.errors import KernelError
from memhp.linux.drivers.virtio.virtio_mem_fake_offline import virtio_mem_fake_offline, virtio_mem_fake_online
from memhp.linux.drivers.virtio.virtio_mem_memory import (
    virtio_mem_offline_and_remove_memory,
    virtio_mem_remove_memory,
)
from memhp.linux.drivers.virtio.virtio_mem_sbm import virtio_mem_sbm_unplug_sb
from memhp.linux.drivers.virtio.virtio_mem_shared import set_block_state
from memhp.linux.drivers.virtio.virtio_mem_state import PLACE, MbState, VirtioMem, mutex_dropped, pfns
from memhp.linux.state import Kernel
from memhp.spans import Span

KERNEL_FILE = "drivers/virtio/virtio_mem.c"
OFFLINE_ORDER = (MbState.OFFLINE_PARTIAL, MbState.OFFLINE)
ONLINE_ORDER = ((MbState.MOVABLE_PARTIAL,), (MbState.KERNEL_PARTIAL,), (MbState.MOVABLE,), (MbState.KERNEL,))
"""The memory blocks to unplug from, first to last."""
OLD_ONLINE_ORDER = ((MbState.KERNEL_PARTIAL, MbState.MOVABLE_PARTIAL), (MbState.KERNEL, MbState.MOVABLE))
"""The same before the driver knew of zones."""
REMOVE_ORDER = (MbState.MOVABLE_PARTIAL, MbState.KERNEL_PARTIAL, MbState.OFFLINE_PARTIAL)
"""The memory blocks to look through for those without a plugged sub-block."""


def online_order(k: Kernel) -> tuple[tuple[MbState, ...], ...]:
    """The order in which this kernel's driver looks for something to unplug from blocks that are online."""
    return ONLINE_ORDER if k.config.profile.virtio_mem_movable_first else OLD_ONLINE_ORDER


def virtio_mem_sbm_unplug_request(k: Kernel, vm: VirtioMem, diff: int) -> None:
    """Unplug `diff` bytes. Raises EBUSY when not all of it could be, else what a request raises.

    Memory that is online is left alone, without a word, where ``unplug_online`` is off.
    """
    nb_sb = diff // vm.sbm.sb_size
    if not nb_sb:
        return
    order: list[tuple[MbState, ...]] = [(state,) for state in OFFLINE_ORDER]
    if vm.params.unplug_online:
        order += online_order(k)
    with k.hw.locked(vm.hotplug_mutex):
        for states in order:
            for mb_id in vm.sbm.blocks.each_rev(*states):
                nb_sb -= virtio_mem_sbm_unplug_any_sb(k, vm, mb_id, nb_sb)
                if not nb_sb:
                    return
                k.hw.unlock(vm.hotplug_mutex)
                k.hw.lock(vm.hotplug_mutex)
    if vm.params.unplug_online:
        text = f"{nb_sb * vm.sbm.sb_size:#x} bytes of the device are in use"
        raise KernelError(EBUSY, text, place=f"{PLACE}:virtio_mem_sbm_unplug_request")


def virtio_mem_sbm_unplug_any_sb(k: Kernel, vm: VirtioMem, mb_id: int, nb_sb: int) -> int:
    """Unplug up to `nb_sb` sub-blocks of a memory block that is added: how many it was."""
    if vm.sbm.blocks.get(mb_id) in OFFLINE_ORDER:
        return virtio_mem_sbm_unplug_any_sb_offline(k, vm, mb_id, nb_sb)
    return virtio_mem_sbm_unplug_any_sb_online(k, vm, mb_id, nb_sb)


def virtio_mem_sbm_unplug_any_sb_raw(k: Kernel, vm: VirtioMem, mb_id: int, nb_sb: int) -> int:
    """Unplug up to `nb_sb` sub-blocks of a block that is offline or not added, runs of them at a time: how many."""
    left = nb_sb
    for run in reversed(list(vm.sbm.plugged.runs(*vm.sbm.sub_blocks(mb_id)))):
        if not left:
            break
        sbs = Span(max(run.start, run.end - left), run.end)
        virtio_mem_sbm_unplug_sb(k, vm, sbs)
        left -= sbs.size
    return nb_sb - left


def virtio_mem_sbm_unplug_any_sb_offline(k: Kernel, vm: VirtioMem, mb_id: int, nb_sb: int) -> int:
    """Unplug up to `nb_sb` sub-blocks of an offline block, and remove it if none is left: how many it was."""
    sbm = vm.sbm
    try:
        done = virtio_mem_sbm_unplug_any_sb_raw(k, vm, mb_id, nb_sb)
    finally:
        if not sbm.all_plugged(mb_id):
            set_block_state(k, vm, mb_id, MbState.OFFLINE_PARTIAL)
    if sbm.all_unplugged(mb_id):
        set_block_state(k, vm, mb_id, MbState.UNUSED)
        with mutex_dropped(k, vm):
            virtio_mem_remove_memory(k, vm, mb_id * k.memory_block_size, k.memory_block_size)
    return done


def virtio_mem_sbm_unplug_sb_online(k: Kernel, vm: VirtioMem, mb_id: int, sbs: Span) -> None:
    """Empty sub-blocks of an online block and unplug them. Raises EBUSY when they are in use, and as the request."""
    sbm = vm.sbm
    span = pfns(k, sbs.start * sbm.sb_size, sbs.size * sbm.sb_size)
    virtio_mem_fake_offline(k, vm, span)
    try:
        virtio_mem_sbm_unplug_sb(k, vm, sbs)
    except KernelError:
        virtio_mem_fake_online(k, vm, span)
        raise
    state = sbm.blocks.get(mb_id)
    if state in (MbState.KERNEL, MbState.MOVABLE):
        set_block_state(k, vm, mb_id, state + 1)


def virtio_mem_sbm_unplug_any_sb_online(k: Kernel, vm: VirtioMem, mb_id: int, nb_sb: int) -> int:
    """Unplug up to `nb_sb` sub-blocks of an online block, those in use left out: how many it was.

    The whole block at once, if that can be, else sub-block by sub-block; without any left the block is removed.
    """
    sbm = vm.sbm
    whole = sbm.sub_blocks(mb_id)
    left = nb_sb
    if left >= whole.size and sbm.all_plugged(mb_id) and _unplug_unless_busy(k, vm, mb_id, whole):
        left -= whole.size
    else:
        for run in reversed(list(sbm.plugged.runs(*whole))):
            for sb in range(run.end - 1, run.start - 1, -1):
                if not left:
                    break
                left -= _unplug_unless_busy(k, vm, mb_id, Span(sb, sb + 1))
    if not virtio_mem_sbm_try_remove_unplugged_mb(k, vm, mb_id):
        sbm.have_unplugged_mb = k.config.profile.virtio_mem_remove_errors == "retried"
    return nb_sb - left


def _unplug_unless_busy(k: Kernel, vm: VirtioMem, mb_id: int, sbs: Span) -> bool:
    try:
        virtio_mem_sbm_unplug_sb_online(k, vm, mb_id, sbs)
    except KernelError as error:
        if error.errno != EBUSY:
            raise
        return False
    return True


def virtio_mem_sbm_try_remove_unplugged_mb(k: Kernel, vm: VirtioMem, mb_id: int) -> bool:
    """Remove a memory block if none of its sub-blocks is plugged: False if it should go and does not."""
    if not vm.sbm.all_unplugged(mb_id):
        return True
    try:
        with mutex_dropped(k, vm):
            virtio_mem_offline_and_remove_memory(k, vm, mb_id * k.memory_block_size, k.memory_block_size)
    except KernelError:
        return False
    set_block_state(k, vm, mb_id, MbState.UNUSED)
    return True


def virtio_mem_sbm_cleanup_pending_mb(k: Kernel, vm: VirtioMem) -> None:
    """Unplug what could not be added, and remove blocks that could not be removed. Raises what a request raises."""
    sbm = vm.sbm
    for mb_id in sbm.blocks.each(MbState.PLUGGED):
        virtio_mem_sbm_unplug_any_sb_raw(k, vm, mb_id, sbm.sbs_per_mb)
        set_block_state(k, vm, mb_id, MbState.UNUSED)
    if not sbm.have_unplugged_mb:
        return
    sbm.have_unplugged_mb = False
    with k.hw.locked(vm.hotplug_mutex):
        for state in REMOVE_ORDER:
            for mb_id in sbm.blocks.each(state):
                sbm.have_unplugged_mb |= not virtio_mem_sbm_try_remove_unplugged_mb(k, vm, mb_id)
