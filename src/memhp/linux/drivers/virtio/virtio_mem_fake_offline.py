"""Pages of online memory blocks that the virtio-mem driver keeps from the buddy: drivers/virtio/virtio_mem.c.

They have the flag ``PageOffline``. Either they were never given to the buddy, since their sub-block was not plugged
when the block went online, or the driver took them from it to unplug them. Spans are PFNs.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass, field
from errno import EAGAIN, EBUSY, ENOMEM

from memhp.errors import KernelError
from memhp.hw.lifetime import use_object
from memhp.hw.memory import Owner, Use
from memhp.hw.shared import marked
from memhp.linux.drivers.virtio.virtio_mem_shared import block_state, config_changed, plugged_sub_blocks
from memhp.linux.drivers.virtio.virtio_mem_state import PLACE, BbState, VirtioMem
from memhp.linux.kernel.rcu import rcu_read_lock, synchronize_rcu
from memhp.linux.mm.alloc_contig import alloc_contig_range, free_contig_range
from memhp.linux.mm.memory_hotplug_online import (
    generic_online_page,
    restore_online_page_callback,
    set_online_page_callback,
)
from memhp.linux.mm.page_alloc import adjust_managed_page_count
from memhp.linux.mmzone import PageFlags, ZoneType
from memhp.linux.place import here, kernel_function, of_file
from memhp.linux.state import Kernel
from memhp.spans import Span

KERNEL_FILE = "drivers/virtio/virtio_mem.c"
FAKE_OFFLINE = f"{PLACE}:virtio_mem_fake_offline"
FAKE_ONLINE = f"{PLACE}:virtio_mem_fake_online"
GOING_OFFLINE = f"{PLACE}:virtio_mem_fake_offline_going_offline"
CANCEL_OFFLINE = f"{PLACE}:virtio_mem_fake_offline_cancel_offline"
TRIES = 5
DEVICES = "virtio_mem_devices"
MUTEX = "virtio_mem_mutex"
"""Who of several devices comes first or goes last is settled under it."""


@of_file("include/linux/mmzone.h")
def is_zone_movable_page(k: Kernel, pfn: int) -> bool:
    """Whether a page belongs to ZONE_MOVABLE: include/linux/mmzone.h."""
    ref = k.page_zone.get(pfn)
    return ref is not None and ref.type is ZoneType.MOVABLE


def virtio_mem_fake_offline(k: Kernel, vm: VirtioMem, span: Span) -> None:
    """Take pages from whoever uses them. Raises EBUSY when that fails, ENOMEM, and EAGAIN if other news came.

    Kernels before 6.6 go on trying whatever the news are.
    """
    heeds_news = k.config.profile.virtio_mem_remove_errors == "retried"
    tries = TRIES if is_zone_movable_page(k, span.start) else 1
    refusal = ""
    for _ in range(tries):
        if heeds_news and config_changed(k, vm):
            raise KernelError(EAGAIN, "the configuration of the device changed", place=FAKE_OFFLINE)
        try:
            alloc_contig_range(k, span.start, span.end, vm.owner)
        except KernelError as error:
            if error.errno == ENOMEM:
                raise
            refusal = error.reason
            continue
        k.page_flags.set_flags(*span, PageFlags.OFFLINE)
        adjust_managed_page_count(k, span.start, -span.size)
        return
    raise KernelError(EBUSY, refusal, place=FAKE_OFFLINE, advice="free or move what uses this memory")


def virtio_mem_fake_online(k: Kernel, vm: VirtioMem, span: Span) -> None:
    """Give pages that the driver kept to the buddy: for the first time, or back."""
    fresh = list(vm.never_onlined.runs(*span))
    taken = list(vm.never_onlined.gaps(*span))
    for part in fresh:
        vm.never_onlined.remove(*part)
        _let_frames_go(k, vm, part)
        generic_online_page(k, part.start, part.size)
    for part in taken:
        for start, end, owner in list(k.hw.owners.runs(*part)):
            if owner.use is Use.DEVICE:
                k.hw.claim(Span(start, end), vm.owner, FAKE_ONLINE)
        k.page_flags.clear_flags(*part, PageFlags.OFFLINE)
        free_contig_range(k, part.start, part.size)
        adjust_managed_page_count(k, part.start, part.size)


def virtio_mem_fake_offline_going_offline(k: Kernel, vm: VirtioMem, span: Span) -> None:
    """Let go of pages that the driver keeps, so that their block can go offline."""
    _let_frames_go(k, vm, span)
    for start, end, flags in list(k.page_flags.runs(*span)):
        if PageFlags.OFFLINE in flags:
            k.page_flags.set_flags(start, end, PageFlags.UNREFERENCED)


def _let_frames_go(k: Kernel, vm: VirtioMem, span: Span) -> None:
    for start, end, owner in list(k.hw.owners.runs(*span)):
        if owner.use is Use.OFFLINE:
            k.hw.retag(Span(start, end), Owner(Use.DEVICE, vm.name), GOING_OFFLINE)


def virtio_mem_fake_offline_cancel_offline(k: Kernel, vm: VirtioMem, span: Span) -> None:
    """Take hold of those pages again: their block stays online."""
    for start, end, flags in list(k.page_flags.runs(*span)):
        if PageFlags.OFFLINE in flags:
            k.page_flags.clear_flags(start, end, PageFlags.UNREFERENCED)
            for lo, hi, owner in list(k.hw.owners.runs(start, end)):
                if owner.use is Use.DEVICE:
                    k.hw.retag(Span(lo, hi), vm.owner, CANCEL_OFFLINE)


def virtio_mem_online_page(k: Kernel, vm: VirtioMem, span: Span) -> None:
    """Give to the buddy what of a run of pages is plugged; the driver keeps the rest, as ``PageOffline``.

    ``PageReserved``, which hot-added pages had before 6.11, would keep the block from going offline.
    """
    if vm.in_sbm:
        size = vm.sbm.sb_size >> k.config.page_shift
        plugged = [
            Span(part.start * size, part.end * size).clip(span)
            for part in plugged_sub_blocks(k, vm, Span(span.start // size, -(-span.end // size)))
        ]
    else:
        bb_id = (span.start << k.config.page_shift) // vm.bbm.bb_size
        plugged = [] if block_state(k, vm, bb_id) == BbState.FAKE_OFFLINE else [span]
    vm.never_onlined.add(*span)
    k.page_flags.set_flags(*span, PageFlags.OFFLINE)
    if k.config.profile.hotplugged_pages == "reserved":
        k.page_flags.clear_flags(*span, PageFlags.RESERVED)
    for part in plugged:
        vm.never_onlined.remove(*part)
        generic_online_page(k, part.start, part.size)
    if not vm.in_sbm and not plugged:
        for start, end, owner in list(k.hw.owners.runs(*span)):
            if owner.use is Use.DEVICE:
                k.hw.claim(Span(start, end), vm.owner, f"{PLACE}:virtio_mem_set_fake_offline")


@dataclass(eq=False)
class OnlinePages:
    """``virtio_mem_online_page_cb()`` of which all devices share one."""

    virtio_mem_devices: list[VirtioMem] = field(default_factory=list, metadata=marked(DEVICES))
    """An RCU list."""
    virtio_mem_last: VirtioMem | None = None
    """Where the ``prev`` pointer of the list's head leads, a plain one: who goes through the list does not look there,
    and who changes it has the mutex.
    """

    @kernel_function(f"{PLACE}:virtio_mem_online_page_cb")
    def __call__(self, k: Kernel, pfn: int, nr_pages: int) -> None:
        """Leave a run of pages to the device that it lies in; other memory goes to the buddy."""
        span = Span(pfn, pfn + nr_pages)
        with rcu_read_lock(k.hw):
            vm = next((vm for vm in self.virtio_mem_devices if virtio_mem_contains_range(k, vm, span)), None)
        if vm is None:
            generic_online_page(k, pfn, nr_pages)
        else:
            virtio_mem_online_page(k, vm, span)


def virtio_mem_contains_range(k: Kernel, vm: VirtioMem, span: Span) -> bool:
    """Whether pages lie in a device's region."""
    use_object(k.hw, vm.slab, here())
    return vm.region.covers(span.scaled(k.config.page_shift))


def register_virtio_mem_device(k: Kernel, vm: VirtioMem) -> None:
    """Have the driver decide which pages of a device go to the buddy. Raises EINVAL when somebody else decides."""
    with k.hw.locked(MUTEX):
        callback = k.statics(OnlinePages)
        if not callback.virtio_mem_devices:
            set_online_page_callback(k, callback)
        k.hw.writes(DEVICES)
        callback.virtio_mem_devices.append(vm)
        callback.virtio_mem_last = vm


def unregister_virtio_mem_device(k: Kernel, vm: VirtioMem) -> None:
    """The driver no longer decides for a device, and nobody looks at it any more who would have asked it."""
    with k.hw.locked(MUTEX):
        callback = k.statics(OnlinePages)
        k.hw.writes(DEVICES)
        callback.virtio_mem_devices.remove(vm)
        callback.virtio_mem_last = next(reversed(callback.virtio_mem_devices), None)
        if not callback.virtio_mem_devices:
            restore_online_page_callback(k, callback)
    synchronize_rcu(k.hw)
