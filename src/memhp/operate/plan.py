"""Plans for a host: which memory blocks to bring online or to take offline, in order, as rehearsed on that machine.

A plan names the machine that it is for by what that shows: kernel, boot, and every block's state and zone. What is
carried out by :mod:`memhp.operate.apply` is that plan and nothing else.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import hashlib
from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

import msgspec

from memhp.errors import BadInput
from memhp.facts import memory_blocks
from memhp.facts.memory_blocks import MemoryBlock
from memhp.facts.observed import BLOCK_SIZE, Facts
from memhp.facts.source import OSRELEASE, Source
from memhp.facts.usage import usage
from memhp.json_text import json_decoded, json_encoded
from memhp.operate.block_selection import blocks_about
from memhp.operate.kernel_memory import pins_held
from memhp.operate.rehearsal import session_of
from memhp.operate.why import OF_PAGES, Obstacle, Seen, by_counters, seen_of, told
from memhp.scenario import schema
from memhp.target.model.plan import free_bytes
from memhp.target.model.run import outcome_of
from memhp.target.model.session import Session
from memhp.units import align_up, exact_size, format_size, is_aligned

Write = Literal["offline", "online", "online_kernel", "online_movable"]
"""What is written to a block's ``state``."""
Zone = Literal["auto", "kernel", "movable"]
ONLINE: dict[Zone, Write] = {"auto": "online", "kernel": "online_kernel", "movable": "online_movable"}
BOOT_ID = "/proc/sys/kernel/random/boot_id"
MOVE_SECONDS = 2e-6
"""Assumed for each page in use: to unmap, copy and map it again. Plans say that it is assumed."""


class BlockState(msgspec.Struct, frozen=True, array_like=True):
    """A block with what a machine shows of it: its zone is "" while it is offline or in several."""

    block: int
    state: str
    zone: str


class MachineState(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan is for: it holds for no other kernel, boot or state of blocks."""

    kernel: str | None
    boot: str | None
    block_size: int
    blocks: list[BlockState]


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One write to one block, and what the rehearsal says will come of it. Sizes are bytes."""

    block: int
    write: Write
    before: BlockState
    after: BlockState
    moves: int | None
    """Memory in use that has to move elsewhere; None where nothing shows it."""
    seconds: float | None
    """How long that takes, at an assumed rate; None where it is not known how much."""
    free: int
    """Free memory that the machine gains (or loses, below zero)."""
    risk: Literal["low", "some"]
    because: str


class HostPlan(msgspec.Struct, frozen=True, kw_only=True):
    """``memhp plan --json``, and the file that ``memhp apply`` takes. Sizes are bytes."""

    schema: Literal[1] = 1
    verdict: Literal["reached", "short"]
    goal: str
    source: str
    id: str
    """Of goal, machine and steps: two plans that differ in anything have different ones."""
    machine: MachineState
    wanted: int
    reached: int
    steps: list[Step]
    passed_over: list[str]
    """Blocks that would not go, and why."""
    assumed: list[str]
    short: str = ""
    """Why there are no more steps, where the goal is not reached."""


class Goal(NamedTuple):
    """What is wanted: so many bytes of these blocks, best first, each written these texts in turn."""

    text: str
    size: int
    blocks: list[MemoryBlock]
    writes: tuple[Write, ...]


def machine_state(source: Source, facts: Facts | None = None) -> MachineState:
    """What a machine shows now; `facts` has the blocks of one that shows none."""
    memory = memory_blocks.read(source) if facts is None or source.get(BLOCK_SIZE) is not None else facts.memory
    boot, release = source.get(BOOT_ID), source.get(OSRELEASE)
    return MachineState(
        kernel=release.strip() if release else None,
        boot=boot.strip() if boot else None,
        block_size=memory.block_size,
        blocks=[state_of(block) for block in memory.blocks],
    )


def state_of(block: MemoryBlock) -> BlockState:
    """A block's state and zone."""
    return BlockState(block.index, block.state, block.zone or "")


def grow(facts: Facts, size: int, zone: Zone) -> Goal:
    """Bring offline blocks online, the lowest first."""
    _check_size(facts, size, "--grow-by")
    blocks = [block for block in facts.memory.blocks if block.state == "offline"]
    return Goal(f"grow by {exact_size(size)} ({zone})", size, blocks, (ONLINE[zone],))


def shrink(facts: Facts, size: int) -> Goal:
    """Take blocks offline: those of ZONE_MOVABLE before others, those with least in use before others, from the top.

    Where nothing shows what is in use, those of the zone that has the smallest part of its memory with the kernel.
    """
    _check_size(facts, size, "--shrink-by")
    seen = seen_of(facts)
    online = [block for block in facts.memory.blocks if block.state == "online"]
    shares = kernel_shares(facts)
    online.sort(key=lambda block: (block.zone != "Movable", in_use(seen, block) or 0, shares(block), -block.index))
    return Goal(f"shrink by {exact_size(size)}", size, online, ("offline",))


def kernel_shares(facts: Facts) -> Callable[[MemoryBlock], float]:
    """How much of the memory of a block's zone is the kernel's, from 0 to 1, by counters; 0 where nothing counts it."""
    shares = {(use.node, use.zone): (use.kernel + use.reclaimable) / use.managed for use in usage(facts)}
    return lambda block: max((shares.get((node, block.zone or ""), 0.0) for node in block.nodes or (0,)), default=0.0)


def evacuate(source: Source, facts: Facts, about: str) -> Goal:
    """Take all blocks of a node, a device (a DIMM is one) or a range offline."""
    blocks = blocks_about(source, facts.memory, about)
    online = [block for block in reversed(blocks) if block.state == "online"]
    return Goal(f"evacuate {about}", len(online) * facts.memory.block_size, online, ("offline",))


def move(source: Source, facts: Facts, about: str, zone: Zone) -> Goal:
    """Take blocks offline and bring them online in another zone, one after the other."""
    blocks = [block for block in blocks_about(source, facts.memory, about) if block.state == "online"]
    movable = zone == "movable"
    wrong = [block for block in blocks if (block.zone == "Movable") != movable]
    size = len(wrong) * facts.memory.block_size
    return Goal(f"move {about} to {zone}", size, wrong, ("offline", ONLINE[zone]))


def _check_size(facts: Facts, size: int, where: str) -> None:
    block = facts.memory.block_size
    if not size or not is_aligned(size, block):
        text = f"{exact_size(size)} is not made of whole memory blocks of {format_size(block)}"
        raise BadInput(text, where=where, fix=f"such as {exact_size(max(align_up(size, block), block))}")


STAYS = frozenset({"free", "hole", "offline", "poisoned", "memmap"})
"""Kinds of pages with nothing in them that would have to move; a block's own struct pages go with it."""


def in_use(seen: Seen, block: MemoryBlock) -> int | None:
    """Bytes of a block in use; None where nothing shows it."""
    runs = seen.pages.get(block.index)
    if runs is None:
        return None
    return sum(run.pages for run in runs if run.kind not in STAYS) * seen.page_size


def plan(source: Source, facts: Facts, goal: Goal, *, most: int | None = None) -> HostPlan:
    """The steps to a goal, each rehearsed on the machine as the steps before it leave it; at `most` so many blocks.

    A block that the rehearsal or the machine's own files refuse is passed over. Raises :class:`BadInput` for a machine
    that cannot be modelled.
    """
    session = session_of(facts, where=source.name)
    machine = machine_state(source, facts)
    states = {each.block: each for each in machine.blocks}
    seen, block_size = seen_of(facts), facts.memory.block_size
    steps: list[Step] = []
    passed: list[str] = []
    reached = blocks = 0
    for block in goal.blocks:
        if reached >= goal.size or (most is not None and blocks >= most):
            break
        found = _rehearsed(session, seen, block, states[block.index], goal.writes)
        if isinstance(found, str):
            passed.append(f"{block.index}: {found}")
            continue
        steps += found
        reached, blocks = reached + block_size, blocks + 1
    return HostPlan(
        verdict="reached" if reached >= goal.size else "short",
        goal=goal.text,
        source=source.name,
        id=plan_id(goal.text, machine, steps),
        machine=machine,
        wanted=goal.size,
        reached=reached,
        steps=steps,
        passed_over=passed,
        assumed=list(_assumed(seen, steps)),
        short="" if reached >= goal.size else _short(goal, blocks == most, bool(steps or passed)),
    )


def _short(goal: Goal, at_most: bool, some: bool) -> str:
    """Why there are no more steps."""
    if at_most:
        return "no more blocks were to be touched"
    return f"no {'other ' if some else ''}memory block is {'online' if goal.writes[0] == 'offline' else 'offline'}"


def plan_id(goal: str, machine: MachineState, steps: list[Step]) -> str:
    """What tells a plan from every other."""
    return hashlib.sha256(json_encoded((goal, machine, steps))).hexdigest()[:16]


def _assumed(seen: Seen, steps: list[Step]) -> Iterable[str]:
    if any(step.write == "offline" for step in steps):
        yield f"moving a page takes {MOVE_SECONDS * 1e6:g} µs"
        pins = pins_held(seen.facts.vmstat)
        if pins != 0:
            yield "no page is pinned" if pins is None else f"none of the {pins} pins that counters tell of is there"
        if not seen.pages:
            yield "what pages are: as the counters of zones have it, lowest pages first (root sees /proc/kpageflags)"


def _rehearsed(
    session: Session, seen: Seen, block: MemoryBlock, before: BlockState, writes: tuple[Write, ...]
) -> list[Step] | str:
    """The steps on one block, or why it is refused; then the model is as the kernel leaves it."""
    obstacles = told(seen, block) if writes[0] == "offline" else []
    for each in obstacles:
        if each.certain:
            return f"{each.errno}, {each.reason}"
    steps: list[Step] = []
    for write in writes:
        free = free_bytes(session.k)
        step: schema.StepKind = schema.Offline(blocks=[block.index])
        if write != "offline":
            zone: Zone = next(name for name, text in ONLINE.items() if text == write)
            step = schema.Online(zone=zone, blocks=[block.index])
        outcome = outcome_of(session, step, "plan")
        if outcome.result != "ok":
            only_there = "" if obstacles else _against_files(seen, block, outcome.reason)
            return f"{outcome.result}, {outcome.reason}{only_there}"
        after = _after(session, block.index)
        moves = in_use(seen, block) if write == "offline" else 0
        pages = None if moves is None else moves // seen.page_size
        risk, because = _risk(seen, block, write, obstacles)
        steps.append(
            Step(block=block.index, write=write, before=before, after=after, moves=moves,
                 seconds=None if pages is None else round(pages * MOVE_SECONDS, 3),
                 free=free_bytes(session.k) - free, risk=risk, because=because)
        )  # fmt: skip
        before = after
    return steps


def _against_files(seen: Seen, block: MemoryBlock, reason: str) -> str:
    """What is to be said of a refusal about pages, where the machine's own files show nothing of it."""
    if reason not in OF_PAGES:
        return ""
    if block.index not in seen.pages:
        return " on the model, which has the lowest pages of each zone in use"
    return " on the model, which has other pages in use; /proc/kpageflags shows nothing that keeps it"


def _after(session: Session, index: int) -> BlockState:
    k = session.k
    block = k.memory_blocks.get(index)
    assert block is not None
    zone = k.zone_of(index * k.memory_block_size >> k.config.page_shift) if block.state == "online" else None
    return BlockState(index, block.state, zone.type.title if zone is not None else "")


def _risk(
    seen: Seen, block: MemoryBlock, write: Write, obstacles: list[Obstacle]
) -> tuple[Literal["low", "some"], str]:
    if write != "offline":
        return "low", "memory that is there goes online"
    if obstacles:
        return "some", "; ".join(each.reason for each in obstacles)
    if block.zone == "Movable":
        return "low", "in ZONE_MOVABLE"
    if block.index in seen.pages:
        return "low", "all pages are free or can move"
    return "some", next((each.detail for each in by_counters(seen, block)), "nothing shows its pages")


def read_plan(text: bytes, *, where: str) -> HostPlan:
    """A plan as it was written. Raises :class:`BadInput` for what is none, and for one that was changed by hand."""
    try:
        found = json_decoded(text, HostPlan)
    except msgspec.DecodeError as error:
        raise BadInput(f"is no plan: {error}", where=where, fix="make one with memhp plan --out FILE") from error
    if plan_id(found.goal, found.machine, found.steps) != found.id:
        raise BadInput("was changed after it was made", where=where, fix="make another with memhp plan")
    return found
