"""What a hot-add takes of free memory before it pays, and in which steps a small machine grows large."""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from architectures import DIRECT_MAPPED
from captures import DATA
from kernels import kernel, picture, plug
from memhp.cli.main import main
from memhp.errors import BadInput
from memhp.linux.choices import Arch
from memhp.linux.init import start_kernel
from memhp.linux.mm import users
from memhp.linux.mm.memory_hotplug_add import add_memory
from memhp.linux.state import Kernel
from memhp.scenario import schema
from memhp.scenario.machine import machine_spec
from memhp.scenario.schema import MachineText
from memhp.spans import Span
from memhp.target.model.plan import (
    Plan,
    Wish,
    advice,
    free_bytes,
    largest_safe_step,
    needed,
    plan,
    reserve,
    trial,
    usable,
)
from memhp.target.model.run import rehearse
from memhp.target.model.session import Session
from memhp.units import GiB, KiB, MiB

FEW_TABLES = 4
"""Page tables that lent memory may have saved a step, because it needed the same ones."""

PRESETS = ["x86-vm", "riscv-vm", "arm64-64k-vm"]


def machine(preset: str = "x86-vm", memory: str = "2G") -> MachineText:
    return MachineText(preset=preset, memory=memory)


def session(preset: str = "x86-vm", memory: str = "2G") -> Session:
    return Session(start_kernel(machine_spec(machine(preset, memory))))


def use_up(k: Kernel, left: int) -> None:
    """Leave the kernel `left` bytes that it could still take."""
    users.allocate(k, usable(k) - left, "kernel", "others")
    assert usable(k) == left


# A copy ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", DIRECT_MAPPED)
def test_a_copy_of_a_machine_is_equal_and_goes_its_own_way(arch: Arch) -> None:
    k = kernel(arch)
    before = picture(k)
    copy = deepcopy(k)
    assert picture(copy) == before
    plug(copy, 2 * k.memory_block_size)
    add_memory(copy, 0, 8 * GiB, 2 * k.memory_block_size)
    assert picture(k) == before != picture(copy)


# What is needed ----------------------------------------------------------------------------------------------


def test_128_mib_need_2_mib_for_struct_pages_and_a_table_for_their_direct_map() -> None:
    assert needed(session(), 128 * MiB, Wish()) == 2 * MiB + 4 * KiB


@pytest.mark.parametrize("preset", PRESETS)
def test_with_what_is_needed_a_step_succeeds_and_with_less_it_fails(preset: str) -> None:
    start = session(preset, "4G")
    size = 8 * GiB
    bill = needed(start, size, Wish())
    assert bill is not None
    page = start.k.config.page_size
    for left, succeeds in ((bill + FEW_TABLES * page, True), (bill - page, False)):
        short = deepcopy(start)
        use_up(short.k, left)
        went = trial(short, size, Wish())
        assert went.refusal.startswith("leaves") == succeeds
        assert went.refusal.startswith("ENOMEM") != succeeds


def test_what_the_kernel_could_take_ends_at_the_watermarks() -> None:
    k = session().k
    page = k.config.page_size
    kept = free_bytes(k) - usable(k)
    assert sum(zone.watermark_min for zone in k.zones() if zone.managed) * page <= kept <= reserve(k)


def test_memory_in_movable_is_of_no_use_for_struct_pages() -> None:
    start = session()
    before = usable(start.k)
    after = trial(start, 8 * GiB, Wish(zone="movable")).after
    assert free_bytes(after.k) > free_bytes(start.k)
    assert usable(after.k) < before


def test_free_memory_of_the_contiguous_allocator_is_of_no_use_for_struct_pages() -> None:
    plain = machine_spec(machine("arm64-vm", "1G"))
    plain = replace(plain, config=replace(plain.config, cma=None))
    area = Span(GiB + 512 * MiB, GiB + 768 * MiB)
    whole, cut = (Session(start_kernel(spec)) for spec in (plain, replace(plain, cma=(area,))))
    assert usable(whole.k) - usable(cut.k) == pytest.approx(area.size, rel=0.01)
    assert trial(cut, 48 * GiB, Wish()).refusal == "ENOMEM: no memory for a page of struct pages"


# The largest step --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
def test_one_block_more_than_the_largest_safe_step_is_not_safe(preset: str) -> None:
    start = session(preset)
    use_up(start.k, reserve(start.k) + 64 * MiB)
    block = start.k.memory_block_size
    largest = largest_safe_step(start, 512 * GiB, Wish())
    assert block < largest < 512 * GiB
    assert not trial(start, largest, Wish()).refusal
    assert trial(start, largest + block, Wish()).refusal


def test_no_step_is_safe_on_a_machine_that_has_nothing_left() -> None:
    start = session()
    use_up(start.k, 1 * MiB)
    made = plan(start, 1 * GiB)
    assert (made.largest, made.steps, made.reached) == (0, [], 0)
    assert made.refusal == "ENOMEM: no memory for a page of struct pages"


# The plan ----------------------------------------------------------------------------------------------------


def carried_out(made: Plan, text: MachineText) -> list[str]:
    """How the steps of a plan end when they are rehearsed one after the other, and the laws that broke."""
    steps: list[schema.StepKind] = []
    for step in made.steps:
        steps.append(schema.Plug(size=step.size, at=step.at, driver="dimm"))
        zone: schema.Zone = "movable" if step.zone == "movable" else "kernel"
        steps.append(schema.Online(zone=zone, at=step.at, size=step.size))
    run, _ = rehearse(machine_spec(text), steps)
    return [step.outcome.result for step in run.steps] + [law.law for law in run.laws if not law.held]


@pytest.mark.parametrize("zone", ["kernel", "movable"])
def test_a_guest_of_2_gib_gets_120_gib_in_two_steps_that_succeed(zone: schema.Zone) -> None:
    made = plan(session(), 120 * GiB, Wish(zone=zone))
    assert made.needed is not None and made.needed > made.usable
    assert sum(step.size for step in made.steps) == made.reached == made.total
    assert [step.zone for step in made.steps] == ["kernel", zone]
    assert carried_out(made, machine()) == ["ok"] * 4


def test_a_smaller_kernel_step_would_not_let_the_rest_go_to_movable() -> None:
    made = plan(session(), 120 * GiB, Wish(zone="movable"))
    first = trial(session(), made.steps[0].size - 128 * MiB, Wish())
    assert trial(first.after, 120 * GiB - made.steps[0].size + 128 * MiB, Wish(zone="movable")).refusal


def test_what_fits_is_planned_as_one_step() -> None:
    made = plan(session(), 16 * GiB)
    assert [(step.size, step.at) for step in made.steps] == [(16 * GiB, 4 * GiB)]
    assert made.refusal == ""
    assert advice(session(), 16 * GiB, Wish()) == ""


def test_planning_leaves_the_machine_as_it_is() -> None:
    start = session("riscv-vm", "1G")
    before = picture(start.k)
    plan(start, 64 * GiB)
    assert picture(start.k) == before


@pytest.mark.parametrize(("driver", "expected"), [("dimm", True), ("kmem", True), ("virtio_mem", None)])
def test_struct_pages_in_the_memory_itself_make_one_step_of_it_for_drivers_that_can(
    driver: schema.DriverName, expected: bool | None
) -> None:
    assert plan(session(memory="512M"), 32 * GiB, Wish(driver=driver)).self_hosted is expected


def test_64k_pages_on_arm64_cannot_host_their_own_struct_pages() -> None:
    assert plan(session("arm64-64k-vm"), 32 * GiB).self_hosted is None


def test_a_size_that_is_not_made_of_blocks_is_refused() -> None:
    with pytest.raises(BadInput, match="not made of whole memory blocks of 128 MiB"):
        plan(session(), 130 * MiB)


@settings(max_examples=8)
@given(
    preset=st.sampled_from(PRESETS),
    memory=st.sampled_from(["1G", "2G", "4G"]),
    total=st.integers(1, 128),
    driver=st.sampled_from(["dimm", "virtio_mem"]),
    zone=st.sampled_from(["kernel", "movable", "auto"]),
    short=st.booleans(),
)
def test_a_plan_reaches_its_size_by_steps_that_are_safe_one_after_the_other(
    preset: str, memory: str, total: int, driver: schema.DriverName, zone: schema.Zone, short: bool
) -> None:
    start = session(preset, memory)
    if short:
        use_up(start.k, reserve(start.k) + 32 * MiB)
    wish = Wish(driver=driver, zone=zone)
    made = plan(start, total * GiB, wish)
    assert made.reached == total * GiB
    now = start
    for step in made.steps:
        went = trial(now, step.size, wish._replace(zone="kernel" if step.zone == "kernel" else zone))
        assert (went.refusal, went.at, went.takes, went.leaves) == ("", step.at, step.takes, step.leaves)
        assert step.leaves >= reserve(now.k)
        now = went.after
    assert (made.refusal == "") == (made.largest == made.total)


def test_x86_dies_where_not_even_a_page_table_can_be_had_and_the_rehearsal_says_what_was_missing() -> None:
    text = machine(memory="1G")
    all_of_it = usable(start_kernel(machine_spec(text)))
    steps: list[schema.StepKind] = [
        schema.Allocate(size=all_of_it, kind="kernel"),
        schema.Plug(size="128M", at="8G", expect="BUG"),
    ]
    run, _ = rehearse(machine_spec(text), steps)
    assert [step.as_expected for step in run.steps] == [True, True]
    outcome = run.steps[1].outcome
    assert outcome.reason == "BUG: kernel NULL pointer dereference: no memory for a page table"
    assert outcome.advice == "it takes 2.00 MiB of free memory, and 0 B can be had"


def test_a_wish_for_struct_pages_in_the_memory_itself_is_planned_with_them_there() -> None:
    text = MachineText(preset="x86-vm", memory="512M", boot=schema.Boot(memmap_on_memory="Y"))
    hosted = Session(start_kernel(machine_spec(text)))
    made = plan(hosted, 64 * GiB, Wish(driver="kmem", memmap_on_memory=True))
    assert [step.size for step in made.steps] == [64 * GiB]
    assert made.needed is not None and made.needed < 1 * MiB


def test_a_plan_says_what_it_rests_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Of a machine that was read, as its steps do; a description is its author's own to know."""
    source = DATA / "mirrored-arm64-7.2.txt"
    page = tmp_path / "plan.html"
    main(["rehearse", "--machine", str(source), "--plan", "1G", "--json", "--html", str(page)])
    made = json.loads(capfd.readouterr().out)
    assumed = {each["what"] for each in made["assumptions"] if each["basis"] == "assumed"}
    assert set(made["plan"]["rests_on"]) and set(made["plan"]["rests_on"]) <= assumed
    assert "If what is assumed holds" in page.read_text(encoding="utf-8")
