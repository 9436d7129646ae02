"""What stands in the way of taking memory out, after a step: where it is marked in the picture, and its table."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from memhp.report.rendering import Head, PageTable, code
from memhp.scenario.result import Held, StepResult
from memhp.spans import SpanSet
from memhp.units import format_range, format_size

MOST_TOLD = 6
"""So many runs of pages are told of each range; the picture and JSON have all."""


@dataclass(frozen=True)
class InTheWay:
    """A range of bytes that would not go, and the pages that are why."""

    start: int
    size: int
    word: str
    """What became of it, in a word: ``refused``, ``stays``."""
    reason: str
    pages: tuple[Held, ...]

    @property
    def title(self) -> str:
        """All of it in a line."""
        return f"{self.word}: {self.start:#x}–{self.start + self.size:#x}, {self.reason}"

    def goes_on_in(self, other: "InTheWay") -> bool:
        """Whether another begins where this ends, and is alike."""
        end = self.start + self.size
        return (end, self.word, self.reason) == (other.start, other.word, other.reason)


def in_the_way(step: StepResult) -> list[InTheWay]:
    """What a step could not take out, by address, neighbours with one reason as one."""
    found = [InTheWay(each.start, each.size, "refused", each.reason, tuple(each.pages)) for each in step.refused]
    spans = SpanSet((each.start, each.start + each.size) for each in step.refused)
    found += (
        InTheWay(each.start, each.size, "stays", each.reason, tuple(each.held))
        for device in step.devices
        for each in device.stuck
        if not spans.covered(each.start, each.start + each.size)
    )
    return list(_joined(sorted(found, key=lambda mark: mark.start)))


def _joined(marks: Iterable[InTheWay]) -> Iterator[InTheWay]:
    before: InTheWay | None = None
    for mark in marks:
        if before is not None and before.goes_on_in(mark):
            before = replace(before, size=before.size + mark.size, pages=(*before.pages, *mark.pages))
            continue
        if before is not None:
            yield before
        before = mark
    if before is not None:
        yield before


def in_the_way_table(marks: list[InTheWay], block_size: int, page_size: int) -> PageTable:
    """The ranges, why each would not go, and the pages in the way."""
    return PageTable(
        "In the way",
        (Head("blocks"), Head("addresses"), Head("why"), Head("pages in the way")),
        [_row(mark, block_size, page_size) for mark in marks],
    )


def _row(mark: InTheWay, block_size: int, page_size: int) -> tuple[str, ...]:
    first, last = mark.start // block_size, (mark.start + mark.size - 1) // block_size
    told = list(_pages(mark.pages, page_size))
    more = f"; {len(told) - MOST_TOLD} more runs" if len(told) > MOST_TOLD else ""
    pages = "; ".join(told[:MOST_TOLD]) + more
    addresses = code(f"{mark.start:#x}–{mark.start + mark.size:#x}")
    return (format_range(first, last), addresses, mark.reason, pages or "none")


def _pages(pages: Iterable[Held], page_size: int) -> Iterator[str]:
    """Runs of pages, neighbours of one owner as one."""
    at, size, owner = -1, 0, ""
    for page in pages:
        if page.owner == owner and page.start == at + size:
            size += page.size
            continue
        if size:
            yield _page(at, size, owner, page_size)
        at, size, owner = page.start, page.size, page.owner
    if size:
        yield _page(at, size, owner, page_size)


def _page(at: int, size: int, owner: str, page_size: int) -> str:
    first, last = at // page_size, (at + size) // page_size - 1
    where = f"PFN {first:#x}" if first == last else f"PFN {first:#x}–{last:#x}"
    return f"{where}: {format_size(size)} {owner}"
