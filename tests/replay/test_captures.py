"""Real machines rehearsed: booted from the first moment of a capture, then everything that happened to it.

Every capture and every guest is rehearsed to its end, those whose memory hosts its own struct pages too. At every
moment all that Linux shows of memory is as the real machine showed it, but for the facts that :mod:`replay.unequal`
names. Told beforehand, so no test of the model: how many pages each zone manages at boot, and which resources devices
other than memory have.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter

import pytest

from captures import captures, every_step, facts, guests, open_capture
from memhp.check import check_all
from memhp.conform.amounts import an_add_failed
from memhp.facts import dmesg, iomem
from memhp.facts.compare import SECTIONS, STABLE, Value, named_facts
from memhp.facts.derive import derive
from memhp.facts.dmesg import Altmap, Dmesg
from memhp.facts.observed import Facts
from memhp.linux.init import start_kernel
from memhp.scenario.schema import MachineText
from memhp.target.model.replay import catch_up
from memhp.target.model.session import Session
from memhp.target.seen.sources import facts_spec
from replay.machines import played
from replay.unequal import LEFT_BEHIND, leaf_outlives_memory, unnamed

EVERY = [*captures(), *guests()]
MARKS = ("min", "low", "high", "promo")


def everything(observed: Facts) -> dict[str, Value]:
    """Every fact by its name; watermarks without what reclaim raises them by for a while."""
    found = named_facts(observed, SECTIONS)
    for zone in observed.zones:
        name = f"/proc/zoneinfo node {zone.node} {zone.name}"
        marks = {mark: getattr(zone, mark) for mark in MARKS if getattr(zone, mark) is not None}
        found |= {f"{name} {mark}": value - (zone.boost or 0) for mark, value in marks.items()}
        found |= {f"{name} cma": zone.cma, f"{name} protection": str(zone.protection)}
    return found


def compared(observed: Facts, derived: Facts) -> tuple[dict[str, Value], dict[str, Value]]:
    """The facts of the real machine and of the model. No fact is what a kernel has no line for: promo before 6.2,
    and ``/proc/pagetypeinfo`` where it could not be read.
    """
    real, mine = everything(observed), everything(derived)
    untold = [] if any(name.endswith(" promo") for name in real) else [name for name in mine if name.endswith(" promo")]
    if not observed.pagetypeinfo:
        untold += [name for name in mine if name.startswith("/proc/pagetypeinfo ")]
    return real, {name: value for name, value in mine.items() if name not in untold}


@pytest.mark.parametrize("name", EVERY)
def test_at_every_moment_all_facts_but_the_named_ones_are_those_of_the_real_machine(name: str) -> None:
    for moment in played(name):
        real, mine = compared(facts(name, moment.step), derive(moment.session.k))
        unequal = {fact for fact in real.keys() | mine.keys() if real.get(fact) != mine.get(fact)}
        surprising, idle = unnamed(facts(name, moment.step), unequal)
        assert {fact: (real.get(fact), mine.get(fact)) for fact in surprising} == {}, moment.step
        assert idle == [], f"{moment.step}: equal after all"


@pytest.mark.parametrize("name", EVERY)
def test_at_every_moment_every_law_holds(name: str) -> None:
    """But for a leaf of the vmemmap that LoongArch leaves when the last memory goes whose struct pages it holds."""
    earlier: list[Facts] = []
    for moment in played(name):
        observed, k = facts(name, moment.step), moment.session.k
        broken = {breach.law for breach in check_all(k)}
        assert broken <= ({"vmemmap"} if leaf_outlives_memory(k, earlier, observed) else set()), moment.step
        earlier.append(observed)


def logs(name: str) -> tuple[Dmesg, Dmesg]:
    """The whole kernel log of the real machine and of the model."""
    steps = list(open_capture(name))
    real = facts(name, steps[-1]).log
    (*_, moment) = played(name)
    assert real is not None
    return real, dmesg.parse("\n".join(line.text for line in moment.session.k.hw.log_lines))


LOGGED = [name for name in captures() if facts(name, list(open_capture(name))[-1]).log is not None]


def by_hand(name: str) -> bool:
    """Whether somebody may have taken blocks offline in an order, or put them back before the next moment, that no
    facts tell: memory of DIMMs and dax devices, and of ACPI's first pass where the second met what it had.
    """
    names = {ram.name for step in open_capture(name) for ram in iomem.system_ram(facts(name, step).iomem)}
    return "System RAM (virtio_mem)" not in names


@pytest.mark.parametrize("name", LOGGED)
def test_ranges_go_offline_in_the_same_sizes_and_order(name: str) -> None:
    real, mine = logs(name)
    if by_hand(name):
        assert Counter(mine.offlined) <= Counter(real.offlined)
    else:
        assert mine.offlined == real.offlined


def altmaps(name: str) -> tuple[Altmap, ...]:
    """What the log of a capture tells of altmaps, unless an add failed, of which no facts tell."""
    last = facts(name, list(open_capture(name))[-1])
    return last.log.altmaps if last.log is not None and not an_add_failed(last) else ()


WITH_ALTMAPS = [name for name in LOGGED if altmaps(name)]


@pytest.mark.parametrize("name", WITH_ALTMAPS)
def test_every_page_of_an_altmap_is_handed_out_in_the_same_order(name: str) -> None:
    """What devices and memory blocks keep their struct pages in: ``altmap_alloc_block_buf: pfn: ... alloc: ...``."""
    real, mine = logs(name)
    assert list(mine.altmaps) == list(real.altmaps)


def test_captures_of_all_architectures_have_altmaps() -> None:
    assert {name.split("-")[0] for name in WITH_ALTMAPS} == {"riscv64", "arm64", "x86_64"}
    assert {name for name in WITH_ALTMAPS if "-map-pmem-" in name} == {name for name in LOGGED if "-map-pmem-" in name}


@pytest.mark.parametrize(("name", "step"), every_step())
def test_a_machine_can_be_taken_up_at_any_moment(name: str, step: str) -> None:
    observed = facts(name, step)
    session = Session(start_kernel(facts_spec(observed, MachineText(source=name))))
    catch_up(session, observed)
    real, mine = named_facts(observed, STABLE), named_facts(derive(session.k), STABLE)
    unequal = {fact for fact in real.keys() | mine.keys() if real.get(fact) != mine.get(fact)}
    surprising, _ = unnamed(facts(name, step), unequal)
    assert {fact: (real.get(fact), mine.get(fact)) for fact in surprising} == {}
    left_behind = {"resources"} if LEFT_BEHIND.applies(observed) else set()
    assert {breach.law for breach in check_all(session.k)} <= left_behind
