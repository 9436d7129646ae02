"""What the virtio-mem driver does when memory goes online or offline: ``virtio_mem_memory_notifier_cb()``.

It holds its hotplug mutex from the first word of a change to the last.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from errno import EBUSY

from memhp.errors import KernelBug
from memhp.hw.lifetime import use_object
from memhp.linux.drivers.base.notify import Refusal
from memhp.linux.drivers.virtio.virtio_mem_fake_offline import (
    is_zone_movable_page,
    virtio_mem_fake_offline_cancel_offline,
    virtio_mem_fake_offline_going_offline,
)
from memhp.linux.drivers.virtio.virtio_mem_shared import (
    add_offline_size,
    block_state,
    plugged_sub_blocks,
    set_block_state,
    virtio_mem_could_add_memory,
    virtio_mem_retry,
    wq_active,
)
from memhp.linux.drivers.virtio.virtio_mem_state import PLACE, BbState, MbState, VirtioMem, dev_log
from memhp.linux.kernel.panic import warn
from memhp.linux.place import here
from memhp.linux.state import Kernel
from memhp.spans import Span, SpanSet
from memhp.units import is_aligned

KERNEL_FILE = "drivers/virtio/virtio_mem.c"
NOTIFIER = f"{PLACE}:virtio_mem_memory_notifier_cb"
DENIED = "memory block onlining denied"
REMOVING = "the virtio-mem driver is being removed"

AFTER_OFFLINE = {
    MbState.KERNEL_PARTIAL: MbState.OFFLINE_PARTIAL,
    MbState.MOVABLE_PARTIAL: MbState.OFFLINE_PARTIAL,
    MbState.KERNEL: MbState.OFFLINE,
    MbState.MOVABLE: MbState.OFFLINE,
}
AFTER_ONLINE = {
    (MbState.OFFLINE_PARTIAL, False): MbState.KERNEL_PARTIAL,
    (MbState.OFFLINE_PARTIAL, True): MbState.MOVABLE_PARTIAL,
    (MbState.OFFLINE, False): MbState.KERNEL,
    (MbState.OFFLINE, True): MbState.MOVABLE,
}
"""What becomes of a memory block that is onlined, by whether that is in ZONE_MOVABLE."""


def virtio_mem_memory_notifier_cb(
    vm: VirtioMem, k: Kernel, action: str, start_pfn: int, nr_pages: int
) -> str | Refusal:
    """Hear of memory that changes: "" or why the driver will not have it."""
    use_object(k.hw, vm.slab, here())
    span = Span(start_pfn, start_pfn + nr_pages)
    where = span.scaled(k.config.page_shift)
    if not where.overlaps(vm.region):
        return ""
    unit = k.memory_block_size if vm.in_sbm else vm.bbm.bb_size
    whole = where.size == unit and is_aligned(where.start, unit)
    if not (whole if vm.in_sbm else where.start // unit == (where.end - 1) // unit):
        warn(k, NOTIFIER, once=True)
        return "memory of a virtio-mem device changes in other units than it was added"
    if action in ("MEM_GOING_ONLINE", "MEM_GOING_OFFLINE"):
        return _going(k, vm, action, where.start // unit, span)
    if action in ("MEM_ONLINE", "MEM_OFFLINE"):
        _gone(k, vm, action, where.start // unit, span)
    elif action in ("MEM_CANCEL_ONLINE", "MEM_CANCEL_OFFLINE") and vm.hotplug_active:
        if action == "MEM_CANCEL_OFFLINE":
            for part in _kept(k, vm, where.start // unit, span):
                virtio_mem_fake_offline_cancel_offline(k, vm, part)
        _done(k, vm)
    return ""


def _going(k: Kernel, vm: VirtioMem, action: str, block_id: int, span: Span) -> str | Refusal:
    k.hw.lock(vm.hotplug_mutex)
    use_object(k.hw, vm.slab, here())
    if vm.removing:
        k.hw.unlock(vm.hotplug_mutex)
        return Refusal(REMOVING, EBUSY)
    vm.hotplug_active = True
    if action == "MEM_GOING_OFFLINE":
        for part in _kept(k, vm, block_id, span):
            virtio_mem_fake_offline_going_offline(k, vm, part)
    elif vm.in_sbm and block_state(k, vm, block_id) not in (MbState.OFFLINE, MbState.OFFLINE_PARTIAL):
        dev_log(k, vm, DENIED, "warn")
        return DENIED
    return ""


def _gone(k: Kernel, vm: VirtioMem, action: str, block_id: int, span: Span) -> None:
    size = span.size << k.config.page_shift
    if action == "MEM_OFFLINE":
        if vm.in_sbm:
            _set_mb_state(k, vm, block_id, AFTER_OFFLINE.get(MbState(block_state(k, vm, block_id))))
        add_offline_size(k, vm, size)
        if not vm.params.unplug_online:
            virtio_mem_retry(k, vm)
    else:
        if vm.in_sbm:
            movable = is_zone_movable_page(k, span.start)
            _set_mb_state(k, vm, block_id, AFTER_ONLINE.get((MbState(block_state(k, vm, block_id)), movable)))
        add_offline_size(k, vm, -size)
        if not wq_active(k, vm) and virtio_mem_could_add_memory(k, vm, vm.offline_threshold // 2):
            virtio_mem_retry(k, vm)
    _done(k, vm)


def _done(k: Kernel, vm: VirtioMem) -> None:
    vm.hotplug_active = False
    k.hw.unlock(vm.hotplug_mutex)


def _set_mb_state(k: Kernel, vm: VirtioMem, mb_id: int, state: MbState | None) -> None:
    if state is None:
        text = f"BUG: memory block {mb_id} changes while it is {MbState(vm.sbm.blocks.get(mb_id)).name}"
        raise KernelBug(text, place=NOTIFIER)
    set_block_state(k, vm, mb_id, state)


def _kept(k: Kernel, vm: VirtioMem, block_id: int, span: Span) -> Iterator[Span]:
    """The pages of a block that the driver keeps, while it is online."""
    if not vm.in_sbm:
        if block_state(k, vm, block_id) == BbState.FAKE_OFFLINE:
            yield span
        return
    size = vm.sbm.sb_size >> k.config.page_shift
    plugged = SpanSet(plugged_sub_blocks(k, vm, vm.sbm.sub_blocks(block_id)))
    for gap in plugged.gaps(*vm.sbm.sub_blocks(block_id)):
        yield Span(gap.start * size, gap.end * size)
