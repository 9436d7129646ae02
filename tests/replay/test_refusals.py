"""What real kernels refused, the model refuses for the same reason and in the same words; what they did, it does.

Captures write to the ``state`` of one hot-plugged block again and again, then try to take boot memory offline. Where a
kernel showed the page that it could not move, that page is in use in the model as well, and nothing else is told.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Iterator
from functools import cache

import pytest

from captures import captures, facts, open_capture
from memhp.hw.memory import Use
from memhp.spans import Span
from replay.diary import Refusal, log_text, refusals, writes
from replay.machines import Moment, Outcome, attempt, played

TRIED = [name for name in captures() if any(writes(name, step) for step in ("2-onoff", "3-offline-boot-tried"))]


def last(name: str) -> Moment:
    return list(played(name))[-1]


@cache
def said(name: str) -> set[str]:
    """Every line of a capture's kernel log."""
    log = facts(name, list(open_capture(name))[-1]).log
    return {line.text for line in log.lines} if log is not None else set()


def failure(refusal: Refusal) -> str:
    span = refusal.span
    return f"memory offlining [mem {span.start:#010x}-{span.end - 1:#010x}] failed due to {refusal.reason}"


def dumped(outcome: Outcome) -> list[int]:
    return [int(match[1], 16) for line in outcome.log if (match := re.fullmatch(r"page: .* pfn:(\w+)", line))]


def check(name: str, refusal: Refusal | None, outcome: Outcome, *, elsewhere: bool) -> None:
    """The model's log says of a write what the real one says; `elsewhere` where the page that the model meets first is
    one that the allocator puts elsewhere than the real machine's did: boot's, and struct pages of other memory.
    """
    attempted = [line for line in outcome.log if line.startswith("Boot memory [")]
    assert bool(attempted) is (refusal is not None and refusal.reason == "notifier failure")
    assert said(name) >= set(attempted)
    failed = [line for line in outcome.log if "failed due to" in line]
    assert failed == ([failure(refusal)] if refusal else [])
    if refusal is None:
        return
    assert outcome.reason == refusal.reason
    assert ("page dumped because: unmovable page" in outcome.log) == (refusal.pfn is not None)
    if refusal.pfn is not None and not elsewhere:
        assert dumped(outcome) == [refusal.pfn]


def test_every_story_with_writes_to_state_is_told() -> None:
    assert {name for name in captures() if re.search(r"^rc=\d|rc=\d \w+$", log_text(name), re.M)} == set(TRIED)
    assert len(TRIED) == 10


@pytest.mark.parametrize("name", TRIED)
def test_every_write_to_state_ends_as_it_ended(name: str) -> None:
    moments = list(played(name))
    tried = [each for moment in moments for each in moment.tried]
    assert tried
    for write, refusal, outcome in tried:
        mine = outcome.write
        assert (mine.errno, mine.state) == (write.errno, write.state), (write, outcome)
        if write.valid_zones is not None:
            assert mine.valid_zones == write.valid_zones
        boot_memory = write.block * moments[0].session.k.memory_block_size < hot_start(moments[-1])
        check(name, refusal, outcome, elsewhere=boot_memory)


def hot_start(moment: Moment) -> int:
    """The first byte that can have been plugged."""
    k = moment.session.k
    return max(span.end for span in k.boot_memory) << k.config.page_shift


@pytest.mark.parametrize("name", TRIED)
def test_every_refusal_in_their_logs_belongs_to_a_write(name: str) -> None:
    assert last(name).unmatched == []


def met(name: str) -> Iterator[tuple[Moment, list[Refusal]]]:
    """The first moment whose kernel log has a refusal, with the model as it is then, and the refusals that are new."""
    shown, left = 0, refusals(name)
    for step in open_capture(name):
        log = facts(name, step).log
        now = len(log.offline_failures) if log is not None else shown
        if now > shown:
            yield next(moment for moment in played(name) if moment.step == step), left[shown:now]
            shown = now


def came_since(name: str, refusal: Refusal) -> bool:
    """Whether nothing tells what kept a block, or it is not the memory that was refused: gone, and plugged anew."""
    size = facts(name, next(iter(open_capture(name)))).memory.block_size
    there = [refusal.span.start // size in facts(name, step).memory.by_index for step in open_capture(name)]
    return refusal.pfn is None or not all(there[there.index(True) :] if True in there else [False])


@pytest.mark.parametrize("name", [name for name in captures() if name not in TRIED])
def test_refusals_that_drivers_met_are_refused_at_the_moment_that_tells_of_them(name: str) -> None:
    for moment, told in met(name):
        k = moment.session.k
        for refusal in told:
            block = refusal.span.start // k.memory_block_size
            outcome = attempt(moment.session, block, "offline", refusal)
            if outcome.write.state == "offline" and came_since(name, refusal):
                continue
            assert outcome.write.errno == "EBUSY"
            assert (block + 1) * k.memory_block_size == refusal.span.end
            memmap = any(k.hw.memory.use_of(pfn) is Use.MEMMAP for pfn in dumped(outcome))
            check(name, refusal, outcome, elsewhere=memmap)


def test_such_drivers_were_those_of_dimms_and_kmem() -> None:
    told = {name: refusals(name) for name in captures() if name not in TRIED}
    assert {name.split("-")[-3] for name, found in told.items() if found} >= {"pc", "map"}
    hosted = [refusal.span for found in told.values() for refusal in found if refusal.span.start % (128 << 20)]
    assert Span(0x100200000, 0x108000000) in hosted, "a block that hosts its struct pages starts behind them"


def test_arm64_keeps_boot_memory_and_x86_blocks_with_holes() -> None:
    reasons: dict[str, set[str]] = {}
    for name in TRIED:
        for moment in played(name):
            for write, _, outcome in moment.tried:
                if moment.step.startswith("3-") and write.errno != "ok":
                    reasons.setdefault(name.split("-")[0], set()).add(f"{write.errno} {outcome.reason}")
    assert reasons["arm64"] == {"EPERM notifier failure", "EBUSY failure to isolate range"}
    assert reasons["x86_64"] == {"EINVAL memory holes", "EINVAL memory0 has pages of several zones"}
