"""A guest and its virtio-mem device through anything: sizes, users of memory, blocks set by hand, a moody device.

Whatever happens, plugged size is what the bitmap holds, driver and device agree, no page is in use or free where the
device took memory back, all laws hold, and once all have let go the device gets its size, unless the answer ERROR made
the driver give it up.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kernels import kernel
from memhp.check import Snapshot, check_all, snapshot
from memhp.errors import KernelError
from memhp.hw.devices.virtio_mem_rules import Rule
from memhp.hw.devices.virtio_mem_wire import RequestType, ResponseType
from memhp.linux.config import OnlineType
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.drivers.virtio.virtio_mem_state import Params, VirtioMem
from memhp.linux.kernel.power.suspend import pm_suspend
from memhp.linux.mm import users
from memhp.linux.mm.users import Kind
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, KiB, MiB
from virtio_mem import AT, SECOND, attach

BLOCK = 128 * MiB
SIZES = st.integers(0, 6 * 64).map(lambda count: count * 2 * MiB)
ONLINE: list[OnlineType] = ["offline", "online", "online_kernel", "online_movable"]
KINDS: list[Kind] = ["kernel", "movable", "pinned"]


class Life(RuleBasedStateMachine):
    """One guest."""

    k: Kernel
    vm: VirtioMem
    before: Snapshot

    @initialize(auto_online=st.sampled_from(ONLINE), big=st.booleans())
    def start(self, auto_online: OnlineType, big: bool) -> None:
        """Boot with a device."""
        self.k = kernel("x86_64")
        self.k.auto_online_blocks = auto_online
        self.before = snapshot(self.k)
        self.vm = attach(self.k, params=Params(force_bbm=big))
        self.tags: list[str] = []

    @rule(size=SIZES, wait=st.sampled_from([0, 1, 60]))
    def resize(self, size: int, wait: int) -> None:
        """The host wants another size."""
        self.vm.device.resize(size)
        self.k.hw.advance(wait * SECOND)

    @rule(
        kind=st.sampled_from([RequestType.PLUG, RequestType.UNPLUG]),
        ahead=st.integers(1, 3),
        answer=st.sampled_from([None, *([ResponseType.BUSY, ResponseType.NACK] * 4), ResponseType.ERROR]),
        size=st.one_of(st.none(), SIZES),
        delay=st.sampled_from([0, SECOND]),
    )
    def mood(self, kind: RequestType, ahead: int, answer: ResponseType | None, size: int | None, delay: int) -> None:
        """One of the next requests meets a moody device; it may even deny to unplug, which no device should."""
        mood = Rule(frozenset({kind}), first=ahead, count=1, answer=answer, delay=delay, requested_after=size)
        self.vm.device.rules.append(mood)

    @rule(kind=st.sampled_from(KINDS), pages=st.integers(1, 4000), place=st.integers(0, 6 * 64), exact=st.booleans())
    def use(self, kind: Kind, pages: int, place: int, exact: bool) -> None:
        """Somebody uses memory, anywhere or right there."""
        tag = f"user {len(self.tags)}"
        at = AT + place * 2 * MiB if exact else None
        if at is not None and not self._all_free(Span(at >> 12, (at >> 12) + pages), kind):
            return
        try:
            users.allocate(self.k, pages * 4 * KiB, kind, tag, at=at)
        except KernelError:
            return
        self.tags.append(tag)

    def _all_free(self, span: Span, kind: Kind) -> bool:
        movable = {ref.type.title for _, _, ref in self.k.page_zone.runs(*span)} != {"Normal"}
        return any(zone.free.covers(*span) for zone in self.k.zones()) and not (kind == "kernel" and movable)

    @precondition(lambda self: self.tags)
    @rule(place=st.integers(0, 99))
    def let_go(self, place: int) -> None:
        """A user lets go."""
        tag = self.tags[place % len(self.tags)]
        if users.spans_of(self.k, tag):
            users.free(self.k, tag)

    @rule(place=st.integers(0, 7), text=st.sampled_from(ONLINE))
    def set_state(self, place: int, text: OnlineType) -> None:
        """The user writes to a block's state."""
        if self.k.memory_blocks.get(AT // BLOCK + place) is not None:
            try:
                state_store(self.k, AT // BLOCK + place, text)
            except KernelError:
                return

    @rule(size=SIZES)
    def sleep(self, size: int) -> None:
        """The machine idles, and wakes up to another size."""
        pm_suspend(self.k, "freeze", lambda: self.vm.device.resize(size))
        self.k.hw.advance(0)

    @rule(seconds=st.integers(0, 400))
    def wait(self, seconds: int) -> None:
        """Time passes."""
        self.k.hw.advance(seconds * SECOND)

    @invariant()
    def all_laws_hold(self) -> None:
        """No frame lost, none in two hands, no block online over memory that is not there."""
        assert check_all(self.k, self.before) == []
        assert self.k.hw.violations == []

    @invariant()
    def books_agree(self) -> None:
        """Driver, device and machine know the same memory."""
        device, vm = self.vm.device, self.vm
        assert vm.plugged_size == device.plugged_size == sum(span.size for span in device.plugged)
        frames = [Span(lo, hi) for lo, hi, _ in self.k.hw.memory.owners.runs(AT >> 12, (AT + 2 * GiB) >> 12)]
        assert sum(span.size for span in frames) << 12 == device.plugged_size
        if vm.in_sbm:
            assert list(device.plugged) == [span.scaled(21) for span in vm.sbm.plugged]
        assert not vm.broken or ResponseType.ERROR in {each.response.type for each in device.log}

    @invariant()
    def no_lock_is_left(self) -> None:
        """Whoever took the mutex has let it go."""
        assert not self.k.hw.holds(self.vm.hotplug_mutex)

    def teardown(self) -> None:
        """Everybody lets go: the device gets all its memory back."""
        if not hasattr(self, "vm"):
            return
        self.vm.device.rules.clear()
        for tag in self.tags:
            if users.spans_of(self.k, tag):
                users.free(self.k, tag)
        self.vm.device.resize(0)
        self.k.hw.advance(700 * SECOND)
        assert self.vm.device.plugged_size == 0 or self.vm.broken
        assert check_all(self.k, self.before) == []


Life.TestCase.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)
TestLife = Life.TestCase
