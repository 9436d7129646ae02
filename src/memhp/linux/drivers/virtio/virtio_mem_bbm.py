"""Big-block mode: memory of a virtio-mem device in units of one or more memory blocks: drivers/virtio/virtio_mem.c."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Iterator
from errno import EBUSY, ENOSPC

from memhp.errors import KernelError
from memhp.linux.drivers.virtio.virtio_mem_fake_offline import (
    is_zone_movable_page,
    virtio_mem_fake_offline,
    virtio_mem_fake_online,
)
from memhp.linux.drivers.virtio.virtio_mem_memory import virtio_mem_add_memory, virtio_mem_offline_and_remove_memory
from memhp.linux.drivers.virtio.virtio_mem_requests import (
    virtio_mem_send_plug_request,
    virtio_mem_send_unplug_request,
)
from memhp.linux.drivers.virtio.virtio_mem_shared import (
    grow_array,
    set_block_state,
    virtio_mem_could_add_memory,
)
from memhp.linux.drivers.virtio.virtio_mem_state import PLACE, BbState, VirtioMem, pfns
from memhp.linux.mm.sparse import pfn_to_online_page
from memhp.linux.state import Kernel
from memhp.spans import Span

KERNEL_FILE = "drivers/virtio/virtio_mem.c"
PREPARE = f"{PLACE}:virtio_mem_bbm_prepare_next_bb"
PLUG_REQUEST = f"{PLACE}:virtio_mem_bbm_plug_request"


def virtio_mem_bbm_plug_request(k: Kernel, vm: VirtioMem, diff: int) -> None:
    """Plug and add `diff` bytes, big blocks used before first. Raises ENOSPC, and what requests and adding raise."""
    bbm = vm.bbm
    nb_bb = diff // bbm.bb_size
    if not nb_bb:
        return
    for bb_id in bbm.blocks.each(BbState.UNUSED):
        _check_could_add(k, vm)
        virtio_mem_bbm_plug_and_add_bb(k, vm, bb_id)
        nb_bb -= 1
        if not nb_bb:
            return
    for _ in range(nb_bb):
        _check_could_add(k, vm)
        virtio_mem_bbm_plug_and_add_bb(k, vm, virtio_mem_bbm_prepare_next_bb(k, vm))


def _check_could_add(k: Kernel, vm: VirtioMem) -> None:
    if not virtio_mem_could_add_memory(k, vm, vm.bbm.bb_size):
        raise KernelError(
            ENOSPC,
            f"{vm.offline_size:#x} bytes of the device are not online yet",
            place=PLUG_REQUEST,
            advice="online the memory blocks that were added",
        )


def virtio_mem_bbm_prepare_next_bb(k: Kernel, vm: VirtioMem) -> int:
    """Track one big block more: its id. Raises ENOSPC when none is usable, ENOMEM for want of room to track it."""
    if vm.bbm.blocks.next_id > vm.bbm.last_usable_bb_id:
        text = "no big block of the device is left in its usable region"
        raise KernelError(ENOSPC, text, place=PREPARE)
    tracked = len(vm.bbm.blocks.ids)
    grow_array(k, vm, tracked, tracked + 1, PREPARE)
    return vm.bbm.blocks.prepare_next()


def virtio_mem_bbm_plug_and_add_bb(k: Kernel, vm: VirtioMem, bb_id: int) -> None:
    """Plug and add a big block. When adding fails it is unplugged again, at once or by a later run of the work."""
    bbm = vm.bbm
    addr = bb_id * bbm.bb_size
    virtio_mem_send_plug_request(k, vm, addr, bbm.bb_size)
    set_block_state(k, vm, bb_id, BbState.ADDED)
    try:
        virtio_mem_add_memory(k, vm, addr, bbm.bb_size)
    except KernelError:
        try:
            virtio_mem_send_unplug_request(k, vm, addr, bbm.bb_size)
        except KernelError:
            set_block_state(k, vm, bb_id, BbState.PLUGGED)
        else:
            set_block_state(k, vm, bb_id, BbState.UNUSED)
        raise


def virtio_mem_bbm_unplug_request(k: Kernel, vm: VirtioMem, diff: int) -> None:
    """Remove and unplug `diff` bytes: offline big blocks, then Movable ones, then any, the highest first.

    Raises EBUSY when not all of it could be, else what a request raises.
    """
    nb_bb = diff // vm.bbm.bb_size
    if not nb_bb:
        return
    passes: tuple[Callable[[Kernel, VirtioMem, int], bool], ...]
    movable = (virtio_mem_bbm_bb_is_movable,) if k.config.profile.virtio_mem_movable_first else ()
    passes = (virtio_mem_bbm_bb_is_offline, *movable, _any)
    for wanted in passes if vm.params.unplug_online else passes[:1]:
        for bb_id in vm.bbm.blocks.each_rev(BbState.ADDED):
            if not _asked(k, vm, bb_id, wanted):
                continue
            try:
                virtio_mem_bbm_offline_remove_and_unplug_bb(k, vm, bb_id)
            except KernelError as error:
                if error.errno != EBUSY:
                    raise
                continue
            nb_bb -= 1
            if not nb_bb:
                return
    if vm.params.unplug_online:
        text = f"{nb_bb * vm.bbm.bb_size:#x} bytes of the device are in use"
        raise KernelError(EBUSY, text, place=f"{PLACE}:virtio_mem_bbm_unplug_request")


def _sections(k: Kernel, vm: VirtioMem, bb_id: int) -> Iterator[Span]:
    """The PFNs of each section of a big block."""
    span = pfns(k, bb_id * vm.bbm.bb_size, vm.bbm.bb_size)
    step = k.config.pages_per_section
    return (Span(pfn, pfn + step) for pfn in range(span.start, span.end, step))


def _online_sections(k: Kernel, vm: VirtioMem, bb_id: int) -> Iterator[Span]:
    return (section for section in _sections(k, vm, bb_id) if pfn_to_online_page(k, section.start))


def virtio_mem_bbm_bb_is_offline(k: Kernel, vm: VirtioMem, bb_id: int) -> bool:
    """Whether nothing of a big block is online."""
    return next(_online_sections(k, vm, bb_id), None) is None


def virtio_mem_bbm_bb_is_movable(k: Kernel, vm: VirtioMem, bb_id: int) -> bool:
    """Whether all that is online of a big block is in ZONE_MOVABLE."""
    return all(is_zone_movable_page(k, section.start) for section in _online_sections(k, vm, bb_id))


def _asked(k: Kernel, vm: VirtioMem, bb_id: int, wanted: Callable[[Kernel, VirtioMem, int], bool]) -> bool:
    """Whether a big block is wanted; no kernel holds anything while it asks."""
    if k.config.profile.virtio_mem_zone_lock == "unlocked":
        return wanted(k, vm, bb_id)
    with k.hw.locked(vm.hotplug_mutex):
        return wanted(k, vm, bb_id)


def _any(k: Kernel, vm: VirtioMem, bb_id: int) -> bool:
    return True


def virtio_mem_bbm_offline_remove_and_unplug_bb(k: Kernel, vm: VirtioMem, bb_id: int) -> None:
    """Empty a big block, remove it and unplug it. Raises EBUSY and ENOMEM, with the block in use as before.

    When the device refuses the unplug request, the block stays removed and is unplugged by a later run of the work.
    """
    bbm = vm.bbm
    addr = bb_id * bbm.bb_size
    taken: list[Span] = []
    with k.hw.locked(vm.hotplug_mutex):
        set_block_state(k, vm, bb_id, BbState.FAKE_OFFLINE)
        try:
            for section in _online_sections(k, vm, bb_id):
                virtio_mem_fake_offline(k, vm, section)
                taken.append(section)
        except KernelError:
            _roll_back(k, vm, bb_id, taken)
            raise
    try:
        virtio_mem_offline_and_remove_memory(k, vm, addr, bbm.bb_size)
    except KernelError:
        with k.hw.locked(vm.hotplug_mutex):
            _roll_back(k, vm, bb_id, list(_sections(k, vm, bb_id)))
        raise
    set_block_state(k, vm, bb_id, BbState.PLUGGED)
    virtio_mem_send_unplug_request(k, vm, addr, bbm.bb_size)
    set_block_state(k, vm, bb_id, BbState.UNUSED)


def _roll_back(k: Kernel, vm: VirtioMem, bb_id: int, taken: list[Span]) -> None:
    for section in taken:
        if pfn_to_online_page(k, section.start):
            virtio_mem_fake_online(k, vm, section)
    set_block_state(k, vm, bb_id, BbState.ADDED)


def virtio_mem_bbm_cleanup_pending_bb(k: Kernel, vm: VirtioMem) -> None:
    """Unplug big blocks that are plugged and not added. Raises what a request raises."""
    for bb_id in vm.bbm.blocks.each(BbState.PLUGGED):
        virtio_mem_send_unplug_request(k, vm, bb_id * vm.bbm.bb_size, vm.bbm.bb_size)
        set_block_state(k, vm, bb_id, BbState.UNUSED)
