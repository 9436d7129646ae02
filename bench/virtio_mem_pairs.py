"""Pairs of paths that meet in the driver of a virtio-mem device, for bench/locks.py: what the races leave out.

The driver is bound or unbound while memory changes, resources are claimed or interrupts come; its work meets user space
in big blocks, in kernels that hold the mutex while they ask for a zone; it looks again at blocks that could not be
removed, fails, or needs another page for the states of its blocks.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from memhp.explore.case import Configuration, Variant
from memhp.explore.cases.actors import laws_hold, pfns
from memhp.explore.cases.online_vs_unplug import DEVICE_AT, user
from memhp.explore.doors.run import Actor, KernelProgram
from memhp.hw.devices.backing import MachineBacking
from memhp.hw.devices.virtio_mem import Geometry, VirtioMemDevice
from memhp.hw.memory import Owner, Use
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.drivers.base.notify import Chains
from memhp.linux.drivers.nvdimm.pmem import pmem_attach_disk, pmem_detach_disk
from memhp.linux.drivers.virtio.virtio_mem import process_one_work, virtio_mem_probe, virtio_mem_remove
from memhp.linux.drivers.virtio.virtio_mem_pm import virtio_mem_config_changed
from memhp.linux.drivers.virtio.virtio_mem_shared import virtio_mem_retry
from memhp.linux.drivers.virtio.virtio_mem_state import Params, VirtioMem
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.kernel.power.suspend import pm_suspend
from memhp.linux.mm.memory_hotplug_add import add_memory
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, KiB

LARGE = Configuration("arm64", 64 * KiB, 48, "linux-7.2")
"""A memory block has one pageblock there, or two where a kernel is built so."""
RISCV = Configuration("riscv64", 4 * KiB, 48, "linux-7.2")
LEAVES: dict[str, Any] = {"rodata_full": False}
"""Leaves larger than pages, so that executions are short."""
TWO_PAGEBLOCKS = {**LEAVES, "page_block_max_order": 12}
PMEM_AT, SECOND_AT, THIRD_AT, DIMM_AT = 256 * GiB, 512 * GiB, 768 * GiB, 1024 * GiB
"""Where a namespace is, other virtio-mem devices, and a DIMM."""


def bind(k: Kernel, at: int = SECOND_AT, name: str = "virtio2") -> None:
    """The driver takes another device, which has no memory plugged."""
    half = k.memory_block_size // 2
    geometry = Geometry(at, 4 * half, half, usable_extent=k.port.virtio_mem_extent)
    virtio_mem_probe(k, VirtioMemDevice(geometry, MachineBacking(k.hw, name)), name)


def bind_third(k: Kernel) -> None:
    """The driver takes yet another one."""
    bind(k, THIRD_AT, "virtio3")


@dataclass
class Bound:
    """What the actors know of: the device that the driver has from the beginning."""

    devices: list[VirtioMem] = field(default_factory=list)


def unbind(k: Kernel) -> None:
    """The driver lets go of the device."""
    virtio_mem_remove(k, k.statics(Bound).devices[0])


def interrupt(k: Kernel) -> None:
    """The device tells of another requested size."""
    virtio_mem_config_changed(k, k.statics(Bound).devices[0])


def sleep(k: Kernel) -> None:
    """The machine idles for a moment, its devices asleep."""
    pm_suspend(k, "freeze", lambda: None)


def pmem(k: Kernel) -> None:
    """A namespace is attached as device registers are, and detached."""
    span = Span(PMEM_AT, PMEM_AT + k.memory_block_size)
    pmem_detach_disk(k, span, pmem_attach_disk(k, "pmem0", span, 0, pagemap=False))


def online_dimm(k: Kernel) -> None:
    """User space sets the DIMM online, while the driver has another device as well."""
    state_store(k, DIMM_AT // k.memory_block_size, "online_movable")


def work(k: Kernel) -> None:
    """The work that an interrupt queued."""
    process_one_work(k, k.statics(Bound).devices[0])


ACTORS: dict[str, Actor] = {
    "bind": bind,
    "bind-third": bind_third,
    "sleep": sleep,
    "unbind": unbind,
    "interrupt": interrupt,
    "pmem": pmem,
    "online": user("online_movable"),
    "online-dimm": online_dimm,
    "offline": user("offline"),
    "work": work,
    "work-failing": work,
}


@dataclass(frozen=True)
class Device:
    """A device as two actors meet at it: its blocks, how many, how many are wanted, and whether the first is online."""

    plugged: int = 1
    wanted: int = 1
    online: bool = False
    big_blocks: bool = False
    stuck: bool = False
    """Whether the work has emptied its block, which did not go offline then."""
    configuration: Configuration = LARGE
    generic: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=lambda: TWO_PAGEBLOCKS)

    def __str__(self) -> str:
        """``2 memory blocks``."""
        mode = "big" if self.big_blocks else "stuck" if self.stuck else "memory"
        return f"{self.plugged} {mode} block{'s' * (self.plugged != 1)}"



NO_MEMORY = Device(plugged=0, wanted=0)
ASKS_UNDER_MUTEX = {"virtio_mem_zone_lock": "hotplug-mutex"}
"""As docs/findings.md would have it: no release takes the mutex there."""
COUNTS_UNDER_MUTEX = {"virtio_mem_count_lock": "hotplug-mutex"}
"""Likewise."""
MANY = 512
"""Blocks of 64 sub-blocks: their states fill a page."""
BIG = Device(wanted=0, online=True, big_blocks=True, generic=ASKS_UNDER_MUTEX, options=LEAVES)
PAIRS = (
    ("bind", "bind-third", NO_MEMORY),
    ("bind", "unbind", NO_MEMORY),
    ("sleep", "bind", NO_MEMORY),
    ("sleep", "unbind", NO_MEMORY),
    ("bind", "pmem", NO_MEMORY),
    ("unbind", "pmem", NO_MEMORY),
    ("bind", "online", Device()),
    ("unbind", "online", Device()),
    ("unbind", "online-dimm", NO_MEMORY),
    ("unbind", "offline", Device(online=True)),
    ("unbind", "interrupt", Device()),
    ("unbind", "work", Device(wanted=0)),
    ("work", "interrupt", Device(wanted=0)),
    ("work", "online", Device(plugged=2, wanted=0)),
    ("offline", "work", BIG),
    ("offline", "work-failing", BIG),
    ("work", "offline", Device(wanted=0, online=True, stuck=True)),
    (
        *("work", "offline"),
        Device(MANY, MANY + 1, online=True, configuration=RISCV, generic=COUNTS_UNDER_MUTEX, options={}),
    ),
)


def virtio_mem_pairs() -> Iterator[tuple[str, Callable[[], KernelProgram]]]:
    """What makes the program of each pair."""
    for one, other, device in PAIRS:
        yield f"virtio-mem, {device}: {one} | {other}", partial(_program, one, other, device)


def _program(one: str, other: str, device: Device) -> KernelProgram:
    variant = Variant("", "", "repaired", (device.configuration,), generic=device.generic, options=device.options)
    config = variant.config(device.configuration)
    k = start_kernel(MachineSpec("explored", config, (Ram(config.port.ram_start, 4 * GiB),)))
    k.hw.plug(pfns(k, Span(PMEM_AT, PMEM_AT + k.memory_block_size)), Owner(Use.DEVICE, "nvdimm"))
    if "online-dimm" in {one, other}:
        k.hw.plug(pfns(k, Span(DIMM_AT, DIMM_AT + k.memory_block_size)), Owner(Use.DEVICE, "dimm"))
        add_memory(k, 0, DIMM_AT, k.memory_block_size)
        bind(k)
    vm = _attach(k, device)
    k.statics(Bound).devices.append(vm)
    k.auto_online_blocks = "online_movable" if device.online else "offline"
    vm.device.resize(device.plugged * k.memory_block_size)
    k.hw.advance(0)
    k.auto_online_blocks = "offline"
    if device.wanted != device.plugged:
        vm.device.resize(device.wanted * k.memory_block_size)
    if device.stuck:
        chain = k.statics(Chains).memory
        chain.append(_not_offline)
        k.hw.advance(0)
        chain.remove(_not_offline)
        virtio_mem_retry(k, vm)
    failures = frozenset(number for number, name in enumerate((one, other)) if name.endswith("-failing"))
    return KernelProgram(k, (ACTORS[one], ACTORS[other]), (one, other), failures, check=laws_hold)


def _attach(k: Kernel, device: Device) -> VirtioMem:
    """A device, with sub-blocks of half a block, or as small as can be where it has many."""
    unit = k.memory_block_size // 2 if device.plugged < MANY else k.config.virtio_mem_sub_block
    room = (max(device.plugged, device.wanted) + 1) * k.memory_block_size
    geometry = Geometry(DEVICE_AT, room, unit, usable_extent=k.port.virtio_mem_extent)
    params = Params(force_bbm=device.big_blocks)
    return virtio_mem_probe(k, VirtioMemDevice(geometry, MachineBacking(k.hw, "vm0")), "virtio1", params)


def _not_offline(k: Kernel, action: str, start_pfn: int, nr_pages: int) -> str:
    """Somebody who wants to keep memory online."""
    return "not now" if action == "MEM_GOING_OFFLINE" else ""
