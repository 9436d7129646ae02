"""The machine of a capture as the model plays it, moment by moment."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise

from captures import facts, open_capture
from memhp.errors import KernelError
from memhp.hw.memory import Use
from memhp.linux.config import Bases
from memhp.linux.drivers.base.memory import valid_zones
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.init import start_kernel
from memhp.linux.mm import users
from memhp.scenario.schema import MachineText
from memhp.spans import Span
from memhp.target.model.replay import catch_up, replay
from memhp.target.model.session import Session
from memhp.target.model.virtio_mem_facts import settle_seen
from memhp.target.seen.sources import facts_spec
from replay.diary import Refusal, Write, refusals, writes

NO_KASLR = Bases()


@dataclass(frozen=True)
class Outcome:
    """What came of a write to ``state`` in the model: as :class:`Write` has it, and the kernel's reason and log."""

    write: Write
    reason: str = ""
    log: tuple[str, ...] = ()


@dataclass
class Moment:
    """The model at a step of its capture, with what was tried on the way there: the real outcome and the model's.

    `expected` is the refusal in the real log that belongs to each write, if one does; `unmatched` are refusals in the
    real log that no write so far accounts for.
    """

    step: str
    session: Session
    tried: list[tuple[Write, Refusal | None, Outcome]] = field(default_factory=list)
    unmatched: list[Refusal] = field(default_factory=list)


def boot(name: str, step: str, bases: Bases = NO_KASLR) -> Session:
    """The model booted as the machine of a capture was, with its hot-plugged memory as at that step.

    Facts do not tell the addresses that KASLR chose: `bases` are those.
    """
    observed = facts(name, step)
    spec = facts_spec(observed, MachineText(source=name))
    session = Session(start_kernel(replace(spec, config=replace(spec.config, bases=bases))))
    catch_up(session, observed)
    settle_seen(session, observed)
    return session


def played(name: str, bases: Bases = NO_KASLR) -> Iterator[Moment]:
    """Every moment of a capture as the model gets there; the machine is the same one and goes on changing."""
    steps = list(open_capture(name))
    session = boot(name, steps[0], bases)
    left = refusals(name)
    yield Moment(steps[0], session, unmatched=left)
    for before, after in pairwise(steps):
        moment = Moment(after, session, unmatched=left)
        wanted = writes(name, after)
        if not wanted:
            replay(session, facts(name, before), facts(name, after))
        for write in wanted:
            refusal = _refusal_of(session, write, left)
            moment.tried.append((write, refusal, attempt(session, write.block, write.text, refusal)))
        yield moment


def _refusal_of(session: Session, write: Write, left: list[Refusal]) -> Refusal | None:
    """The next refusal in the log, if it is this block's and the write failed on an online block."""
    size = session.k.memory_block_size
    span = Span(write.block * size, (write.block + 1) * size)
    failed = write.text == "offline" and write.errno != "ok" and write.state == "online"
    return left.pop(0) if failed and left and span.covers(left[0].span) else None


def attempt(session: Session, block: int, text: str, refusal: Refusal | None = None) -> Outcome:
    """Write to a block's state, with the page in use that the real kernel showed to be unmovable, and no longer those
    that it showed before.
    """
    k = session.k
    if refusal is not None and refusal.pfn is not None:
        tag = f"unmovable page of memory{block}"
        if users.spans_of(k, tag):
            users.free(k, tag)
        if k.hw.memory.use_of(refusal.pfn) is Use.FREE:
            users.allocate(k, k.config.page_size, "kernel", tag, at=refusal.pfn << k.config.page_shift)
    seen = len(k.hw.log_lines)
    errno, reason = "ok", ""
    try:
        state_store(k, block, text)
    except KernelError as error:
        errno, reason = error.name, error.reason
    found = k.memory_blocks.get(block)
    assert found is not None
    write = Write(block, text, errno, found.state, valid_zones(k, block))
    return Outcome(write, reason, tuple(line.text for line in k.hw.log_lines[seen:]))
