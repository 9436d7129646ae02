"""User space sets a memory block of a virtio-mem device online or offline while the driver's work resizes the device.

The driver's notifier holds its hotplug mutex from the first word of a change to the last; its work takes it around what
it does to blocks that are added, and lets go of it to add or remove memory. The device answers the first request as the
variant says, and the others as it should. In the end the driver tries again until the device has its size; whatever
came before, no memory may be lost, and no block online that the device took back.

Offlining takes the zone's lock once for each pageblock, and so does the work when it takes blocks back: where a memory
block has 64 pageblocks, as with pages of 4 KiB, the orders are beyond counting. So an online block is taken back with
pages of 64 KiB only: a memory block has one pageblock then (big-block mode), or two in a kernel built so (sub-block
mode).
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from itertools import groupby, product
from typing import Any

from memhp.errors import KernelBug, KernelError
from memhp.explore.case import Case, Configuration, Variant, configurations
from memhp.explore.cases.actors import LawsHoldSince
from memhp.explore.doors.run import KernelProgram
from memhp.hw.devices.backing import MachineBacking
from memhp.hw.devices.virtio_mem import Geometry, VirtioMemDevice
from memhp.hw.devices.virtio_mem_rules import Rule
from memhp.hw.devices.virtio_mem_wire import RequestType, ResponseType
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.drivers.virtio.virtio_mem import process_one_work, virtio_mem_probe
from memhp.linux.drivers.virtio.virtio_mem_fake_offline import OnlinePages
from memhp.linux.drivers.virtio.virtio_mem_state import Params, VirtioMem
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.profiles import MAINLINE
from memhp.linux.state import Kernel
from memhp.units import GiB, KiB

DEVICE_AT = 8 * GiB
BLOCKS = 2
"""Memory blocks of the device that any meeting adds."""
LONG = 4000 * 1_000_000_000
"""Nanoseconds in which the retry timer expires again and again."""
ANSWERS = (ResponseType.ACK, ResponseType.NACK, ResponseType.BUSY, ResponseType.ERROR)


@dataclass(frozen=True)
class Meeting:
    """What user space writes to the block's state, and the sizes that the device goes to, in halves of a block."""

    about: str
    writes: tuple[str, ...]
    online: bool
    """Whether the block is online when they meet."""
    before: int
    after: int
    request: RequestType
    """The first request of the work."""


MEETINGS = {
    "shrink-offline": Meeting(
        "an offline block is taken back while user space sets it online",
        *(("online_movable",), False, 2, 0, RequestType.UNPLUG),
    ),
    "shrink-online": Meeting(
        "an online block is taken back while user space sets it offline and online again",
        *(("offline", "online_movable"), True, 2, 0, RequestType.UNPLUG),
    ),
    "fill-offline": Meeting(
        "half an offline block is filled up while user space sets it online",
        *(("online_movable",), False, 1, 2, RequestType.PLUG),
    ),
    "fill-online": Meeting(
        "half an online block is filled up while user space sets it offline",
        *(("offline",), True, 1, 2, RequestType.PLUG),
    ),
    "grow": Meeting(
        "a second block is added while user space sets the first one offline",
        *(("offline",), True, 2, 4, RequestType.PLUG),
    ),
    "grow-online": Meeting(
        "a second block is added while user space sets the first one online",
        *(("online_movable",), False, 2, 4, RequestType.PLUG),
    ),
}
SMALL_ONLY = frozenset({"fill-offline", "fill-online", "grow-online"})
"""What concerns sub-block mode alone: halves of blocks, and counters that notifiers change."""
COUNTED = frozenset({"grow", "grow-online"})
"""Both change counters of blocks, in sub-block mode, and the work does so without the mutex."""


@dataclass(frozen=True)
class Mode:
    """A mode of the driver and where it is explored."""

    text: str
    big_blocks: bool
    configurations: tuple[Configuration, ...]
    meetings: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)


SMALL_PAGES = tuple(
    next(iter(of_arch))
    for release in MAINLINE
    for _, of_arch in groupby(configurations(release, page_size=4 * KiB), key=lambda one: one.arch)
)
LARGE_PAGES = tuple(configurations(release, "arm64", page_size=64 * KiB)[0] for release in MAINLINE)
FINDING = "virtio-mem asks for the zone of a page that may be going offline"
"""The heading in docs/findings.md."""
COUNTERS = "virtio-mem counts blocks that it adds without the mutex over the counters"
"""Another one."""
NOT_WITH_SMALL_PAGES = "shrink-online"
"""Both take the zone's lock for each pageblock."""
FEW_WITH_SMALL_PAGES = "fill-online"
"""One takes it for each pageblock, and looks there at page flags, which the other changes before it takes it: hundreds
of orders. None of that code is an architecture's, so they are looked at on the newest release for one of them."""

MODES = {
    "sub-block": Mode("sub-blocks", False, LARGE_PAGES[-1:], tuple(MEETINGS), options={"page_block_max_order": 12}),
    "sub-block-4K": Mode(
        "sub-blocks, many pageblocks",
        False,
        SMALL_PAGES,
        tuple(name for name in MEETINGS if name != NOT_WITH_SMALL_PAGES),
    ),
    "big-block": Mode("big blocks", True, LARGE_PAGES, tuple(name for name in MEETINGS if name not in SMALL_ONLY)),
    "big-block-4K": Mode(
        "big blocks, many pageblocks",
        True,
        SMALL_PAGES,
        tuple(name for name in MEETINGS if name not in {*SMALL_ONLY, NOT_WITH_SMALL_PAGES}),
    ),
}


def the_device(k: Kernel) -> VirtioMem:
    """The driver's state."""
    return k.statics(OnlinePages).virtio_mem_devices[0]


def attach(k: Kernel, *, big_blocks: bool) -> VirtioMem:
    """A device of eight memory blocks. Sub-blocks are as large as can be: half a memory block."""
    half = k.memory_block_size // 2
    geometry = Geometry(DEVICE_AT, 16 * half, half, usable_extent=k.port.virtio_mem_extent)
    device = VirtioMemDevice(geometry, MachineBacking(k.hw, "vm0"))
    return virtio_mem_probe(k, device, "virtio1", Params(force_bbm=big_blocks))


def user(*texts: str, block: int = 0) -> Callable[[Kernel], Hashable]:
    """User space writes one state after the other to one of the device's blocks, whatever becomes of them."""

    def actor(k: Kernel) -> Hashable:
        said = []
        for text in texts:
            try:
                state_store(k, DEVICE_AT // k.memory_block_size + block, text)
            except KernelError as error:
                said.append(error.name)
            else:
                said.append("ok")
        return tuple(said)

    return actor


def work(k: Kernel) -> Hashable:
    """The work that the device's interrupt queued."""
    process_one_work(k, the_device(k))
    return None


class NothingIsLost:
    """Driver and device agree, the laws hold, and the device gets its size in the end, unless it broke the driver.

    User space sets then online what is left offline.
    """

    def __init__(self, k: Kernel) -> None:
        self._laws = LawsHoldSince(k)

    def __call__(self, k: Kernel) -> str | None:
        """What is wrong, or None."""
        return self._wrong(k) or self._never_settles(k)

    def _wrong(self, k: Kernel) -> str | None:
        vm = the_device(k)
        if vm.plugged_size != vm.device.plugged_size:
            return f"lost-block: {vm.plugged_size:#x} bytes plugged, says the driver; {vm.device.plugged_size:#x}"
        return self._laws(k)

    def _never_settles(self, k: Kernel) -> str | None:
        vm = the_device(k)
        try:
            k.hw.advance(LONG)
            for number in range(BLOCKS):
                user("online_movable", block=number)(k)
        except KernelBug as error:
            return f"BUG: {error.reason}"
        if not vm.broken and vm.plugged_size != vm.device.requested_size:
            return (
                f"lost-request: {vm.plugged_size:#x} bytes are plugged for good, {vm.device.requested_size:#x} wanted"
            )
        return self._wrong(k)


def build(variant: Variant, configuration: Configuration) -> KernelProgram:
    """User space and the driver's work, with the device's answer to the first request as the variant has it."""
    mode, meeting, answer = COMBINATIONS[variant.name]
    config = variant.config(configuration)
    k = start_kernel(MachineSpec("explored", config, (Ram(config.port.ram_start, GiB),)))
    check = NothingIsLost(k)
    half = k.memory_block_size // 2
    vm = attach(k, big_blocks=mode.big_blocks)
    vm.device.resize(meeting.before * half)
    k.hw.advance(0)
    if meeting.online:
        state_store(k, DEVICE_AT // k.memory_block_size, "online_movable")
        k.hw.advance(0)
    vm.device.rules.append(Rule(frozenset({meeting.request}), count=1, answer=answer))
    vm.device.resize(meeting.after * half)
    return KernelProgram(k, (user(*meeting.writes), work), ("user space", "virtio-mem work"), check=check)


COMBINATIONS = {
    f"{place}-{name}-{answer.name}": (mode, MEETINGS[name], None if answer is ResponseType.ACK else answer)
    for place, mode in MODES.items()
    for name, answer in product(mode.meetings, ANSWERS)
    if name != "grow-online" or answer is ResponseType.ACK
}
"""The mode, the meeting and the device's first answer of each variant."""
MUTEX = "-locked"
COMBINATIONS |= {f"sub-block-{name}-ACK{MUTEX}": COMBINATIONS[f"sub-block-{name}-ACK"] for name in sorted(COUNTED)}


def _variant(name: str, mode: Mode, meeting: Meeting, answer: ResponseType | None) -> Variant:
    about = f"{mode.text}: {meeting.about}; the device first says {'ACK' if answer is None else answer.name}"
    options = {"rodata_full": False, **mode.options}
    where = mode.configurations
    if where is SMALL_PAGES and meeting is MEETINGS[FEW_WITH_SMALL_PAGES]:
        where = tuple(one for one in where if one.release == MAINLINE[-1] and one.arch == "x86_64")
    if name.endswith(MUTEX):
        lock = {"virtio_mem_count_lock": "hotplug-mutex"}
        about = f"{about}; the work counts under the mutex"
        return Variant(name, about, "repaired", where, generic=lock, options=options)
    counted = not mode.big_blocks and meeting in [MEETINGS[each] for each in COUNTED]
    if counted and answer in (None, ResponseType.NACK):  # what is denied is tried again at once
        return Variant(name, about, "broken", where, options=options, finding=COUNTERS)
    finding = FINDING if name.startswith("big-block-shrink-online") else ""
    return Variant(name, about, "repaired", where, options=options, finding=finding)


CASE = Case(
    name="online-vs-unplug",
    actors="user space sets a memory block online or offline; the work of the virtio-mem driver; the device answers",
    build=build,
    geometry="sub-blocks are half a memory block",
    variants=tuple(_variant(name, *combination) for name, combination in COMBINATIONS.items()),
)
