"""Memory that a real machine had in use is in use in its rehearsal, and what that rests on is said."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace

import pytest

from captures import archive, every_step, facts
from memhp.check import breaches_of
from memhp.errors import BadInput
from memhp.facts import kpageflags
from memhp.facts.observed import Facts
from memhp.facts.usage import usage
from memhp.hw.memory import Use
from memhp.linux.init import start_kernel
from memhp.linux.mm.free_area import nr_free_pages
from memhp.linux.mm.hugetlb import dissolve_free_hugetlb_folios
from memhp.linux.mmzone import ZoneType
from memhp.linux.state import Kernel
from memhp.scenario.result import Run
from memhp.scenario.schema import MachineText, Offline, Plug, Scenario
from memhp.spans import Span
from memhp.target.model.replay import catch_up
from memhp.target.model.run import rehearse, rehearse_scenario
from memhp.target.model.session import Session
from memhp.target.seen.sources import facts_spec
from memhp.target.seen.usage import Placed, place
from memhp.units import MiB

BUSY = "x86_64-6.12.117+deb13-cloud-amd64-plan-16000M"


def caught_up(observed: Facts) -> Kernel:
    """A kernel with the memory that a machine had, nothing of it in use but what the model itself uses."""
    session = Session(start_kernel(facts_spec(observed, MachineText(source=BUSY))))
    catch_up(session, observed)
    return session.k


def taken_up(name: str, step: str) -> tuple[Kernel, Placed]:
    observed = facts(name, step)
    k = caught_up(observed)
    return k, place(k, observed)


@pytest.mark.parametrize(("name", "step"), every_step()[::7])
def test_as_much_is_free_as_the_machine_had(name: str, step: str) -> None:
    k, placed = taken_up(name, step)
    mine, real = sum(nr_free_pages(zone) for zone in k.zones()), sum(use.free for use in placed.zones)
    assert real - mine == placed.unmatched
    assert placed.unmatched * k.config.page_size <= 2 * MiB, "what the model's boot keeps more than the real one"


def test_an_add_that_was_too_large_for_a_busy_guest_is_foretold() -> None:
    """Done for real it ended in ``add_memory failed``, and left 51200 pages of struct pages behind."""
    left = facts(BUSY, "2-added").vmstat["nr_memmap_pages"]
    machine = MachineText(source=str(archive(BUSY)), step="1-before-add")
    run, k = rehearse_scenario(Scenario(machine=machine, steps=[Plug(size="16000M")]))
    (step,) = run.steps
    assert step.outcome.result == "ENOMEM"
    section = k.config.pages_per_section // 64
    assert abs(step.memory_after.memmap - step.memory_before.memmap - left * k.config.page_size) < 8 * section * 4096


@pytest.mark.parametrize(("name", "step"), every_step()[::11])
def test_what_a_machine_had_in_use_breaks_no_law(name: str, step: str) -> None:
    assert breaches_of(taken_up(name, step)[0]) == []


HUGE = {"HugePages_Total": 10, "HugePages_Free": 6}
"""20 MiB of huge pages of x86_64, 12 MiB of them free."""


def with_huge_pages() -> Facts:
    """A machine with a pool of huge pages, of which some are in use."""
    observed = facts(BUSY, "1-before-add")
    assert observed.nodes is not None
    nodes = [replace(node, meminfo={**node.meminfo, **HUGE}) for node in observed.nodes.nodes]
    return replace(
        observed, meminfo={**observed.meminfo, **HUGE}, nodes=replace(observed.nodes, nodes=tuple(nodes)), pages=()
    )


def test_free_huge_pages_that_a_machine_had_are_dissolved_when_their_block_goes_offline() -> None:
    """As a guest did with ``nr_hugepages`` at 24: its blocks went, since nobody was promised the pages."""
    observed = with_huge_pages()
    k = caught_up(observed)
    place(k, observed)
    assert k.hw.memory.used(Use.HUGETLB_FREE) * k.config.page_size == 12 * MiB
    assert breaches_of(k) == []
    (first, _), *_ = (run[:2] for run in k.hw.memory.owners.runs(0, k.max_pfn) if run[2].use is Use.HUGETLB_FREE)
    dissolve_free_hugetlb_folios(k, first, first + (12 * MiB) // k.config.page_size)
    assert k.hw.memory.used(Use.HUGETLB_FREE) == 0
    assert breaches_of(k) == []


def grounds(run: Run) -> dict[str, str]:
    return {each.what: each.basis for each in run.assumptions}


def offline_last_block(summary: str) -> Run:
    observed = facts(BUSY, "1-before-add")
    told = replace(observed, pages=kpageflags.parse(summary)) if summary else observed
    return rehearse(facts_spec(told, MachineText(source=BUSY)), [Offline(blocks=[1])], observed=told)[0]


def test_where_memory_in_use_lies_is_assumed_and_verdicts_say_so() -> None:
    run = offline_last_block("")
    assert grounds(run)["memory in use"] == "told"
    assert grounds(run)["places of memory in use"] == "assumed"
    assert all(each.settle for each in run.assumptions if each.basis == "assumed")
    (step,) = run.steps
    assert step.outcome.result == "ok"
    assert "places of memory in use" in step.outcome.rests_on


def test_a_page_of_the_kernel_seen_in_a_block_keeps_it_online() -> None:
    run = offline_last_block("memory1\t0x80\t100\t0x8000\t0xffff\n")
    assert grounds(run)["places of memory in use"] == "assumed", "of the other blocks"
    (step,) = run.steps
    assert step.outcome.result == "EBUSY"
    assert step.outcome.rests_on == []


def test_when_every_block_was_looked_at_nothing_is_assumed_of_places() -> None:
    blocks = range(8)
    run = offline_last_block("".join(f"memory{i}\t0x80\t1\t{i << 15:#x}\t{i << 15:#x}\n" for i in blocks))
    assert grounds(run)["places of memory in use"] == "told"


def test_of_a_large_machine_some_blocks_are_looked_at_evenly_spread() -> None:
    blocks = facts(BUSY, "0-before").memory.blocks[:3] * 100
    assert len(kpageflags.looked_at(blocks, 1 << 15)) == 300, "37.5 GiB: all"
    assert len(kpageflags.looked_at(blocks, 1 << 19)) == 300 // 5, "600 GiB: 160 Mi pages, 32 Mi at most"
    assert kpageflags.looked_at((), 1 << 19) == ()


def test_use_that_nobody_saw_is_put_where_nobody_looked() -> None:
    observed = facts(BUSY, "1-before-add")
    free = "memory0\t0x400\t1\t0x100\t0x100\n"
    k = caught_up(observed)
    used = k.hw.memory.used(Use.FREE)
    place(k, replace(observed, pages=kpageflags.parse(free)))
    taken = [(lo, hi) for lo, hi, owner in k.hw.memory.owners.runs(0, 1 << 15) if owner.tag == "the kernel"]
    assert used > k.hw.memory.used(Use.FREE)
    zone = k.nodes[0].zones[ZoneType.DMA32]
    assert all(hi <= zone.start_pfn for _, hi in taken), "of DMA32 the part behind block 0 has room for all"


def test_pages_are_what_the_first_deciding_flag_says() -> None:
    """Bits of include/uapi/linux/kernel-page-flags.h."""
    text = "".join(f"memory8\t{1 << bit:#x}\t1\t0x10\t0x10\n" for bit in (7, 5, 10, 17, 19, 20, 23, 26, 32, 15))
    kinds = [run.kind for run in kpageflags.parse(text)]
    assert kinds[:5] == ["slab", "movable", "free", "huge", "poisoned"]
    assert kinds[5:] == ["hole", "offline", "table", "reserved", "kernel"]
    assert kpageflags.parse(text)[0].span == Span(0x10, 0x11)


@pytest.mark.parametrize("line", ["memory8\t0x80\t1\t0x10\n", "memory8\t0x80\t3\t0x10\t0x11\n", "x\ty\n"])
def test_a_line_that_no_capture_holds_is_named(line: str) -> None:
    with pytest.raises(BadInput, match=r"kpageflags.tsv:1"):
        kpageflags.parse(line)


def test_kinds_add_up_to_what_is_not_free() -> None:
    for use in usage(facts(BUSY, "1-before-add")):
        assert use.movable + use.hugetlb + use.hugetlb_free + use.reclaimable + use.kernel == use.managed - use.free
