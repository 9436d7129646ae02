"""A host as a target: its own memory blocks are taken offline and brought online, by name; the rest is its platform's.

What a step names is what is touched, and nothing else: a step that means "all there is" is refused, as is whatever
needs a hand on the platform (DIMMs, devices) or on the memory of others.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import time
from collections.abc import Callable, Sequence

from memhp.errors import BadInput
from memhp.facts.memory_blocks import MemoryBlocks
from memhp.facts.observed import Facts, observe
from memhp.scenario import schema
from memhp.scenario.schema import StepKind
from memhp.spans import Span
from memhp.target.model.steps import ONLINE_TEXT
from memhp.target.target import NO_FAULTS, Done
from memhp.target.tree_host import Host
from memhp.units import is_aligned, parse_size

SECONDS = 60.0
"""How long a write to a block's state is given."""
PLATFORM = "memory comes and goes by the host's platform: try it in a guest, or on a VM"


def block_refusal(step: StepKind) -> str | None:
    """Why a step on memory blocks cannot be meant for a machine in use; None if it can."""
    if isinstance(step, schema.Online | schema.Offline) and step.blocks is None and (step.at is None or not step.size):
        return "name the blocks, or a range: on a machine in use nothing else is touched"
    return None


def named_blocks(memory: MemoryBlocks, step: schema.Online | schema.Offline) -> list[int]:
    """The blocks that a step names. Raises :class:`BadInput` for one that is not there, and for parts of blocks."""
    if step.blocks is not None:
        wanted = list(step.blocks)
    else:
        assert step.at is not None
        assert step.size is not None
        start = parse_size(step.at, where="at")
        span = Span(start, start + parse_size(step.size, where="size"))
        unit = memory.block_size
        if not is_aligned(span.start | span.end, unit):
            raise BadInput(f"memory blocks are of {unit:#x} bytes", where="at", fix="name whole blocks")
        wanted = list(range(span.start // unit, span.end // unit))
    missing = [block for block in wanted if block not in memory.by_index]
    if missing:
        raise BadInput(f"there is no memory{missing[0]}", where="blocks", fix="memhp blocks lists them")
    return wanted


class HostTarget:
    """A host. Whoever uses it has its lock (:func:`~memhp.target.tree_host.locked`)."""

    def __init__(self, host: Host, name: str = "host", *, seconds: float = SECONDS) -> None:
        self.host, self.name, self.seconds = host, name, seconds

    def refusal(self, step: StepKind) -> str | None:
        """Why a step cannot be carried out here; None if it can."""
        if step.fault is not None:
            return NO_FAULTS
        if not isinstance(step, schema.Online | schema.Offline | schema.Wait):
            return PLATFORM
        return block_refusal(step)

    def carry_out(self, step: StepKind) -> Done:
        """Write to block after block's state, up to the first that refuses."""
        if isinstance(step, schema.Wait):
            time.sleep(step.seconds)
            return Done(step, "ok")
        assert isinstance(step, schema.Online | schema.Offline)
        text = ONLINE_TEXT[step.zone] if isinstance(step, schema.Online) else "offline"
        blocks = named_blocks(self.facts().memory, step)
        return one_by_one(step, blocks, lambda block: self.host.write(block, text, self.seconds), self._reason)

    def _reason(self) -> str:
        """The kernel's words for the last refusal, where its log can be read."""
        log = self.facts().log
        return log.offline_failures[-1].reason if log is not None and log.offline_failures else ""

    def facts(self) -> Facts:
        """All that the host shows now."""
        return observe(self.host.source())

    def log(self) -> tuple[str, ...]:
        """The kernel log so far; nothing where it may not be read."""
        log = self.facts().log
        return () if log is None else tuple(line.text for line in log.lines)


def one_by_one(step: StepKind, blocks: Sequence[int], change: Callable[[int], str], reason: Callable[[], str]) -> Done:
    """Change block after block, up to the first for which the answer is not ``ok``."""
    for block in blocks:
        result = change(block)
        if result != "ok":
            return Done(step, result, reason())
    return Done(step, "ok")
