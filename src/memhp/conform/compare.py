"""Two machines at one moment, fact by fact: equal, differing, or incomparable for a reason that a rule states."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Iterator
from dataclasses import replace

import msgspec

from memhp.conform.rules import Context, reason_for
from memhp.conform.tables import Compared
from memhp.facts.compare import STABLE, Value, named_facts
from memhp.facts.observed import Facts
from memhp.target.guest.agent import GuestLost

_COUNTED = re.compile(r"/proc/meminfo (MemTotal|VmallocTotal)|/proc/vmstat nr_memmap\w*")

WATERMARKS = ("min", "low", "high", "promo")
ZONE_MARKS = (*WATERMARKS, "boost", "cma", "protection")
"""Values of a zone besides those that :mod:`memhp.facts.compare` names."""


class Detail(msgspec.Struct, frozen=True, kw_only=True):
    """One fact that is not equal: `expected` is what the real machine showed; `reason` is empty where none is known."""

    step: str
    fact: str
    expected: Value
    got: Value
    verdict: str
    """``differing`` or ``incomparable``."""
    reason: str = ""
    count: int = 1
    """How many facts it stands for: of page-table entries only the first is told."""


class Comparison(msgspec.Struct, kw_only=True):
    """Facts compared, over any number of moments."""

    facts: int = 0
    equal: int = 0
    details: list[Detail] = []

    @property
    def differing(self) -> int:
        """Facts that differ and that no rule explains."""
        return sum(detail.count for detail in self.details if detail.verdict == "differing")

    @property
    def incomparable(self) -> int:
        """Facts that cannot be held against each other."""
        return sum(detail.count for detail in self.details if detail.verdict == "incomparable")

    def add(self, step: str, fact: str, expected: Value, got: Value, context: Context) -> None:
        """Compare one fact."""
        self.facts += 1
        if expected == got:
            self.equal += 1
            return
        reason = reason_for(fact, expected, got, context)
        verdict = "incomparable" if reason else "differing"
        detail = Detail(step=step, fact=fact, expected=expected, got=got, verdict=verdict, reason=reason)
        self.details.append(detail)

    def add_counted(self, step: str, counted: Compared) -> None:
        """Many facts of one kind at once, of which the first that differs is told."""
        self.facts += counted.facts
        self.equal += counted.equal
        wrong = counted.facts - counted.equal
        if wrong:
            values = {"expected": counted.expected, "got": counted.got}
            self.details.append(Detail(step=step, fact=counted.name, **values, verdict="differing", count=wrong))


def add_lost(found: Comparison, step: str, error: GuestLost) -> None:
    """A guest that is gone differs from the model, which lives on."""
    found.add(step, "the guest", str(error), "alive", Context())


def every_fact(facts: Facts) -> dict[str, Value]:
    """Every fact of a machine that follows from its memory alone, by its name.

    What tasks and caches use is no such fact: of the counters, a few of ``/proc/meminfo`` and those of the memmap are
    left, and ``CommitLimit`` without swap.
    """
    counters = named_facts(facts, ("meminfo", "vmstat"))
    kept = {name: value for name, value in counters.items() if _COUNTED.fullmatch(name)}
    if "CommitLimit" in facts.meminfo:
        kept["/proc/meminfo CommitLimit"] = facts.meminfo["CommitLimit"] - facts.meminfo.get("SwapTotal", 0)
    return {**named_facts(facts, (*STABLE, "pagetypeinfo")), **dict(_zone_marks(facts)), **kept}


def _zone_marks(facts: Facts) -> Iterator[tuple[str, Value]]:
    """What zones show; of watermarks what is shown less the boost that is in it (``include/linux/mmzone.h``)."""
    for zone in facts.zones:
        for mark in ZONE_MARKS:
            value = getattr(zone, mark)
            if mark in WATERMARKS and value is not None:
                value -= zone.boost or 0
            text = ",".join(map(str, value)) if isinstance(value, tuple) else value
            yield f"/proc/zoneinfo node {zone.node} {zone.name} {mark}", text


def compare_moment(found: Comparison, step: str, real: Facts, mine: Facts, context: Context) -> None:
    """Compare every fact that either machine shows at a step."""
    expected = every_fact(real)
    got = every_fact(mine if real.pagetypeinfo else replace(mine, pagetypeinfo=()))
    for fact in [*expected, *(fact for fact in got if fact not in expected)]:
        found.add(step, fact, expected.get(fact), got.get(fact), context)
