"""What a hot-add costs before it pays: free memory needed, the largest step that is safe, an ordered plan of steps.

All of it is found by rehearsing: each question is put to a copy of the machine, which is then thrown away.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import NamedTuple

import msgspec

from memhp.errors import BadInput, KernelBug, KernelError
from memhp.hw.memory import Owner, Use
from memhp.linux.amount import check_plugged
from memhp.linux.mm import users
from memhp.linux.mm.memory_hotplug_memmap import mhp_supports_memmap_on_memory
from memhp.linux.mm.memory_hotplug_pages import mhp_get_pluggable_range, mhp_range_allowed
from memhp.linux.mm.page_alloc import alloc_pages
from memhp.linux.state import Kernel
from memhp.scenario import schema
from memhp.target.model.session import NoRoom, Room, Session, devices_size
from memhp.target.model.steps import free_range, online, plug
from memhp.units import align_down, align_up, exact_size, format_size, is_aligned

HELD = users.USER_USES - {Use.BOOT}
"""Uses of memory that somebody who allocated it can end."""

LENT_SHARE = 32
"""Lent memory is this part of what is to be added: struct pages take a 64th, base-page tables a 512th."""


class PlanStep(msgspec.Struct, frozen=True, kw_only=True):
    """One step that succeeds. Sizes are bytes."""

    at: int
    size: int
    zone: str
    """How it goes online next: ``kernel``, ``movable`` or ``auto``."""
    takes: int
    """Free memory that adding it takes."""
    leaves: int
    """Free memory that is left before it is online."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How `total` bytes can be added. Sizes are bytes."""

    total: int
    driver: str
    needed: int | None
    """Free memory that adding it all in one step takes; None where that cannot be found out."""
    usable: int
    """Free memory that the kernel could take for itself now: what watermarks and ZONE_MOVABLE leave it."""
    reserve: int
    """Free memory that a safe step leaves: the high watermarks, below which reclaim starts."""
    largest: int
    """The largest step that is safe now."""
    refusal: str
    """What happens to a step one memory block larger than that; empty where all can be added in one."""
    steps: list[PlanStep]
    reached: int
    """Bytes that the steps add: `total`, unless nothing more is safe after them."""
    short: str
    """Why not even one memory block more is safe after them; empty where they reach `total`."""
    self_hosted: bool | None
    """Whether one step would do with struct pages in the memory itself; None where driver or kernel cannot do that."""
    rests_on: list[str] = []
    """What is assumed of a machine that was read, and the plan could be another without."""


class Trial(NamedTuple):
    """One step tried on a copy of the machine. Sizes are bytes."""

    refusal: str
    """Why it is not safe; empty if it is."""
    at: int
    takes: int
    leaves: int
    after: Session
    """The copy, with the memory online if the step is safe and that was asked for."""


class Wish(NamedTuple):
    """Memory to be added: who adds it, to which node, and how it goes online."""

    driver: schema.DriverName = "dimm"
    node: int = 0
    zone: schema.Zone = "kernel"
    memmap_on_memory: bool | None = None
    """Whether the driver asks for struct pages in the memory itself; by default as that driver does."""

    def step(self, size: int, *, at: int | None = None) -> schema.Plug:
        """The step that plugs so many bytes and leaves them offline."""
        return schema.Plug(size=size, at=at, node=self.node, driver=self.driver, memmap_on_memory=self.memmap_on_memory)


ZONES: dict[str, schema.Zone] = {"online": "auto", "online_kernel": "kernel", "online_movable": "movable"}
"""How blocks go online by what ``auto_online_blocks`` says."""


def default_zone(k: Kernel) -> schema.Zone:
    """How new blocks go online if nobody says: as ``auto_online_blocks`` has it, or in a kernel zone."""
    return ZONES.get(k.auto_online_blocks, "kernel")


def free_bytes(k: Kernel) -> int:
    """Free memory of all zones."""
    return sum(zone.free.size for zone in k.zones()) * k.config.page_size


def reserve(k: Kernel) -> int:
    """Bytes below which reclaim starts: the high watermarks of the zones that have memory."""
    return sum(zone.watermark_high for zone in k.zones() if zone.managed) * k.config.page_size


def usable(k: Kernel, nid: int = 0) -> int:
    """Bytes that the kernel could take now for struct pages of a node, in base pages: taken from a copy, until none."""
    copy = deepcopy(k)
    owner = Owner(Use.KERNEL, "all there is")
    taken = alloc_pages(copy, 0, nid, count=copy.hw.memory.used(Use.FREE), owner=owner, where=__name__)
    return sum(span.size for span in taken) * k.config.page_size


def needed(session: Session, size: int, wish: Wish) -> int | None:
    """Bytes of free memory that adding `size` bytes in one step takes before they are online.

    Found on a copy without limits of its platform, to which free memory was lent, far away from where the step adds
    its own. Memory that is free in small pieces only costs more: struct pages in base pages need tables besides. None
    where no copy gets that far.
    """
    copy = _offline_copy(session)
    copy.room = Room()
    k = copy.k
    at = free_range(copy, size, wish.driver)
    try:
        _lend(copy, at, size, wish.node)
        before = free_bytes(k)
        plug(copy, wish.step(size, at=at))
    except (KernelError, KernelBug, BadInput):
        return None
    return before - free_bytes(k)


def _lend(session: Session, at: int, size: int, nid: int) -> None:
    """Give a copy the memory that a step needs, above that step's own: one block, whose memory pays for the rest.

    What users hold goes first, so that even a machine with nothing left can add that block.
    """
    k = session.k
    for tag in {owner.tag for *_, owner in k.hw.memory.owners if owner.tag and owner.use in HELD}:
        users.free(k, tag)
    block = k.memory_block_size
    lent = align_up(size // LENT_SHARE, block) + block
    far = align_up(at + size, 1 << k.config.shift(3))
    start = far if mhp_range_allowed(k, far, lent, need_mapping=True) else align_up(at + size, block)
    nodes = k.node_states.normal_memory
    lender = Wish(node=nid if nid in nodes or not nodes else min(nodes), memmap_on_memory=False)
    for part, length in ((start, block), (start + block, lent - block)):
        plug(session, lender.step(length, at=part))
        online(session, schema.Online(zone="kernel", at=part, size=length))


def _offline_copy(session: Session) -> Session:
    """A copy of the machine that leaves new memory offline."""
    copy = deepcopy(session)
    copy.k.hw.written = None
    copy.k.auto_online_blocks = "offline"
    return copy


def trial(session: Session, size: int, wish: Wish, *, bring_online: bool = True) -> Trial:
    """Plug `size` bytes into a copy of the machine, look what is free, bring them online.

    It is safe if both succeed and the free memory stays above the high watermarks in between.
    """
    if session.tried is not None:
        session.tried(size)
    copy = _offline_copy(session)
    k = copy.k
    before = free_bytes(k)
    at, leaves, refusal = 0, before, ""
    try:
        plug(copy, wish.step(size))
        at, leaves = copy.plugged[-1].start, free_bytes(k)
        if leaves < reserve(k):
            refusal = f"leaves {format_size(leaves)} free, less than the high watermarks, {format_size(reserve(k))}"
        elif bring_online:
            online(copy, schema.Online(zone=wish.zone, at=at, size=size))
    except NoRoom as error:
        refusal = error.message
    except KernelError as error:
        refusal = f"{error.name}: {error.reason}"
    except KernelBug as error:
        refusal = error.reason
    k.auto_online_blocks = session.k.auto_online_blocks
    return Trial(refusal, at, before - leaves, leaves, copy)


def largest_safe_step(session: Session, limit: int, wish: Wish) -> int:
    """The largest step of up to `limit` bytes that is safe, 0 if none is.

    A step one memory block larger was tried too, and is not safe, unless the limit is.
    """
    block = session.k.memory_block_size

    def safe(blocks: int) -> bool:
        return not trial(session, blocks * block, wish, bring_online=False).refusal

    most = limit // block
    if safe(most):
        return limit
    one = trial(session, block, wish)
    if most == 1 or one.refusal:
        return 0
    spare = free_bytes(session.k) - reserve(session.k)
    return _last(safe, spare // max(one.takes, 1), most) * block


def _last(safe: Callable[[int], bool], guess: int, refused: int) -> int:
    """The last number below `refused` that is safe, of numbers from 1 on of which the lower ones are; near `guess`."""
    low, high, stride = 1, refused, 1
    while low < guess < high:
        if safe(guess):
            low, guess = guess, guess + stride
        else:
            high, guess = guess, guess - stride
        stride *= 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if safe(middle) else (low, middle)
    return low


def plan(
    session: Session, total: int, wish: Wish | None = None, *, progress: Callable[[int], None] | None = None
) -> Plan:
    """How to add `total` bytes: the largest safe step first, then the largest that its memory makes safe, and so on.

    The machine itself stays as it is. Blocks go online as `wish` says, by default by :func:`default_zone`; but the
    first ones in a kernel zone, from which later struct pages can come, if not all can go to ZONE_MOVABLE. `progress`
    is called before each step that is tried, with its size. Raises :class:`BadInput` for a size that is not made of
    memory blocks, and for more than the machine can have at all.
    """
    session = replace(session, tried=progress)
    k = session.k
    if wish is None:
        wish = Wish(zone=default_zone(k))
    block = k.memory_block_size
    if not total or not is_aligned(total, block):
        text = f"{exact_size(total)} is not made of whole memory blocks of {format_size(block)}"
        raise BadInput(text, where="--plan", fix="round it up")
    most, why = room_left(session, wish)
    if total > most:
        raise BadInput(
            f"{exact_size(total)} is more than can be added: {why}",
            where="--plan",
            fix=f"{exact_size(most)} at most" if most else "nothing can be added",
        )
    check_plugged(k.config, block, total, "--plan")
    largest = largest_safe_step(session, total, wish)
    refusal = trial(session, largest + block, wish).refusal if largest < total else ""
    steps, short = _greedy(session, total, wish, largest)
    if wish.zone == "movable" and short and (other := _kernel_first(session, total, wish)):
        steps, short = other, ""
    return Plan(
        total=total,
        driver=wish.driver,
        needed=needed(session, total, wish),
        usable=usable(k, wish.node),
        reserve=reserve(k),
        largest=largest,
        refusal=refusal,
        steps=steps,
        reached=sum(step.size for step in steps),
        short=short,
        self_hosted=_self_hosted(session, total, wish),
    )


def room_left(session: Session, wish: Wish) -> tuple[int, str]:
    """How many bytes there are physical addresses for, whatever they cost, in whole memory blocks; and what ends them:
    the kernel (``mhp_get_pluggable_range()``), firmware, or what the platform has for memory devices.
    """
    k, room = session.k, session.room
    block = k.memory_block_size
    start = min(free_range(session, block, driver) for driver in {wish.driver, "kmem"})
    end = mhp_get_pluggable_range(k, need_mapping=True).end
    left, why = end - start, f"the kernel maps physical addresses up to {end - 1:#x}"
    if room.end is not None and room.end < end:
        left, why = room.end - start, f"the machine's memory ends at {room.end:#x} (max_memory)"
    if room.device_memory is not None and room.device_memory - devices_size(session) < left:
        left = room.device_memory - devices_size(session)
        why = f"the machine has {format_size(room.device_memory)} for memory devices"
    return max(align_down(left, block), 0), why


def _greedy(session: Session, total: int, wish: Wish, size: int) -> tuple[list[PlanStep], str]:
    """The largest safe step, which is of `size` bytes, and again, until all is there or nothing more is safe; and why
    that is so.
    """
    steps: list[PlanStep] = []
    while total:
        went = trial(session, size or session.k.memory_block_size, wish)
        if went.refusal:
            return steps, went.refusal
        steps.append(_plan_step(size, wish, went))
        session, total = went.after, total - size
        size = largest_safe_step(session, total, wish) if total else 0
    return steps, ""


def _plan_step(size: int, wish: Wish, went: Trial) -> PlanStep:
    return PlanStep(at=went.at, size=size, zone=wish.zone, takes=went.takes, leaves=went.leaves)


def _kernel_first(session: Session, total: int, wish: Wish) -> list[PlanStep]:
    """A first step in a kernel zone, as small as lets the rest follow in one; nothing where no such step is safe.

    Memory in ZONE_MOVABLE holds no struct pages, so that enough of it cannot be added with such memory alone.
    """
    block = session.k.memory_block_size
    kernel = wish._replace(zone="kernel")
    found: dict[int, list[PlanStep]] = {}

    def too_small(blocks: int) -> bool:
        size = blocks * block
        first = trial(session, size, kernel)
        rest = first if first.refusal else trial(first.after, total - size, wish, bring_online=False)
        if not rest.refusal:
            found[blocks] = [_plan_step(size, kernel, first), _plan_step(total - size, wish, rest)]
        return bool(rest.refusal)

    most = min(total - block, largest_safe_step(session, total, kernel)) // block
    if most < 1 or too_small(most):
        return []
    return found[_last(too_small, 1, most) + 1 if too_small(1) else 1]


def _self_hosted(session: Session, total: int, wish: Wish) -> bool | None:
    """Whether all of it can be added in one step on a copy that was booted with ``memmap_on_memory=Y``."""
    if wish.driver == "virtio_mem" or session.k.config.memmap_on_memory_rules == "none":
        return None
    copy = _offline_copy(session)
    copy.k.config = replace(copy.k.config, memmap_on_memory="Y")
    if not mhp_supports_memmap_on_memory(copy.k, total):
        return None
    try:
        plug(copy, wish._replace(memmap_on_memory=True).step(total))
    except (KernelError, KernelBug, NoRoom):
        return False
    return free_bytes(copy.k) >= reserve(copy.k)


def advice(session: Session, size: int, wish: Wish) -> str:
    """What to do instead of a step that ran out of memory; empty if it was not memory that it failed for."""
    bill = needed(session, size, wish)
    if bill is None or bill <= usable(session.k, wish.node):
        return ""
    made = plan(session, size, wish)
    parts = [f"it takes {format_size(bill)} of free memory, and {format_size(made.usable)} can be had"]
    if made.largest:
        parts.append(f"the largest safe step now is {exact_size(made.largest)}")
    if made.reached == made.total:
        sizes = ", then ".join(exact_size(step.size) for step in made.steps)
        parts.append(f"plug {sizes}, each online before the next, the first in a kernel zone")
    if made.self_hosted:
        parts.append("with memory_hotplug.memmap_on_memory=Y one step will do")
    return "; ".join(parts)
