"""What changes from one moment of a real machine to the next, where boot left both with other amounts: each the same.

The direct map of x86 by sizes of leaves, which boot splits in other places; free memory, with the per-CPU lists.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace
from itertools import pairwise

import pytest

from captures import facts, open_capture
from memhp.facts import iomem
from memhp.facts.derive import derive
from memhp.facts.hotplug import PlugChange, changes
from memhp.facts.observed import Facts
from memhp.facts.usage import free_pages
from memhp.units import KiB, MiB
from replay.machines import played
from replay.test_captures import EVERY
from replay.unequal import an_add_failed, partly_unplugged

FREE_WITHIN = 4.4 * MiB
"""What tasks and caches of these machines took or gave back from one moment to the next, at most."""
LEAVES = ("DirectMap4k", "DirectMap2M", "DirectMap1G")


def changed(before: Facts, after: Facts) -> dict[str, int]:
    """Bytes by which memory changed; files that somebody keeps in memory count as free."""
    page = after.page_size or 4 * KiB
    now, then = (
        sum(map(free_pages, each.zones)) * page + each.meminfo.get("Shmem", 0) * KiB for each in (after, before)
    )
    found = {"free": now - then}
    for name in LEAVES:
        if name in after.meminfo:
            found[name] = (after.meminfo[name] - before.meminfo[name]) * KiB
    return found


def unequal(real: dict[str, int], mine: dict[str, int]) -> set[str]:
    """The changes that are not the same."""
    return {
        name
        for name in real.keys() | mine.keys()
        if abs(real.get(name, -1) - mine.get(name, -1)) > (FREE_WITHIN if name == "free" else 0)
    }


def splits_leaves(before: Facts, after: Facts, last: Facts) -> bool:
    """Whether kmem's module was loaded or pages poisoned, which splits 2 MiB leaves (``set_memory_ro()`` and kin)."""
    kmem = [{ram.name for ram in iomem.system_ram(each.iomem)} for each in (before, after)]
    poisoned = last.log is not None and any("Memory failure: " in line.text for line in last.log.lines)
    return poisoned or "System RAM (kmem)" in kmem[1] - kmem[0]


def with_split(change: dict[str, int], size: int) -> dict[str, int]:
    """The change with so many bytes of 2 MiB leaves split."""
    return change | {"DirectMap4k": change["DirectMap4k"] + size, "DirectMap2M": change["DirectMap2M"] - size}


def untold(name: str) -> bool:
    """Whether the log has adds that no two moments tell of: those that failed, and those that were undone between."""
    last = facts(name, list(open_capture(name))[-1])
    lines = last.log.lines if last.log is not None else ()
    came = sum(line.text.endswith("Memory device configured by ACPI") for line in lines)
    shown = sum(each.kind == "add" for pair in pairwise(open_capture(name)) for each in _changes(name, *pair))
    return came > shown or an_add_failed(last)


def _changes(name: str, step: str, later: str) -> tuple[PlugChange, ...]:
    return changes(facts(name, step), facts(name, later))


TOLD = [name for name in EVERY if not untold(name)]


@pytest.mark.parametrize("name", TOLD)
def test_free_memory_and_the_direct_map_change_as_in_the_real_machine(name: str) -> None:
    last = facts(name, list(open_capture(name))[-1])
    moments = ((facts(name, moment.step), derive(moment.session.k)) for moment in played(name))
    for (real, mine), (real_then, mine_then) in pairwise(moments):
        if partly_unplugged(real_then):
            continue
        told, foretold = changed(real, real_then), changed(mine, mine_then)
        if "DirectMap4k" in told and splits_leaves(real, real_then, last):
            split = told["DirectMap4k"] - foretold["DirectMap4k"]
            assert split >= 0
            assert split % (2 * MiB) == 0
            foretold = with_split(foretold, split)
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
