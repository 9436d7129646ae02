"""The virtio-mem driver: probing a device, and the work that keeps it at its requested size.

drivers/virtio/virtio_mem.c. What is plugged and unplugged is in `virtio_mem_sbm`, `virtio_mem_sbm_unplug` and
`virtio_mem_bbm`; here is when. The work runs as time goes on: after the probe, at an interrupt or when the retry timer
expires, let :meth:`memhp.hw.machine.Machine.advance` pass some, if only 0 ns.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from errno import EAGAIN, EBUSY, ENOMEM, ENOSPC, ETXTBSY
from functools import partial

from memhp.errors import KernelBug, KernelError
from memhp.hw.devices.virtio_mem import VirtioMemDevice
from memhp.hw.devices.virtio_mem_wire import Config, Feature
from memhp.hw.lifetime import kfree, use_object
from memhp.linux.drivers.acpi.numa.srat import NUMA_NO_NODE, pxm_to_node
from memhp.linux.drivers.base.memory_groups import memory_group_register_dynamic, memory_group_unregister
from memhp.linux.drivers.base.notify import register_memory_notifier, unregister_memory_notifier
from memhp.linux.drivers.virtio.virtio_mem_bbm import (
    virtio_mem_bbm_cleanup_pending_bb,
    virtio_mem_bbm_plug_request,
    virtio_mem_bbm_unplug_request,
)
from memhp.linux.drivers.virtio.virtio_mem_fake_offline import (
    register_virtio_mem_device,
    unregister_virtio_mem_device,
)
from memhp.linux.drivers.virtio.virtio_mem_memory import virtio_mem_remove_memory
from memhp.linux.drivers.virtio.virtio_mem_notifier import virtio_mem_memory_notifier_cb
from memhp.linux.drivers.virtio.virtio_mem_pm import (
    virtio_device_ready,
    virtio_mem_config_changed,
    virtio_mem_pm_register,
    virtio_mem_pm_unregister,
)
from memhp.linux.drivers.virtio.virtio_mem_repetition import repetition
from memhp.linux.drivers.virtio.virtio_mem_requests import virtio_mem_send_unplug_all_request
from memhp.linux.drivers.virtio.virtio_mem_sbm import virtio_mem_sbm_plug_request
from memhp.linux.drivers.virtio.virtio_mem_sbm_unplug import (
    virtio_mem_sbm_cleanup_pending_mb,
    virtio_mem_sbm_unplug_request,
)
from memhp.linux.drivers.virtio.virtio_mem_shared import (
    cancel_work_sync,
    config_changed,
    set_block_state,
    set_config_changed,
    set_wq_active,
    virtio_mem_retry,
    work_taken_up,
)
from memhp.linux.drivers.virtio.virtio_mem_state import (
    PLACE,
    RETRY_TIMER_MAX_MS,
    RETRY_TIMER_MIN_MS,
    BigBlockMode,
    MbState,
    Params,
    StateTable,
    SubBlockMode,
    VirtioMem,
    dev_log,
)
from memhp.linux.kernel.panic import warn
from memhp.linux.kernel.resource import (
    BUSY_SYSTEM_RAM,
    IORES_DESC_NONE,
    IORESOURCE_BUSY,
    IORESOURCE_EXCLUSIVE,
    IORESOURCE_SYSTEM_RAM,
    Resource,
    release_resource,
    request_region,
    walk_iomem_res_desc,
)
from memhp.linux.mm.memory_hotplug_pages import mhp_get_pluggable_range
from memhp.linux.mm.numa_memblks import memory_add_physaddr_to_nid
from memhp.linux.place import here, kernel_function
from memhp.linux.state import Kernel
from memhp.units import is_aligned

KERNEL_FILE = "drivers/virtio/virtio_mem.c"
MS = 1_000_000
"""Nanoseconds."""

RUN_WQ = f"{PLACE}:virtio_mem_run_wq"
SPIN_LIMIT = 64
"""Rounds of the work that may come to nothing, one right after the other, before this is called endless."""


def virtio_mem_probe(k: Kernel, device: VirtioMemDevice, name: str, params: Params | None = None) -> VirtioMem:
    """Take over a device. Raises EBUSY when its region is taken, EINVAL when Linux cannot use it."""
    config = Config.unpack(device.read_config())
    features = device.negotiate(virtio_mem_features(k))
    vm = VirtioMem(
        name=name,
        device=device,
        params=params or Params(),
        features=features,
        nid=virtio_mem_nid(k, features, config),
        addr=config.addr,
        region_size=config.region_size,
        device_block_size=config.block_size,
        plugged_size=config.plugged_size,
        usable_region_size=config.usable_region_size,
    )
    dev_log(k, vm, f"start address: {vm.addr:#x}")
    dev_log(k, vm, f"region size: {vm.region_size:#x}")
    dev_log(k, vm, f"device block size: {vm.device_block_size:#x}")
    dev_log(k, vm, f"nid: {vm.nid}")
    vm.run_work = partial(process_one_work, k, vm)
    virtio_mem_init_hotplug(k, vm)
    virtio_device_ready(k, vm)
    virtio_mem_config_changed(k, vm)
    return vm


def virtio_mem_features(k: Kernel) -> Feature:
    """What this kernel's driver supports: ``virtio_mem_features[]``."""
    features = Feature.ACPI_PXM
    if k.config.profile.virtio_mem_unplugged_inaccessible:
        features |= Feature.UNPLUGGED_INACCESSIBLE
    if k.config.profile.virtio_mem_sleep == "by-feature":
        features |= Feature.PERSISTENT_SUSPEND
    return features


def virtio_mem_nid(k: Kernel, features: Feature, config: Config) -> int:
    """The node of a device: that of its proximity domain, else the one that its address belongs to.

    ``virtio_mem_translate_node_id()`` and what ``virtio_mem_init()`` makes of it.
    """
    nid = pxm_to_node(k, config.node_id) if Feature.ACPI_PXM in features else NUMA_NO_NODE
    return memory_add_physaddr_to_nid(k, config.addr) if nid == NUMA_NO_NODE else nid


def virtio_mem_init_hotplug(k: Kernel, vm: VirtioMem) -> None:
    """Choose the mode and its units, claim the region, and be heard when memory changes."""
    pluggable = mhp_get_pluggable_range(k, need_mapping=True)
    block = k.memory_block_size
    unusable = "can make some memory unusable."
    if not is_aligned(vm.region.start, block):
        dev_log(k, vm, f"The alignment of the physical start address {unusable}", "warn")
    if not is_aligned(vm.region.end, block):
        dev_log(k, vm, f"The alignment of the physical end address {unusable}", "warn")
    if not pluggable.covers(vm.region):
        dev_log(k, vm, f"Some device memory is not addressable/pluggable. This {unusable}", "warn")
    vm.offline_threshold = max(2 * block, vm.offline_threshold)
    lowest = max(vm.addr, pluggable.start)
    sb_size = max(vm.device_block_size, k.config.virtio_mem_sub_block)
    if sb_size < block and not vm.params.force_bbm:
        vm.mode = SubBlockMode(StateTable((lowest + block - 1) // block), sb_size, block // sb_size)
        unit = block
    else:
        unit = _big_block_size(k, vm)
        vm.mode = BigBlockMode(StateTable((lowest + unit - 1) // unit), unit)
        vm.offline_threshold = max(2 * unit, vm.offline_threshold)
    dev_log(k, vm, f"memory block size: {block:#x}")
    if vm.in_sbm:
        dev_log(k, vm, f"subblock size: {sb_size:#x}")
    else:
        dev_log(k, vm, f"big block size: {unit:#x}")
    vm.parent_resource = virtio_mem_create_resource(k, vm)
    if k.config.profile.auto_movable:
        vm.mgid = memory_group_register_dynamic(k, vm.nid, unit >> k.config.page_shift)
    if vm.plugged_size:
        vm.unplug_all_required = True
        dev_log(k, vm, "unplugging all memory is required")
    _register_callbacks(k, vm)


def _register_callbacks(k: Kernel, vm: VirtioMem) -> None:
    """Hear of memory that changes and of the machine's sleep. Raises EINVAL when another driver chooses pages."""
    vm.notifier = partial(virtio_mem_memory_notifier_cb, vm)
    register_memory_notifier(k, vm.notifier)
    virtio_mem_pm_register(k, vm)
    try:
        register_virtio_mem_device(k, vm)
    except KernelError:
        virtio_mem_pm_unregister(k, vm)
        unregister_memory_notifier(k, vm.notifier)
        if vm.mgid is not None:
            memory_group_unregister(k, vm.mgid)
        virtio_mem_delete_resource(k, vm)
        raise


def _big_block_size(k: Kernel, vm: VirtioMem) -> int:
    """Bytes of a big block: as the parameter has it, if that can be."""
    least = max(vm.device_block_size, k.memory_block_size)
    wanted = vm.params.bbm_block_size
    if not wanted:
        return least
    if wanted & (wanted - 1):
        dev_log(k, vm, "bbm_block_size is not a power of 2", "warn")
        return least
    if wanted < least:
        dev_log(k, vm, "bbm_block_size is too small", "warn")
        return least
    return wanted


def virtio_mem_create_resource(k: Kernel, vm: VirtioMem) -> Resource:
    """Claim the region, for System RAM to be added below. Raises EBUSY when something is in the way."""
    flags = IORESOURCE_SYSTEM_RAM | IORESOURCE_EXCLUSIVE
    try:
        with k.hw.locked("resource_lock"):
            res = request_region(k.iomem_resource, vm.addr, vm.region_size, vm.name, flags)
    except KernelError as error:
        dev_log(k, vm, "could not reserve device region", "warn")
        dev_log(k, vm, "reloading the driver is not supported")
        raise KernelError(EBUSY, error.reason, place=f"{PLACE}:virtio_mem_create_resource") from error
    res.flags &= ~IORESOURCE_BUSY
    return res


def virtio_mem_delete_resource(k: Kernel, vm: VirtioMem) -> None:
    """Let go of the region."""
    assert vm.parent_resource is not None
    with k.hw.locked("resource_lock"):
        release_resource(vm.parent_resource)
    vm.parent_resource = None


def virtio_mem_refresh_config(k: Kernel, vm: VirtioMem) -> None:
    """Read what may have changed."""
    config = Config.unpack(vm.device.read_config())
    if config.plugged_size != vm.plugged_size:
        warn(k, f"{PLACE}:virtio_mem_refresh_config", once=True)
        vm.plugged_size = config.plugged_size
    vm.usable_region_size = config.usable_region_size
    end = min(vm.addr + vm.usable_region_size, mhp_get_pluggable_range(k, need_mapping=True).end)
    if vm.in_sbm:
        vm.sbm.last_usable_mb_id = end // k.memory_block_size - 1
    else:
        vm.bbm.last_usable_bb_id = end // vm.bbm.bb_size - 1
    vm.requested_size = config.requested_size
    dev_log(k, vm, f"plugged size: {vm.plugged_size:#x}")
    dev_log(k, vm, f"requested size: {vm.requested_size:#x}")


def virtio_mem_run_wq(k: Kernel, vm: VirtioMem) -> None:
    """The work: plug or unplug until the requested size is reached, or until nothing more can be done for now.

    Raises :class:`KernelBug` when it would go round for ever, because the device denies what it asks for.
    """
    use_object(k.hw, vm.slab, here())
    vm.timer_serial += 1
    if vm.broken:
        return
    set_wq_active(k, vm, active=True)
    try:
        _end(k, vm, _run(k, vm))
    finally:
        set_wq_active(k, vm, active=False)


@kernel_function("kernel/workqueue.c:process_one_work")
def process_one_work(k: Kernel, vm: VirtioMem) -> None:
    """The work queue comes to the work; it is never done twice at the same time."""
    with work_taken_up(k, vm) as taken:
        if taken:
            virtio_mem_run_wq(k, vm)
        elif vm.work_pending:
            k.hw.arm(MS, vm.run_work)


def _run(k: Kernel, vm: VirtioMem) -> KernelError | None:
    """Rounds of the work until one does not call for another at once: what that came to."""
    idle = 0
    while True:
        plugged = vm.plugged_size
        try:
            _round(k, vm)
        except KernelError as error:
            if error.errno != EAGAIN:
                return error
            # An explorer sees that for itself, and whether somebody else has something to do yet.
            idle = idle + 1 if vm.plugged_size == plugged and not k.hw.is_watched else 0
            if idle == SPIN_LIMIT:
                text = f"the work of {vm.name} goes round for ever: {error.reason}"
                raise KernelBug(text, place=RUN_WQ) from error
        else:
            return None


def _round(k: Kernel, vm: VirtioMem) -> None:
    refused: KernelError | None = None
    if vm.unplug_all_required:
        try:
            virtio_mem_send_unplug_all_request(k, vm)
        except KernelError as error:
            refused = error
    if config_changed(k, vm):
        set_config_changed(k, vm, changed=False)
        virtio_mem_refresh_config(k, vm)
    if refused is not None:
        raise refused
    if vm.in_sbm:
        virtio_mem_sbm_cleanup_pending_mb(k, vm)
    else:
        virtio_mem_bbm_cleanup_pending_bb(k, vm)
    more = vm.requested_size - vm.plugged_size
    if more > 0:
        (virtio_mem_sbm_plug_request if vm.in_sbm else virtio_mem_bbm_plug_request)(k, vm, more)
    elif more < 0:
        (virtio_mem_sbm_unplug_request if vm.in_sbm else virtio_mem_bbm_unplug_request)(k, vm, -more)
    if vm.in_sbm and vm.sbm.have_unplugged_mb:
        raise KernelError(EBUSY, "a memory block without plugged sub-blocks cannot be removed yet", place=RUN_WQ)


def _end(k: Kernel, vm: VirtioMem, error: KernelError | None) -> None:
    """What follows from a run of the work: nothing, another one later, or no more ever."""
    vm.last_error = error
    if error is None:
        vm.retry_timer_ms = RETRY_TIMER_MIN_MS
    elif error.errno in (ETXTBSY, EBUSY, ENOMEM):
        vm.timer_serial += 1
        expired = partial(virtio_mem_timer_expired, k, vm, vm.timer_serial)
        k.hw.arm(vm.retry_timer_ms * MS, expired, again=repetition(k, vm, error))
    elif error.errno != ENOSPC:
        dev_log(k, vm, f"unknown error, marking device broken: {-error.errno}", "err")
        vm.broken = True


def virtio_mem_timer_expired(k: Kernel, vm: VirtioMem, serial: int) -> None:
    """The retry timer that was started with this number: try again, and wait twice as long the next time."""
    if serial == vm.timer_serial:
        virtio_mem_retry(k, vm)
        vm.retry_timer_ms = min(vm.retry_timer_ms * 2, RETRY_TIMER_MAX_MS)


def virtio_mem_remove(k: Kernel, vm: VirtioMem) -> None:
    """Unbind the driver. Memory that is still added stays, with the region claimed; partial offline blocks go.

    From then on nobody lets go of the unplugged part of blocks that are online: they cannot go offline any more. With
    ``virtio_mem_deinit_hotplug()``.
    """
    with k.hw.locked(vm.hotplug_mutex), k.hw.locked(vm.removal_lock):
        vm.removing = True
    cancel_work_sync(k, vm)
    vm.timer_serial += 1
    if vm.in_sbm:
        for mb_id in vm.sbm.blocks.each(MbState.OFFLINE_PARTIAL):
            virtio_mem_remove_memory(k, vm, mb_id * k.memory_block_size, k.memory_block_size)
            set_block_state(k, vm, mb_id, MbState.UNUSED)
    unregister_virtio_mem_device(k, vm)
    virtio_mem_pm_unregister(k, vm)
    unregister_memory_notifier(k, vm.notifier)
    start, end = vm.region.start, vm.region.end - 1
    with k.hw.locked("resource_lock", write=False):
        added = next(walk_iomem_res_desc(k.iomem_resource, IORES_DESC_NONE, BUSY_SYSTEM_RAM, start, end), None)
    if added is not None:
        dev_log(k, vm, "device still has system memory added", "warn")
    else:
        virtio_mem_delete_resource(k, vm)
        if vm.mgid is not None:
            memory_group_unregister(k, vm.mgid)
    vm.device.device_reset()
    kfree(k.hw, vm.slab, here())
