"""Pairs of paths that meet in drivers of memory, for bench/locks.py: what the races leave out.

Hyper-V's host backs memory while a block that it backed before goes online; its driver and Xen's both want to decide
which pages go online. Two devices offer memory to the DAX bus, and the size of a device's pages is written. A device
has private memory, where a process has a page; another page of the process is in RAM.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Iterator
from functools import partial

from memhp.explore.case import Configuration, Variant
from memhp.explore.cases.actors import laws_hold, pfns, refused
from memhp.explore.cases.near_dimm import boot_near, near_dimm
from memhp.explore.doors.run import KernelProgram
from memhp.hw.memory import Owner, Use
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.drivers.base.power.sysfs import control_store
from memhp.linux.drivers.dax.bus import (
    DaxBus,
    DevDax,
    align_store,
    alloc_dax_region,
    dax_region_unregister,
    devm_create_dev_dax,
    memmap_on_memory_store,
    unregister_dev_dax,
)
from memhp.linux.drivers.hv.hv_balloon import balloon_probe, hot_add_req
from memhp.linux.drivers.xen.balloon import balloon_init
from memhp.linux.drivers.xen.unpopulated_alloc import fill_list, xen_alloc_unpopulated_pages
from memhp.linux.lib.test_hmm import (
    DmirrorDevices,
    dmirror_allocate_chunk,
    dmirror_device_evict_chunk,
    dmirror_device_remove_chunks,
    dmirror_migrate_to_device,
)
from memhp.linux.mm.memory_hotplug_add import add_memory
from memhp.linux.mm.migrate_device import do_anonymous_page, do_swap_page, hmm_range_fault, pin_user_pages
from memhp.linux.mm.mm_types import Mm, Rmap
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import KiB

LARGE = Configuration("arm64", 64 * KiB, 48, "linux-7.2")
"""A memory block has one pageblock there."""
EARLIER = Configuration("arm64", 64 * KiB, 48, "linux-6.1")
XEN = Configuration("x86_64", 4 * KiB, 48, "linux-7.2")
"""Where room for pages without memory is looked for anywhere."""
GPU = "gpu"
AWAY, HERE, NONE = range(3)
"""A process's virtual pages: one is on the device, one in RAM, one it has not touched yet."""


def _machine(configuration: Configuration, dimms: int = 2) -> tuple[Kernel, list[Span]]:
    """A machine, and memory blocks behind its RAM that the kernel does not know, bytes."""
    variant = Variant("as it is", "", "repaired", (configuration,), options={"rodata_full": False})
    k = boot_near(variant.config(configuration), tag="near")
    first, size = near_dimm(k), k.memory_block_size
    blocks = [Span(first.start + number * size, first.end + number * size) for number in range(dimms)]
    for block in blocks[1:]:
        k.hw.plug(pfns(k, block), Owner(Use.DEVICE, "next"))
    return k, blocks


# Hyper-V's dynamic memory -----------------------------------------------------------------------------------------


def _hv(other: str, goes: str, configuration: Configuration) -> KernelProgram:
    """A block that the host has backed, in part or whole, goes online, or offline, while the host backs more."""
    k, (first, second) = _machine(configuration)
    one, two = pfns(k, first), pfns(k, second)
    half = one.start + one.size // 2
    more = {"rest of it": Span(half, one.end), "end of it": Span(half + 1, one.end)}.get(other, two)
    balloon_probe(k)
    region = Span(one.start, two.end) if other in {"next in the region", "next, which is there"} else None
    hot_add_req(k, Span(one.start, half) if more is not two else one, region)
    if other == "next, which is there":
        add_memory(k, 0, second.start, second.size)

    def backed(k: Kernel) -> int:
        count, _ = hot_add_req(k, more, None)
        return count

    def writes(k: Kernel, text: str) -> None:
        state_store(k, first.start // k.memory_block_size, text)

    if goes == "offline":
        writes(k, "online_movable")
    changes = refused(partial(writes, text="online_movable" if goes == "online" else "offline"))
    return KernelProgram(k, (backed, changes), ("host", goes), check=laws_hold)


HV = ("next", "next in the region", "next, which is there", "rest of it", "end of it")
"""What the host backs while the block goes online."""


def _two_probes(configuration: Configuration) -> KernelProgram:
    k, _ = _machine(configuration)
    return KernelProgram(k, (balloon_probe, refused(balloon_init)), ("hv", "xen"), check=laws_hold)


def _two_unpopulated(configuration: Configuration) -> KernelProgram:
    k, _ = _machine(configuration)
    fill_list(k, 8)

    def take(k: Kernel) -> str:
        return str(xen_alloc_unpopulated_pages(k, 1))

    return KernelProgram(k, (take, take), ("one", "other"), check=laws_hold)


def _two_controls(configuration: Configuration) -> KernelProgram:
    """Two write to the file ``power/control`` of one device."""
    k, _ = _machine(configuration)
    actors = (lambda k: control_store(k, "memory0", "on"), lambda k: control_store(k, "memory0", "auto"))
    return KernelProgram(k, actors, ("on", "auto"), check=laws_hold)


# The DAX bus ------------------------------------------------------------------------------------------------------


def _dax(one: str, other: str, configuration: Configuration) -> KernelProgram:
    """A device is on the bus, in the region of the first block; others may come."""
    k, (first, second) = _machine(configuration)
    devm_create_dev_dax(k, DevDax("dax0.0", (first,), k.config.pmd_size))

    def dev(k: Kernel) -> DevDax:
        return k.statics(DaxBus).devices["dax0.0"]

    def create(k: Kernel) -> None:
        devm_create_dev_dax(k, DevDax("dax0.1", (second,), k.config.pmd_size))

    def come_and_go(k: Kernel) -> None:
        alloc_dax_region(k, "hmem.1", second)
        dax_region_unregister(k, "hmem.1")

    actors: dict[str, Callable[[Kernel], object]] = {
        "region": lambda k: alloc_dax_region(k, "hmem.0", first),
        "region that overlaps": lambda k: alloc_dax_region(k, "hmem.1", Span(first.start, second.end)),
        "region there and gone": come_and_go,
        "create": create,
        "delete": lambda k: unregister_dev_dax(k, "dax0.1"),
        "base pages": lambda k: align_store(k, dev(k), k.config.page_size, driver=False),
        "large pages": lambda k: align_store(k, dev(k), k.config.pmd_size, driver=False),
        "no memmap": lambda k: memmap_on_memory_store(k, dev(k), False, kmem=False),
    }
    both = (refused(actors[one]), refused(actors[other]))
    return KernelProgram(k, both, (one, other if other != one else f"{other} too"), check=laws_hold)


DAX = (
    ("region", "region that overlaps"), ("region", "region there and gone"), ("create", "delete"),
    ("base pages", "large pages"), ("no memmap", "no memmap"), ("no memmap", "base pages"),
)  # fmt: skip


# Private memory of a device ------------------------------------------------------------------------------------------


def _process(k: Kernel) -> Mm:
    return k.statics(Rmap).mms[0]


def _move(k: Kernel) -> int:
    return dmirror_migrate_to_device(k, GPU, _process(k), [HERE])


def _move_and_touch(k: Kernel) -> tuple[int, int]:
    """The process touches the page again, so that it does not stay on the device."""
    return _move(k), do_swap_page(k, _process(k), HERE)


def _evict(k: Kernel) -> None:
    dmirror_device_evict_chunk(k, k.statics(DmirrorDevices).by_name[GPU].chunks[0])


def _hmm(one: str, other: str, configuration: Configuration) -> KernelProgram:
    """A device with one page of a process's in its memory, of which the process has another in RAM."""
    k, (first,) = _machine(configuration, 1)
    dmirror_allocate_chunk(k, GPU)
    mm = Mm()
    for address in (AWAY, HERE):
        do_anonymous_page(k, mm, address)
    dmirror_migrate_to_device(k, GPU, mm, [AWAY])
    device = k.statics(DmirrorDevices).by_name[GPU]
    if "full" in other:
        device.free.remove(*next(iter(device.free)))
    actors: dict[str, Callable[[Kernel], object]] = {
        "fault": lambda k: do_swap_page(k, _process(k), AWAY),
        "pin": lambda k: pin_user_pages(k, _process(k), AWAY),
        "pin there": lambda k: pin_user_pages(k, _process(k), HERE),
        "other device": lambda k: hmm_range_fault(k, _process(k), AWAY, "another", fault=True),
        "move": _move,
        "move, full": _move,
        "there and back": _move_and_touch,
        "touch": lambda k: do_anonymous_page(k, _process(k), NONE),
        "evict": _evict,
        "remove": lambda k: dmirror_device_remove_chunks(k, GPU),
        "load": lambda k: dmirror_allocate_chunk(k, "another"),
        "add": lambda k: add_memory(k, 0, first.start, first.size),
    }
    both = (refused(actors[one]), refused(actors[other]))
    return KernelProgram(k, both, (one, other if other != one else f"{other} too"), check=laws_hold)


HMM = (
    ("fault", "fault"), ("pin", "fault"), ("pin there", "move"), ("other device", "fault"), ("fault", "move"),
    ("fault", "move, full"), ("move", "move"), ("touch", "touch"), ("evict", "fault"), ("remove", "there and back"),
    ("load", "add"), ("remove", "add"),
)  # fmt: skip


def driver_pairs(configuration: Configuration = LARGE) -> Iterator[tuple[str, Callable[[], KernelProgram]]]:
    """What makes the program of each pair."""
    for other in HV:
        yield f"hv: {other} | online", partial(_hv, other, "online", configuration)
    yield "hv: next in the region | offline", partial(_hv, "next in the region", "offline", configuration)
    yield "hv: bind | xen: bind", partial(_two_probes, configuration)
    yield "power: on | auto", partial(_two_controls, configuration)
    yield "xen: unpopulated | unpopulated", partial(_two_unpopulated, XEN)
    for one, other in DAX:
        yield f"dax: {one} | {other}", partial(_dax, one, other, configuration)
        if "no memmap" not in (one, other):
            yield f"dax, 6.1: {one} | {other}", partial(_dax, one, other, EARLIER)
    for one, other in HMM:
        yield f"private memory: {one} | {other}", partial(_hmm, one, other, configuration)
