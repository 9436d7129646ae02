"""What the virtio-mem driver knows: ``struct virtio_mem`` of drivers/virtio/virtio_mem.c.

In sub-block mode a memory block is made of two or more sub-blocks, each plugged or not; memory is added to Linux by
memory blocks. In big-block mode a big block is made of one or more memory blocks, and comes and goes whole.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from memhp.errors import KernelError
from memhp.hw.devices.virtio_mem import VirtioMemDevice
from memhp.hw.devices.virtio_mem_wire import Feature
from memhp.hw.ledger import Ledger
from memhp.hw.lifetime import SlabObject
from memhp.hw.memory import Owner, Use
from memhp.hw.shared import marked
from memhp.linux.drivers.base.notify import MemoryNotifier
from memhp.linux.kernel.power.main import PmNotifier
from memhp.linux.kernel.resource import Resource
from memhp.linux.place import kernel_function
from memhp.linux.state import Kernel
from memhp.spans import Span, SpanMap, SpanSet
from memhp.units import GiB

KERNEL_FILE = "drivers/virtio/virtio_mem.c"
PLACE = "drivers/virtio/virtio_mem.c"
RESOURCE_NAME = "System RAM (virtio_mem)"
DEFAULT_OFFLINE_THRESHOLD = GiB
"""``VIRTIO_MEM_DEFAULT_OFFLINE_THRESHOLD``: bytes that may be added and not yet online."""
RETRY_TIMER_MIN_MS = 50_000
RETRY_TIMER_MAX_MS = 300_000


class MbState(IntEnum):
    """State of a memory block in sub-block mode: ``enum virtio_mem_sbm_mb_state``.

    The neighbour below a partial one is the same, fully plugged.
    """

    UNUSED = 0
    """Not plugged, not added."""
    PLUGGED = 1
    """Plugged, at least partly, but not added: that failed."""
    OFFLINE = 2
    OFFLINE_PARTIAL = 3
    KERNEL = 4
    """Online in a kernel zone."""
    KERNEL_PARTIAL = 5
    MOVABLE = 6
    MOVABLE_PARTIAL = 7


class BbState(IntEnum):
    """State of a big block: ``enum virtio_mem_bbm_bb_state``."""

    UNUSED = 0
    PLUGGED = 1
    """Plugged, but not added: that failed, or could not be undone."""
    ADDED = 2
    FAKE_OFFLINE = 3
    """All that is online of it is the driver's, ready to be removed."""


@dataclass
class StateTable:
    """A state for each block from `first_id` on: ``mb_states`` or ``bb_states``, with its counters.

    The kernel has a byte for each block, and looks for blocks in a state through all of them; that work goes on where
    notifiers change the bytes of others, under a lock that it does not hold. Here each state has its blocks, so that
    such a look has to do with those alone that are in the state, or come to it or leave it meanwhile.
    """

    first_id: int
    next_id: int = field(init=False)
    """The id of the next block to prepare."""
    blocks: dict[int, SpanSet] = field(default_factory=lambda: {state: SpanSet() for state in MbState})
    """By state: the ids of the blocks that are in it."""
    counts: dict[int, int] = field(default_factory=lambda: dict.fromkeys(MbState, 0))
    """By state: ``mb_count`` or ``bb_count``, plain numbers."""

    def __post_init__(self) -> None:
        self.next_id = self.first_id

    @property
    def ids(self) -> range:
        """The blocks that are tracked."""
        return range(self.first_id, self.next_id)

    @kernel_function(None)
    def get(self, block_id: int) -> int:
        """The state of a block."""
        return next(state for state, blocks in self.blocks.items() if block_id in blocks)

    @kernel_function(None)
    def move(self, block_id: int, state: int) -> int:
        """Change the state of a block, and count nothing: the one that it was in."""
        before = self.get(block_id)
        self.blocks[before].remove(block_id, block_id + 1)
        self.blocks[state].add(block_id, block_id + 1)
        return before

    def set(self, block_id: int, state: int) -> None:
        """Change the state of a block, and count anew."""
        self.counts[self.move(block_id, state)] -= 1
        self.counts[state] += 1

    def prepare_next(self) -> int:
        """Track one block more, unused: its id."""
        block_id = self.next_id
        self.blocks[0].add(block_id, block_id + 1)
        self.next_id += 1
        self.counts[0] += 1
        return block_id

    @kernel_function(None)
    def each(self, state: int) -> Iterator[int]:
        """The ids of the blocks in a state, ascending, as long as any are counted; states may change on the way."""
        at = self.first_id
        while (found := self.blocks[state].first_fit(1, at, self.next_id)) is not None and self.counts[state]:
            yield found.start
            at = found.start + 1

    @kernel_function(None)
    def each_rev(self, *states: int) -> Iterator[int]:
        """The same, descending: blocks in any of several states."""
        end = self.next_id
        while (last := self._last(states, end)) is not None and any(self.counts[state] for state in states):
            yield last
            end = last

    def _last(self, states: tuple[int, ...], end: int) -> int | None:
        """The last block before `end` that is in any of these states."""
        runs = [run for state in states for run in self.blocks[state].runs(self.first_id, end)]
        return max((run.end - 1 for run in runs), default=None)


@dataclass
class SubBlockMode:
    """``vm->sbm``. Sub-blocks are numbered through physical memory: number N starts at ``N * sb_size``."""

    blocks: StateTable
    sb_size: int
    """Bytes."""
    sbs_per_mb: int
    last_usable_mb_id: int = 0
    plugged: SpanSet = field(default_factory=SpanSet)
    """Numbers of the plugged sub-blocks: ``sb_states``."""
    have_unplugged_mb: bool = False
    """Whether memory blocks without a plugged sub-block are still to be removed."""

    def sub_blocks(self, mb_id: int) -> Span:
        """The sub-blocks of a memory block."""
        return Span(mb_id * self.sbs_per_mb, (mb_id + 1) * self.sbs_per_mb)

    def move_sb_states(self) -> None:
        """They are in another array from now on."""
        self.plugged = self.plugged.copy()

    def all_plugged(self, mb_id: int) -> bool:
        """Whether every sub-block of a memory block is plugged."""
        return self.plugged.covers(*self.sub_blocks(mb_id))

    def all_unplugged(self, mb_id: int) -> bool:
        """Whether no sub-block of a memory block is plugged."""
        return not self.plugged.covered(*self.sub_blocks(mb_id))


@dataclass
class BigBlockMode:
    """``vm->bbm``."""

    blocks: StateTable
    bb_size: int
    """Bytes."""
    last_usable_bb_id: int = 0


@dataclass(frozen=True)
class Params:
    """The parameters of the module."""

    unplug_online: bool = True
    """Whether memory that is online may be unplugged."""
    force_bbm: bool = False
    bbm_block_size: int = 0
    """Bytes of a big block; 0 for as small as can be."""


def _nothing() -> None:
    """The work of a device that is not probed yet."""


def _deaf(k: Kernel, action: str, start_pfn: int, nr_pages: int) -> str:
    """The notifier of a device that is not probed yet."""
    return ""


class Outcome(NamedTuple):
    """What a run of the work came to, and all that it could have changed."""

    error: str
    said: tuple[str, ...]
    """Lines of the kernel log since the run before."""
    exchanged: tuple[str, ...]
    """Requests and answers since then."""
    ledger: Ledger
    owners: SpanMap[Owner]


@dataclass
class LastRun:
    """The run before, as a device remembers it."""

    at: int = 0
    """Machine time in nanoseconds at which it ended."""
    lines: int = 0
    requests: int = 0
    """How long the kernel's log and the device's were then."""
    matched: tuple[int, ...] = ()
    """By rule of the device: how many requests it had matched by then."""
    outcome: Outcome | None = None


@dataclass
class VirtioMem:
    """``struct virtio_mem``: one device as its driver sees it. Sizes are bytes."""

    name: str
    """``dev_name()``: ``virtio1``."""
    device: VirtioMemDevice
    params: Params
    features: Feature
    """Those negotiated."""
    nid: int
    addr: int
    region_size: int
    device_block_size: int
    plugged_size: int
    usable_region_size: int
    requested_size: int = 0
    mode: SubBlockMode | BigBlockMode | None = None
    """Set when the device was initialised for hotplug."""
    offline_size: int = field(default=0, metadata=marked(lambda vm: f"{vm.name}.offline_size"))
    """Added and not online."""
    offline_threshold: int = DEFAULT_OFFLINE_THRESHOLD
    parent_resource: Resource | None = None
    mgid: int | None = None
    """The memory group; None in kernels without."""
    unplug_all_required: bool = False
    config_changed: bool = field(default=False, metadata=marked(lambda vm: f"{vm.name}.config_changed"))
    hotplug_active: bool = False
    """Whether memory of the device is about to go online or offline."""
    broken: bool = False
    last_error: KernelError | None = None
    """What the last run of the work ended in."""
    wq_active: bool = field(default=False, metadata=marked(lambda vm: f"{vm.name}.wq_active"))
    work_pending: bool = field(default=False, metadata=marked(lambda vm: f"{vm.name}.work"))
    work_runs: bool = field(default=False, metadata=marked(lambda vm: f"{vm.name}.current_work"))
    """Whether the work queue is at the work: ``current_work`` of a worker."""
    removing: bool = False
    retry_timer_ms: int = RETRY_TIMER_MIN_MS
    timer_serial: int = 0
    """Timers armed with a lower number were cancelled."""
    last_run: LastRun = field(default_factory=LastRun)
    """What the run of the work before came to."""
    run_work: Callable[[], None] = _nothing
    """What the queued work does."""
    notifier: MemoryNotifier = _deaf
    """``memory_notifier``."""
    pm_notifier: PmNotifier | None = None
    """``pm_notifier``; None in kernels without."""
    never_onlined: SpanSet = field(default_factory=SpanSet)
    """PFNs kept from the buddy since their block went online, not taken from it: ``PageDirty``."""
    slab: SlabObject = field(default_factory=lambda: SlabObject("virtio_mem"), repr=False)
    """The structure itself."""

    @property
    def sbm(self) -> SubBlockMode:
        """The state of sub-block mode, in which the device must be."""
        assert isinstance(self.mode, SubBlockMode)
        return self.mode

    @property
    def bbm(self) -> BigBlockMode:
        """The state of big-block mode, in which the device must be."""
        assert isinstance(self.mode, BigBlockMode)
        return self.mode

    @property
    def in_sbm(self) -> bool:
        """Whether the driver is in sub-block mode."""
        return isinstance(self.mode, SubBlockMode)

    @property
    def region(self) -> Span:
        """The addresses that the device manages."""
        return Span(self.addr, self.addr + self.region_size)

    @property
    def hotplug_mutex(self) -> str:
        """The name of the lock over block states."""
        return f"{self.name}.hotplug_mutex"

    @property
    def removal_lock(self) -> str:
        """The name of the lock over `removing`."""
        return f"{self.name}.removal_lock"

    @property
    def owner(self) -> Owner:
        """Whose pages are that the driver keeps from the buddy."""
        return Owner(Use.OFFLINE, self.name)


@kernel_function(None)
def dev_log(k: Kernel, vm: VirtioMem, text: str, level: str = "info") -> None:
    """A line of the kernel log: ``dev_info()``, ``dev_warn()``, ``dev_dbg()`` ..."""
    k.hw.log(f"virtio_mem {vm.name}: {text}", level)


@contextmanager
@kernel_function(None)
def mutex_dropped(k: Kernel, vm: VirtioMem) -> Iterator[None]:
    """Let the hotplug mutex go for the length of a ``with`` block."""
    k.hw.unlock(vm.hotplug_mutex)
    try:
        yield
    finally:
        k.hw.lock(vm.hotplug_mutex)


def pfns(k: Kernel, addr: int, size: int) -> Span:
    """Bytes as PFNs."""
    return Span(addr >> k.config.page_shift, (addr + size) >> k.config.page_shift)
