"""What changes from one moment of a real machine to the next, where boot left both with other amounts: each the same.

The direct map of x86 by sizes of leaves, which boot splits in other places; free memory, with the per-CPU lists.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace
from itertools import pairwise

import pytest

from captures import facts, open_capture
from memhp.conform.amounts import (
    FREE_WITHIN,
    LEAVES,
    changed,
    partly_unplugged,
    splits_leaves,
    untold_adds,
    with_split,
)
from memhp.facts.derive import derive
from memhp.units import KiB, MiB
from replay.machines import played
from replay.test_captures import EVERY


def unequal(real: dict[str, int], mine: dict[str, int]) -> set[str]:
    """The changes that are not the same."""
    return {
        name
        for name in real.keys() | mine.keys()
        if abs(real.get(name, -1) - mine.get(name, -1)) > (FREE_WITHIN if name == "free" else 0)
    }


TOLD = [name for name in EVERY if not untold_adds([facts(name, step) for step in open_capture(name)])]


@pytest.mark.parametrize("name", TOLD)
def test_free_memory_and_the_direct_map_change_as_in_the_real_machine(name: str) -> None:
    last = facts(name, list(open_capture(name))[-1])
    moments = ((facts(name, moment.step), derive(moment.session.k)) for moment in played(name))
    for (real, mine), (real_then, mine_then) in pairwise(moments):
        if partly_unplugged(real_then):
            continue
        told, foretold = changed(real, real_then), changed(mine, mine_then)
        if "DirectMap4k" in told and splits_leaves(real, real_then, last):
            foretold = with_split(told, foretold)
        assert unequal(told, foretold) == set(), (told, foretold)


@pytest.mark.parametrize("fact", ["free", *LEAVES])
def test_a_change_that_is_falsified_is_noticed(fact: str) -> None:
    name = "x86_64-6.12.117+deb13-cloud-amd64-bigram-70G"
    before, after = facts(name, "0-before"), facts(name, "1-dimm-8G")
    if fact == "free":
        zones = (replace(after.zones[0], free=after.zones[0].free - 100 * MiB // (4 * KiB)), *after.zones[1:])
        false = replace(after, zones=zones)
    else:
        false = replace(after, meminfo={**after.meminfo, fact: after.meminfo[fact] + 512 * 1024})
    assert unequal(changed(before, after), changed(before, false)) == {fact}
