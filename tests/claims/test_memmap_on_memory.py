"""What the claims about struct pages in the memory itself rest on, and the examples that show each at length."""
# SPDX-License-Identifier: GPL-2.0-or-later

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from memhp.check import check_all
from memhp.claims import memmap_alignment, memmap_on_memory, memmap_rollback, memmap_sections
from memhp.linux.config import configs
from memhp.linux.drivers.base import memory_state
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.memmap_verdicts import MODES, memmap_rows
from memhp.linux.mm.memory_hotplug_memmap import MemmapGeometry
from memhp.linux.mm.memory_hotplug_zone import adjust_present_page_count
from memhp.linux.state import Kernel
from memhp.scenario.load import load
from memhp.scenario.result import Run
from memhp.scenario.schema import Boot, MachineText, Offline, Plug, Scenario, StepKind
from memhp.target.model.run import rehearse_scenario
from memhp.target.model.steps import plug
from memhp.units import GiB, KiB, MiB

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name: str) -> Run:
    return rehearse_scenario(load(EXAMPLES / f"{name}.toml"))[0]


# mom-2, mom-3: the examples ----------------------------------------------------------------------------------


def test_a_guest_of_2_gib_is_dead_after_120_gib_were_plugged_and_not_if_they_host_their_struct_pages() -> None:
    """1920 MiB of struct pages: x86 leaves what it made of them before the memory ran out."""
    short, hosted = example("too-large-a-step"), example("self-hosted")
    assert all(step.as_expected for step in (*short.steps, *hosted.steps))
    assert [law.law for law in short.laws if not law.held] == ["direct-map"]
    assert hosted.ok
    assert short.steps[1].memory_after.free < 64 * MiB
    assert hosted.steps[1].memmap_from == {"the added memory itself": 1920 * MiB}


def test_the_node_that_is_movable_only_has_all_its_struct_pages_on_the_other() -> None:
    run = example("movable-only-node")
    assert run.ok
    assert [step.memmap_from for step in run.steps] == [{"RAM of node 0": 64 * MiB}] * 2
    assert {zone.zone for zone in run.state.zones if zone.node == 1 and zone.present} == {"Movable"}


def test_arm64_of_7_2_says_why_blocks_stay() -> None:
    run = example("arm64-leaf-split")
    assert run.ok
    advised = [step.outcome.advice.split(": ", 1) for step in run.steps[1:]]
    assert [said for said, _ in advised] == [
        "[100000000 108000000] splits a leaf entry in linear map",
        "[138000000 140000000] splits a leaf entry in linear map",
        "Boot memory [a0000000 a8000000] offlining attempted",
    ]
    assert all("one memory block at a time, or booted with rodata=on" in what for _, what in advised[:2])


@pytest.mark.parametrize(
    ("boot", "size", "memmap", "outcome"),
    [
        (Boot(rodata_full=False), "1G", False, "EPERM"),
        (Boot(rodata_full=False), "128M", False, "ok"),
        (Boot(rodata_full=True), "1G", False, "ok"),
        (Boot(memmap_on_memory="Y"), "128M", True, "EPERM"),
        (Boot(memmap_on_memory="N"), "128M", True, "ok"),
    ],
)
def test_what_is_advised_for_blocks_of_arm64_that_stay_helps(boot: Boot, size: str, memmap: bool, outcome: str) -> None:
    machine = MachineText(preset="arm64-vm", profile="linux-7.2", memory="2G", boot=boot)
    steps: list[StepKind] = [
        Plug(size=size, at="4G", online="movable", memmap_on_memory=memmap),
        Offline(blocks=[32], expect=outcome),
    ]
    run, _ = rehearse_scenario(Scenario(machine=machine, steps=steps))
    assert run.ok


LAYOUTS = {
    "auto-movable-dimms": """
        1-15    DMA32    early
        32-47   Normal   early
        48-79   Movable  DIMM 0
        80-111  Movable  DIMM 1
        112-143 Movable  DIMM 2
        144-175 Normal   DIMM 3
        176-207 Normal   DIMM 4
        208-239 Normal   DIMM 5
    """,
    "auto-movable-virtio-mem": """
        1-15    DMA32    early
        32-47   Normal   early
        48-143  Movable  first 12 GiB
        144-144 Normal   next 128 MiB
        145-147 Movable  next 384 MiB
        148-148 Normal   next 128 MiB
        149-151 Movable  next 384 MiB
    """,
}
"""Memory blocks of a VM of 4 GiB at 301 % that grows: what the letter "auto-movable online policy and memory groups"
(June and July 2021, section "Example") shows, with the misprint 144-275 for DIMM 3 set right, and one more DIMM of
"all Normal"."""


@pytest.mark.parametrize("name", LAYOUTS)
def test_auto_movable_at_301_percent_has_the_published_layouts(name: str) -> None:
    run = example(name)
    assert run.ok
    zones = {i: block.zone for block in run.state.blocks for i in range(block.first, block.last + 1)}
    published: dict[int, str | None] = {}
    for row in LAYOUTS[name].split("\n")[1:-1]:
        blocks, zone, _ = row.split(maxsplit=2)
        first, last = map(int, blocks.split("-"))
        published |= dict.fromkeys(range(first, last + 1), zone)
    assert {i: zone for i, zone in zones.items() if i} == published


# mom-5 -------------------------------------------------------------------------------------------------------


def test_every_configuration_in_every_mode_has_a_verdict() -> None:
    rows = list(memmap_rows(configs(), 4 * GiB))
    with_blocks = {(row.profile, row.arch, row.page_size, row.va_bits, row.va_bits_actual, row.mode) for row in rows}
    assert len(with_blocks) == sum(len(MODES[config.memmap_on_memory_rules]) for config in configs())


def test_blocks_of_many_sections_can_host_their_struct_pages_too() -> None:
    """2 GiB on x86: 32 MiB are 16 PMDs and as many pageblocks."""
    numbers = MemmapGeometry(4 * KiB, 2 * MiB, 512, 2 * GiB, 64)
    assert (numbers.vmemmap_size, numbers.memmap_pages) == (32 * MiB, 8192)
    assert not any(each.unmet for rules in ("one-block", "many-blocks") for each in numbers.conditions(rules))


# mom-6 -------------------------------------------------------------------------------------------------------


def test_the_whole_space_is_searched() -> None:
    """Orders 1 to 10, 11 and 13; 5, 5 and 3 block sizes; struct pages of 3 sizes; 3 sets of rules."""
    assert len(set(memmap_alignment.cases())) == (10 * 5 + 11 * 5 + 13 * 3) * 3 * 3


def test_the_answer_tells_how_many_were_searched_and_every_witness() -> None:
    figure = memmap_alignment.remaining_size().figure
    assert figure.startswith("1296 configurations searched: 0 with pageblocks of at most a PMD; 9 with larger ones")
    found = [case.numbers for case in memmap_alignment.cases() if case.misaligned]
    assert {(numbers.struct_page_size, numbers.block_size) for numbers in found} == {
        (64, 128 * MiB),
        (80, 512 * MiB),
        (56, 1 * GiB),
    }
    for told in ("126 MiB are not whole pageblocks of 4 MiB", "502 MiB are", "1010 MiB are"):
        assert figure.count(told) == 1


def test_with_pageblocks_of_at_most_a_pmd_nothing_is_misaligned() -> None:
    assert not [case for case in memmap_alignment.cases() if case.misaligned and case.huge_pages]


def test_without_huge_pages_126_of_128_mib_are_no_whole_pageblocks() -> None:
    """MAX_PAGE_ORDER is 10 on x86: pageblocks of 4 MiB, PMDs of 2 MiB."""
    found = [case for case in memmap_alignment.cases() if case.misaligned and case.numbers.struct_page_size == 64]
    assert {(case.numbers.block_size, case.numbers.pageblock_nr_pages) for case in found} == {(128 * MiB, 1024)}
    assert {case.accepted for case in found if not case.numbers.force} == {False}
    assert {case.numbers.memmap_pages for case in found if case.numbers.force} == {1024}


# mom-7 -------------------------------------------------------------------------------------------------------


def laws_broken_by(*sections: int) -> list[str]:
    """The laws that do not hold after these sections of a block of 16 went."""
    k, before, start = memmap_sections.added_block()
    for section in sections:
        memmap_sections.take_section(k, start, section)
    return sorted({breach.law for breach in check_all(k, before)})


def test_a_block_of_many_sections_can_go_from_the_last_to_the_first() -> None:
    assert laws_broken_by(*range(15, 0, -1)) == []


@pytest.mark.parametrize("others", [(), (1, 2, 3), tuple(range(1, 15))])
def test_the_first_section_cannot_go_while_others_are_left(others: tuple[int, ...]) -> None:
    assert laws_broken_by(*others, 0) == ["memmap-storage"]


def test_the_kernel_takes_no_part_of_a_block() -> None:
    run = example("first-section")
    assert run.ok
    assert run.steps[1].blocks_before == run.steps[1].blocks_after


# mom-9 -------------------------------------------------------------------------------------------------------


def hosting_block() -> tuple[Kernel, int]:
    mine = memmap_rollback.session("linux-7.2")
    plug(mine, Plug(size=128 * MiB, node=1))
    return mine.k, 32


@pytest.mark.parametrize("profile", memmap_on_memory.KERNELS)
def test_no_failure_to_go_online_or_offline_changes_a_counter(profile: str) -> None:
    found = dict(memmap_rollback.changes(profile))
    assert {"MEM_GOING_ONLINE", "MEM_GOING_OFFLINE", "kernel page", "pinned page"} <= set(found)
    assert set(found.values()) == {"as before"}


def test_only_kernels_that_have_a_notifier_can_be_refused_by_it() -> None:
    asked = {profile: set(dict(memmap_rollback.changes(profile))) for profile in memmap_on_memory.KERNELS}
    assert {profile for profile in asked if "MEM_PREPARE_ONLINE" in asked[profile]} == {"linux-6.12"}
    assert {profile for profile in asked if "NODE_ADDING_FIRST_MEMORY" in asked[profile]} == {"linux-7.2"}


def test_a_kernel_that_forgot_to_account_back_would_be_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    k, block = hosting_block()
    state_store(k, block, "online_movable")

    def only_down(k: Kernel, pfn: int, group: Any, nr_pages: int) -> None:
        if nr_pages < 0:
            adjust_present_page_count(k, pfn, group, nr_pages)

    monkeypatch.setattr(memory_state, "adjust_present_page_count", only_down)
    with memmap_rollback.refusing(k, "MEM_GOING_OFFLINE"):
        assert memmap_rollback.end_of(k, partial(state_store, k, block, "offline")) == "otherwise"


def test_a_change_that_succeeds_is_no_failure() -> None:
    k, block = hosting_block()
    assert memmap_rollback.end_of(k, partial(state_store, k, block, "online_movable")) == "succeeds"


@pytest.mark.parametrize("profile", memmap_on_memory.KERNELS)
def test_an_add_that_runs_out_of_memory_leaves_no_other_counters(profile: str) -> None:
    """Page tables of the direct map stay; x86 dies where there is none to be had for them."""
    ends = [end for _, end in memmap_rollback.adds(profile)]
    assert len(ends) > 5
    assert set(ends) == {"as before", "less free", "dies"}
