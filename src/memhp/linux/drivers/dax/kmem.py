"""A device's memory as ordinary RAM: ``drivers/dax/kmem.c``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from errno import EBUSY, EINVAL

from memhp.errors import KernelBug, KernelError
from memhp.linux.drivers.base.memory_groups import memory_group_register_static, memory_group_unregister
from memhp.linux.drivers.dax.bus import DevDax, KmemData
from memhp.linux.kernel.resource import IORESOURCE_SYSTEM_RAM, Resource, remove_resource, request_region
from memhp.linux.mm.memory_hotplug_add import MHP_MEMMAP_ON_MEMORY, MHP_NID_IS_MGID, MHP_NONE, add_memory_driver_managed
from memhp.linux.mm.memory_hotplug_remove import remove_memory
from memhp.linux.place import here, of_file
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import align_down, align_up

KERNEL_FILE = "drivers/dax/kmem.c"
KMEM_NAME = "System RAM (kmem)"


def dax_kmem_range(k: Kernel, span: Span) -> Span | None:
    """What of a range (bytes) is whole memory blocks; None when nothing is."""
    size = k.memory_block_size
    start, end = align_up(span.start, size), align_down(span.end, size)
    return Span(start, end) if start < end else None


def dev_dax_kmem_probe(k: Kernel, dev: DevDax) -> None:
    """Add the whole memory blocks in the device's ranges as RAM of its node.

    Raises EINVAL without a node or a whole block, EBUSY when the first range is taken, else what adding it raises. Once
    memory of one range is in, others that fail are left out.
    """
    if dev.target_node < 0:
        raise _rejected(k, dev, f"rejecting DAX region with invalid node: {dev.target_node}")
    total = 0
    for i, span in enumerate(dev.ranges):
        aligned = dax_kmem_range(k, span)
        if aligned is None:
            k.hw.log(f"kmem {dev.name}: {mapping(i, span)} too small after alignment")
        else:
            total += aligned.size
    if not total:
        raise _rejected(k, dev, "rejecting DAX region without any memory after alignment")
    lost = sum(span.size for span in dev.ranges) - total
    if lost and k.config.profile.kmem_tells_truncation:
        k.hw.log(f"kmem {dev.name}: DAX region truncated by {string_get_size(lost)} due to alignment", "warn")
    mgid = None
    if k.config.profile.auto_movable:
        unit = k.config.page_size if k.config.profile.kmem_group_size == "pages" else 1
        mgid = memory_group_register_static(k, dev.target_node, -(-total // unit))
    data = KmemData(mgid, [None] * len(dev.ranges))
    try:
        _add_ranges(k, dev, data)
    except KernelError:
        if mgid is not None:
            memory_group_unregister(k, mgid)
        raise
    dev.kmem = data


def _rejected(k: Kernel, dev: DevDax, text: str) -> KernelError:
    k.hw.log(f"kmem {dev.name}: {text}", "warn")
    return KernelError(EINVAL, text, place=here(), advice=f"memory blocks are {k.memory_block_size:#x} bytes")


def _add_ranges(k: Kernel, dev: DevDax, data: KmemData) -> None:
    mapped = 0
    for i, each in enumerate(dev.ranges):
        span = dax_kmem_range(k, each)
        if span is None:
            continue
        try:
            data.res[i] = _add_range(k, dev, data, i, span)
            mapped += 1
        except KernelError:
            if not mapped:
                raise


def _add_range(k: Kernel, dev: DevDax, data: KmemData, i: int, span: Span) -> Resource:
    """Add one range below a resource of the device's name that is not busy, so that memory may be added in it."""
    try:
        with k.hw.locked("resource_lock"):
            res = request_region(k.iomem_resource, span.start, span.size, dev.name)
    except KernelError as error:
        k.hw.log(f"kmem {dev.name}: {mapping(i, span)} could not reserve region", "warn")
        raise KernelError(EBUSY, error.reason, place=here(), advice=error.advice) from error
    res.flags = IORESOURCE_SYSTEM_RAM
    flags = MHP_NONE if data.mgid is None else MHP_NID_IS_MGID
    if dev.memmap_on_memory and k.config.profile.memmap_on_memory == "many-blocks":
        flags |= MHP_MEMMAP_ON_MEMORY
    nid = dev.target_node if data.mgid is None else data.mgid
    try:
        add_memory_driver_managed(k, nid, span.start, span.size, KMEM_NAME, flags)
    except KernelError:
        k.hw.log(f"kmem {dev.name}: {mapping(i, span)} memory add failed", "warn")
        if k.config.profile.kmem_failed_add == "released":
            _remove(k, res)
        raise
    return res


def dev_dax_kmem_remove(k: Kernel, dev: DevDax) -> list[Span]:
    """The driver is unbound, which cannot fail: the ranges (bytes) whose memory stays until the next boot.

    Memory whose blocks are not all offline is such. The memory group stays as well if any range has to, also for one
    that was too small to be added. :class:`KernelBug` where a kernel removes what it never added.
    """
    data = dev.kmem
    assert data is not None
    kept = []
    success = 0
    for i, each in enumerate(dev.ranges):
        span = dax_kmem_range(k, each)
        if span is None:
            continue
        if i >= len(data.res):
            # ``mapping_store()`` asks for no driver that has the device.
            raise KernelBug(f"out of bounds: mapping{i} came when the driver had the device", place=here())
        res = data.res[i]
        if res is None and k.config.profile.kmem_absent_ranges == "passed-over":
            success += 1
            continue
        try:
            remove_memory(k, span.start, span.size)
        except KernelError:
            k.hw.log(f"kmem {dev.name}: {mapping(i, span)} cannot be hotremoved until the next reboot", "err")
            kept.append(span)
            continue
        if res is None:
            raise KernelBug("NULL pointer dereference: the resource of a range that was never added", place=here())
        _remove(k, res)
        data.res[i] = None
        success += 1
    if success == len(dev.ranges):
        if data.mgid is not None:
            memory_group_unregister(k, data.mgid)
        dev.kmem = None
    return kept


def _remove(k: Kernel, res: Resource) -> None:
    with k.hw.locked("resource_lock"):
        remove_resource(res)


def mapping(i: int, span: Span) -> str:
    """A range as the driver's messages name it."""
    return f"mapping{i}: {span.start:#x}-{span.end - 1:#x}"


@of_file("lib/string_helpers.c")
def string_get_size(size: int) -> str:
    """Bytes in words, to three digits: lib/string_helpers.c with ``STRING_UNITS_2``."""
    rest, unit = 0, 0
    while size >= 1024:
        size, rest = divmod(size, 1024)
        unit += 1
    digits = 2 if size < 10 else 1 if size < 100 else 0
    rest = (rest * 1000 >> 10) + (500, 50, 5)[digits]
    if rest >= 1000:
        size, rest = size + 1, rest - 1000
    fraction = f".{rest:03}"[: digits + 1] if digits else ""
    return f"{size}{fraction} {('B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB')[unit]}"
