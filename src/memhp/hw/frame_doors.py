"""The doors of a machine to its frames: memory appears and goes, is handed out and given back."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Sequence

from memhp.errors import KernelBug
from memhp.hw.dirty_log import Written
from memhp.hw.format import HEIGHT_NAMES, Format
from memhp.hw.ledger import Violation
from memhp.hw.memory import Owner, PhysicalMemory, Use
from memhp.hw.owner_looks import OwnerLooks
from memhp.hw.stepper import Access, Faults, Stepper
from memhp.hw.tlb import Stale, TlbState
from memhp.spans import Span


class FrameDoors:
    """The doors through which frames (PFNs) change hands."""

    fmt: Format
    memory: PhysicalMemory
    tlb: TlbState
    violations: list[Violation]
    stepper: Stepper | None
    faults: Faults | None
    written: Written | None
    told: dict[tuple[Use, int], list[Span]]
    """Frames (PFNs) from which allocations for a use and of an order are served first, while they are free: where
    another machine's allocator, which no rule foretells, had them from.
    """
    told_busy: set[Span]
    """Ranges (PFNs) that another machine could not empty in one go, though nothing in them shows why."""

    @property
    def owners(self) -> OwnerLooks:
        """Who uses which frames, as ``struct page`` tells."""
        return OwnerLooks(self.memory.owners, self.stepper)

    def may_fail(self, site: str) -> bool:
        """Whether the allocation at `site` (``file:function``) is made to fail: asked before memory is looked for."""
        if self.stepper is not None:
            return self.stepper.fails(site)
        return self.faults is not None and self.faults.fails(site)

    def told_free(self, use: Use, order: int, count: int) -> list[Span]:
        """Up to `count` of the blocks that were told for a use and are free now; they are told once."""
        blocks = self.told.get((use, order), [])
        found = [span for span in blocks if self.memory.used(Use.FREE, *span) == span.size][:count]
        if found:
            self.told[use, order] = [span for span in blocks if span not in found]
        return found

    def plug(self, frames: Span, owner: Owner) -> None:
        """Memory appears at `frames` (PFNs), where there was none."""
        if self.stepper is not None:
            self.stepper.step(Access("plug", frames))
        if self.memory.owners.covered(*frames):
            raise KernelBug(f"memory plugged over memory at PFN {frames.start:#x}", place="hw")
        self.memory.owners.set(*frames, owner)

    def unplug(self, frames: Span, where: str) -> None:
        """Memory disappears from `frames`; nothing may reach it any more."""
        if self.stepper is not None:
            self.stepper.step(Access("unplug", frames))
        self._give_up(frames, where)
        self.memory.owners.clear(*frames)

    def claim(self, frames: Span, owner: Owner, where: str) -> None:
        """Frames that nobody uses get a user. Page-table frames start out zeroed, as ``GFP_ZERO`` gives them."""
        if self.stepper is not None:
            self.stepper.step(Access("claim", frames, value=int(owner.use is Use.TABLE and frames.size > 1)))
        self._expect(frames, (Use.FREE, Use.DEVICE, Use.BOOT), f"claimed as {owner}", where)
        reachable = self.tlb.reuse(frames)
        if reachable is not None:
            self.violations.append(
                Violation("flush-before-free", _reuse_text(self.fmt, frames, owner, reachable.stale), where)
            )
        self.memory.owners.set(*frames, owner)
        if owner.use is Use.TABLE:
            self.memory.arena.add(frames)
            self._tables_change(frames)

    def claim_each(self, frames: Sequence[Span], owner: Owner, where: str) -> None:
        """As :meth:`claim` of each of many runs of frames, which ascend and do not overlap; none is for page tables."""
        if self.stepper is not None or self.tlb.exposed:
            for span in frames:
                self.claim(span, owner, where)
            return
        for span in frames:
            self._expect(span, (Use.FREE, Use.DEVICE, Use.BOOT), f"claimed as {owner}", where)
        self.memory.owners.set_each(frames, owner)

    def release(self, frames: Span, owner: Owner, where: str) -> None:
        """Frames in use are given back: to the buddy (`Use.FREE`) or to the device they lie in (`Use.DEVICE`)."""
        if self.stepper is not None:
            self.stepper.step(Access("release", frames))
        self._expect_in_use(frames, owner, where)
        self._give_up(frames, where)
        self.memory.owners.set(*frames, owner)

    def release_each(self, frames: Sequence[Span], owner: Owner, where: str) -> None:
        """As :meth:`release` of each of many runs of frames, which ascend and do not overlap."""
        if self.stepper is not None or self.tlb.stale:
            for span in frames:
                self.release(span, owner, where)
            return
        for span in frames:
            self._expect_in_use(span, owner, where)
        self.memory.owners.set_each(frames, owner)

    def _expect_in_use(self, frames: Span, owner: Owner, where: str) -> None:
        """Frames that are given back to `owner` are somebody's; what tables among them hold is forgotten."""
        there = 0
        for start, end, old in self.memory.owners.runs(*frames):
            there += end - start
            if old.use in (Use.FREE, Use.DEVICE) and owner.use is Use.FREE:
                self.violations.append(
                    Violation("one-owner", f"PFN {start:#x}-{end:#x} is freed, but is {old} already", where)
                )
            if old.use is Use.TABLE:
                self.memory.arena.drop(Span(start, end))
                self._tables_change(Span(start, end))
        if there != frames.size:
            self._expect_memory(frames, where)

    def retag(self, frames: Span, owner: Owner, where: str) -> None:
        """Frames change their use without going through anybody's free list (free pages isolated, a page migrated)."""
        if self.stepper is not None:
            self.stepper.step(Access("retag", frames))
        self._expect_memory(frames, where)
        self.memory.owners.set(*frames, owner)

    def retag_from(self, pfn: int, owner: Owner, to: Owner) -> bool:
        """Have a frame that `owner` uses be used by `to`, in one go; whether it was that owner's still.

        So it is with a page of which a reference is taken unless it has none: ``get_page_unless_zero()``.
        """
        if self.stepper is not None:
            self.stepper.step(Access("retag", Span(pfn, pfn + 1)))
        still = self.memory.owners.get(pfn) == owner
        if still:
            self.memory.owners.set(pfn, pfn + 1, to)
        return still

    def _tables_change(self, frames: Span) -> None:
        """Frames come to hold tables, or cease to."""
        if self.written is not None:
            self.written.tables(frames)

    def _give_up(self, frames: Span, where: str) -> None:
        self.tlb.give_back(frames, where)

    def _expect(self, frames: Span, uses: tuple[Use, ...], doing: str, where: str) -> None:
        self._expect_memory(frames, where)
        for start, end, owner in self.memory.owners.runs(*frames):
            if owner.use not in uses:
                self.violations.append(
                    Violation("one-owner", f"PFN {start:#x}-{end:#x} is {doing}, but is {owner}", where)
                )

    def _expect_memory(self, frames: Span, where: str) -> None:
        for hole in self.memory.owners.gaps(*frames):
            self.violations.append(
                Violation("frames", f"PFN {hole.start:#x}-{hole.end:#x} is used, but holds no memory", where)
            )


def _reuse_text(fmt: Format, frames: Span, owner: Owner, stale: Stale) -> str:
    height = stale.table.height
    entry = f"{HEIGHT_NAMES[height]} {'leaf' if stale.leaves else 'entry'}"
    return (
        f"PFN {frames.start:#x}-{frames.end:#x} becomes {owner} while a CPU may still reach it through the {entry} for "
        f"{stale.table.va + stale.index * fmt.levels[height].size:#x}, which no flush has covered yet"
    )
