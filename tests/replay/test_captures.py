"""Real machines rehearsed: booted from the first moment of a capture, then everything that happened to it.

At every moment all that Linux shows of memory is as the real machine showed it, but for the facts that
:mod:`replay.unequal` names. Watermarks, lowmem reserve and struct-page counters are compared like the rest.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from captures import captures, facts, guests
from memhp.facts.compare import SECTIONS, Value, named_facts
from memhp.facts.derive import derive
from memhp.facts.observed import Facts
from replay.machines import played
from replay.unequal import unnamed

EVERY = [*captures(), *guests()]
MARKS = ("min", "low", "high", "promo", "boost", "cma", "protection")


def everything(observed: Facts) -> dict[str, Value]:
    """Every fact by its name."""
    found = named_facts(observed, SECTIONS)
    for zone in observed.zones:
        for mark in MARKS:
            value = getattr(zone, mark)
            found[f"/proc/zoneinfo node {zone.node} {zone.name} {mark}"] = str(value)
    return found


@pytest.mark.parametrize("name", EVERY)
def test_at_every_moment_all_facts_but_the_named_ones_are_those_of_the_real_machine(name: str) -> None:
    for moment in played(name):
        real, mine = everything(facts(name, moment.step)), everything(derive(moment.session.k))
        unequal = {fact for fact in real.keys() | mine.keys() if real.get(fact) != mine.get(fact)}
        surprising, idle = unnamed(f"{name}/{moment.step}", unequal)
        assert {fact: (real.get(fact), mine.get(fact)) for fact in surprising} == {}, moment.step
        assert idle == [], f"{moment.step}: equal after all"
