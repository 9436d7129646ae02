"""Sub-block mode, growing: which sub-blocks the virtio-mem driver plugs, in which order: drivers/virtio/virtio_mem.c.

Memory blocks that are added already are filled up first, online ones before offline ones; then blocks that were used
before and are not, then new ones, each added with as much plugged from its start as is still wanted.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from errno import ENOSPC

from memhp.errors import KernelError
from memhp.linux.drivers.virtio.virtio_mem_fake_offline import virtio_mem_fake_online
from memhp.linux.drivers.virtio.virtio_mem_memory import virtio_mem_add_memory
from memhp.linux.drivers.virtio.virtio_mem_requests import (
    virtio_mem_send_plug_request,
    virtio_mem_send_unplug_request,
)
from memhp.linux.drivers.virtio.virtio_mem_shared import (
    grow_array,
    set_block_state,
    set_sub_blocks,
    virtio_mem_could_add_memory,
)
from memhp.linux.drivers.virtio.virtio_mem_state import PLACE, MbState, VirtioMem, pfns
from memhp.linux.state import Kernel
from memhp.spans import Span

KERNEL_FILE = "drivers/virtio/virtio_mem.c"
PREPARE = f"{PLACE}:virtio_mem_sbm_prepare_next_mb"
PLUG_ORDER = (MbState.KERNEL_PARTIAL, MbState.MOVABLE_PARTIAL, MbState.OFFLINE_PARTIAL)
"""The memory blocks to fill up, first to last."""


def virtio_mem_sbm_plug_sb(k: Kernel, vm: VirtioMem, sbs: Span) -> None:
    """Plug sub-blocks. Raises what the request raises; the state of their memory block stays."""
    size = vm.sbm.sb_size
    virtio_mem_send_plug_request(k, vm, sbs.start * size, sbs.size * size)
    set_sub_blocks(k, vm, sbs, plugged=True)


def virtio_mem_sbm_unplug_sb(k: Kernel, vm: VirtioMem, sbs: Span) -> None:
    """Unplug sub-blocks. Raises what the request raises; the state of their memory block stays."""
    size = vm.sbm.sb_size
    virtio_mem_send_unplug_request(k, vm, sbs.start * size, sbs.size * size)
    set_sub_blocks(k, vm, sbs, plugged=False)


def virtio_mem_sbm_plug_request(k: Kernel, vm: VirtioMem, diff: int) -> None:
    """Plug `diff` bytes. Raises ENOSPC when there is no place, or too much offline memory; else what a request raises.

    Some may be plugged then.
    """
    sbm = vm.sbm
    nb_sb = diff // sbm.sb_size
    if not nb_sb:
        return
    with k.hw.locked(vm.hotplug_mutex):
        for state in PLUG_ORDER:
            for mb_id in sbm.blocks.each(state):
                nb_sb -= virtio_mem_sbm_plug_any_sb(k, vm, mb_id, nb_sb)
                if not nb_sb:
                    return
    for mb_id in sbm.blocks.each(MbState.UNUSED):
        _check_could_add(k, vm)
        nb_sb -= virtio_mem_sbm_plug_and_add_mb(k, vm, mb_id, nb_sb)
        if not nb_sb:
            return
    while nb_sb:
        _check_could_add(k, vm)
        nb_sb -= virtio_mem_sbm_plug_and_add_mb(k, vm, virtio_mem_sbm_prepare_next_mb(k, vm), nb_sb)


def _check_could_add(k: Kernel, vm: VirtioMem) -> None:
    if not virtio_mem_could_add_memory(k, vm, k.memory_block_size):
        raise KernelError(
            ENOSPC,
            f"{vm.offline_size:#x} bytes of the device are not online yet",
            place=f"{PLACE}:virtio_mem_sbm_plug_request",
            advice="online the memory blocks that were added",
        )


def virtio_mem_sbm_prepare_next_mb(k: Kernel, vm: VirtioMem) -> int:
    """Track one memory block more: its id. Raises ENOSPC when none is usable, ENOMEM for want of room to track it."""
    if vm.sbm.blocks.next_id > vm.sbm.last_usable_mb_id:
        text = "no memory block of the device is left in its usable region"
        raise KernelError(ENOSPC, text, place=PREPARE)
    tracked = len(vm.sbm.blocks.ids)
    longs = -(-vm.sbm.sbs_per_mb * tracked // 64), -(-vm.sbm.sbs_per_mb * (tracked + 1) // 64)
    grow_array(k, vm, tracked, tracked + 1, PREPARE)
    grow_array(k, vm, longs[0] * 8, longs[1] * 8, PREPARE, vm.sbm.move_sb_states)
    return vm.sbm.blocks.prepare_next()


def virtio_mem_sbm_plug_and_add_mb(k: Kernel, vm: VirtioMem, mb_id: int, nb_sb: int) -> int:
    """Plug up to `nb_sb` sub-blocks from the start of a memory block and add it: how many it was.

    When adding fails they are unplugged again, at once or by a later run of the work.
    """
    sbm = vm.sbm
    count = min(nb_sb, sbm.sbs_per_mb)
    first = sbm.sub_blocks(mb_id).start
    virtio_mem_sbm_plug_sb(k, vm, Span(first, first + count))
    _set_state(k, vm, mb_id, MbState.OFFLINE if count == sbm.sbs_per_mb else MbState.OFFLINE_PARTIAL)
    try:
        virtio_mem_add_memory(k, vm, mb_id * k.memory_block_size, k.memory_block_size)
    except KernelError:
        state = MbState.UNUSED
        try:
            virtio_mem_sbm_unplug_sb(k, vm, Span(first, first + count))
        except KernelError:
            state = MbState.PLUGGED
        _set_state(k, vm, mb_id, state)
        raise
    return count


def _set_state(k: Kernel, vm: VirtioMem, mb_id: int, state: MbState) -> None:
    """The state of a block that is not added; no kernel holds anything, though notifiers change the same counters."""
    if k.config.profile.virtio_mem_count_lock == "unlocked":
        set_block_state(k, vm, mb_id, state)
        return
    with k.hw.locked(vm.hotplug_mutex):
        set_block_state(k, vm, mb_id, state)


def virtio_mem_sbm_plug_any_sb(k: Kernel, vm: VirtioMem, mb_id: int, nb_sb: int) -> int:
    """Plug up to `nb_sb` sub-blocks of a memory block that is added, the lowest first: how many it was."""
    sbm = vm.sbm
    old_state = MbState(sbm.blocks.get(mb_id))
    left = nb_sb
    while left and (gap := next(sbm.plugged.gaps(*sbm.sub_blocks(mb_id)), None)) is not None:
        sbs = Span(gap.start, min(gap.end, gap.start + left))
        virtio_mem_sbm_plug_sb(k, vm, sbs)
        left -= sbs.size
        if old_state is not MbState.OFFLINE_PARTIAL:
            virtio_mem_fake_online(k, vm, pfns(k, sbs.start * sbm.sb_size, sbs.size * sbm.sb_size))
    if sbm.all_plugged(mb_id):
        set_block_state(k, vm, mb_id, old_state - 1)
    return nb_sb - left
