"""Memory blocks as somebody finds them by number and goes on using them: ``drivers/base/memory.c``.

Most blocks are only ever runs of ``Kernel.memory_blocks``; one that was looked up here has a device of its own.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from contextlib import nullcontext
from dataclasses import dataclass, field

from memhp.hw.lifetime import SlabObject, use_object
from memhp.hw.marked_map import MarkedMap
from memhp.hw.shared import EVERYTHING, marked
from memhp.linux.drivers.base.core import Device, device_unregister, get_device, put_device
from memhp.linux.drivers.base.power.sysfs import dpm_sysfs_remove
from memhp.linux.fs.kernfs.dir import KernfsNodes, kernfs_drain
from memhp.linux.place import here, kernel_function, of_file
from memhp.linux.state import Kernel

KERNEL_FILE = "drivers/base/memory.c"
MEMORY_BLOCKS = "memory_blocks"
"""The xarray by which lookups and removals meet."""
NUM_POISONED_PAGES, NR_HWPOISON = "num_poisoned_pages", "nr_hwpoison"
"""The counters of :class:`Poisoned`, by which changes and looks meet; those of all blocks as one."""
RELEASE = f"{KERNEL_FILE}:memory_block_release"


@dataclass
class BlockDevices:
    """Memory blocks that are more than a run of blocks."""

    by_id: MarkedMap[Device] = field(default_factory=lambda: MarkedMap(lambda _: MEMORY_BLOCKS, EVERYTHING))
    """Block id → the device of a block that somebody has looked up on its own: what the xarray leads to."""


@dataclass
class Poisoned:
    """How many pages memory errors have taken: atomic counters."""

    num_poisoned_pages: int = field(default=0, metadata=marked(NUM_POISONED_PAGES))
    """All that are known; ``HardwareCorrupted`` of /proc/meminfo in pages. mm/memory-failure.c."""
    nr_hwpoison: dict[int, int] = field(default_factory=dict, metadata=marked(NR_HWPOISON))
    """Block id → those of a block, for as long as its device is there, online or not."""
    gone: set[Device] = field(default_factory=set, metadata=marked(NR_HWPOISON))
    """Devices whose count went with them."""


def find_memory_block_by_id(k: Kernel, block_id: int) -> Device | None:
    """The device of a block (7.2: ``memory_block_get()``), with a reference where ``Profile.block_reference`` says so.

    Between finding it and taking the reference nothing keeps it but ``device_hotplug_lock``, if the caller has that.
    """
    if not k.memory_blocks.finds(block_id):
        return None
    devices = k.statics(BlockDevices).by_id
    dev = devices.get(block_id)
    if dev is None:
        dev = Device(SlabObject(f"memory{block_id}"), RELEASE)
        devices.note(block_id, dev)
    if k.config.profile.block_reference == "held":
        get_device(k.hw, dev)
    return dev


@of_file("include/linux/memory.h")
def memory_block_put(k: Kernel, dev: Device) -> None:
    """Give back what :func:`find_memory_block_by_id` gave."""
    if k.config.profile.block_reference == "held":
        put_device(k.hw, dev)


@kernel_function(f"{KERNEL_FILE}:remove_memory_block")
def unregister_memory_blocks(k: Kernel, start_block: int, end_block: int) -> None:
    """Blocks that are not in the xarray any more lose the reference of their registration: remove_memory_block()."""
    devices = k.statics(BlockDevices).by_id.take(start_block, end_block)
    k.hw.writes(NR_HWPOISON)
    poisoned = k.statics(Poisoned)
    for block_id in [block_id for block_id in poisoned.nr_hwpoison if start_block <= block_id < end_block]:
        del poisoned.nr_hwpoison[block_id]
    poisoned.gone.update(devices)
    files = k.statics(KernfsNodes).state
    for file in filter(None, map(files.get, range(start_block, end_block) if files else ())):
        kernfs_drain(k.hw, file)
    for dev in devices:
        device_unregister(k.hw, dev)
    dpm_sysfs_remove(k, start_block, end_block)


def memblk_nr_poison_inc(k: Kernel, pfn: int) -> bool:
    """Count a poisoned page for its block, if that is there; what calls it, memory_failure(), holds no hotplug lock.

    Kernels without a count of their own for each block have the page's flag, and look for no block.
    """
    block_id = k.block_id(pfn)
    if k.config.profile.online_hwpoison == "allowed":
        _count_poison(k, block_id)
        return True
    with k.hw.locked("device_hotplug_lock") if k.config.profile.poison_lookup != "unlocked" else nullcontext():
        return _count_for_block(k, block_id)


@kernel_function(f"{KERNEL_FILE}:memblk_nr_poison_inc")
def _count_for_block(k: Kernel, block_id: int) -> bool:
    dev = find_memory_block_by_id(k, block_id)
    if dev is None:
        return False
    use_object(k.hw, dev.slab, here(), change=True)
    _count_poison(k, block_id, dev)
    if k.config.profile.poison_reference == "put":
        memory_block_put(k, dev)
    return True


def _count_poison(k: Kernel, block_id: int, dev: Device | None = None) -> None:
    """One more, unless the block that `dev` was is gone: the count was within it."""
    k.hw.atomic(NR_HWPOISON)
    poisoned = k.statics(Poisoned)
    if dev is None or dev not in poisoned.gone:
        counts = poisoned.nr_hwpoison
        counts[block_id] = counts.get(block_id, 0) + 1


def memblk_nr_poison(k: Kernel, start_block: int, end_block: int) -> int:
    """Pages of blocks that a memory error took, whoever has them since."""
    k.hw.reads(NR_HWPOISON)
    counts = k.statics(Poisoned).nr_hwpoison
    return sum(nr for block_id, nr in counts.items() if start_block <= block_id < end_block)


def forget_poison(k: Kernel, block_id: int) -> None:
    """Kernels without a count of their own for each block lose the flags as they initialise its struct pages anew."""
    k.hw.writes(NR_HWPOISON)
    k.statics(Poisoned).nr_hwpoison.pop(block_id, None)


@of_file("mm/memory-failure.c")
def num_poisoned_pages_inc(k: Kernel, pfn: int) -> None:
    """One page more has been taken."""
    k.hw.atomic(NUM_POISONED_PAGES)
    k.statics(Poisoned).num_poisoned_pages += 1
    memblk_nr_poison_inc(k, pfn)


@of_file("mm/memory-failure.c")
def num_poisoned_pages_sub(k: Kernel, nr: int) -> None:
    """Poisoned pages go with their memory block: ``num_poisoned_pages_sub(-1UL, nr)``; its own count goes with it."""
    k.hw.atomic(NUM_POISONED_PAGES)
    k.statics(Poisoned).num_poisoned_pages -= nr
