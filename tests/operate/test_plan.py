"""``memhp plan``: what is foretold of each block is what the kernel of a capture then showed of it."""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from captures import DATA, archive, facts, open_capture
from memhp.cli.main import main
from memhp.errors import BadInput
from memhp.facts.kpageflags import KEPT
from memhp.facts.open_source import open_source
from memhp.facts.sysroot import write_sysroot
from memhp.operate import plan as plans
from memhp.operate import plan_text
from memhp.operate.blocks import read_blocks
from memhp.operate.plan import Goal, HostPlan, Zone, state_of
from memhp.operate.why import why
from memhp.target.seen.inferred import read_facts

MIB = 1 << 20
KMEM = ("arm64-6.12.107+deb13-arm64-kmem-map-ram-mom0", "riscv64-6.12.107+deb13-riscv64-kmem-map-ram-mom0",
        "x86_64-6.12.107+deb13-cloud-amd64-kmem-map-ram-mom0")  # fmt: skip
# The last of them brought its blocks online as it added them.
ADDED, ONLINE, OFFLINED = "2-kmem-added", "3-online", "4-offlined"


def planned(name: str, step: str, goal: Goal, most: int | None = None) -> HostPlan:
    return plans.plan(open_capture(name)[step], facts(name, step), goal, most=most)


def differences(name: str, before: str, after: str) -> dict[int, plans.BlockState]:
    """The blocks that another state or zone is shown of at a later step, with what is shown then."""
    was = {block.index: state_of(block) for block in facts(name, before).memory.blocks}
    now = {block.index: state_of(block) for block in facts(name, after).memory.blocks}
    return {index: state for index, state in now.items() if was.get(index) != state}


@pytest.mark.parametrize("name", KMEM[:2])
def test_memory_that_a_kernel_brought_online_was_foretold_in_that_zone(name: str) -> None:
    came = differences(name, ADDED, ONLINE)
    (zone,) = {state.zone for state in came.values()}
    how: Zone = "movable" if zone == "Movable" else "kernel"
    size = len(came) * facts(name, ADDED).memory.block_size
    plan = planned(name, ADDED, plans.grow(facts(name, ADDED), size, how))
    assert plan.verdict == "reached"
    assert {step.block: step.after for step in plan.steps} == came


@pytest.mark.parametrize("name", KMEM)
def test_memory_that_a_kernel_took_offline_was_foretold_to_go(name: str) -> None:
    went = differences(name, ONLINE, OFFLINED)
    about = f"{min(went)}-{max(went)}"
    plan = planned(name, ONLINE, plans.evacuate(open_capture(name)[ONLINE], facts(name, ONLINE), about))
    assert plan.verdict == "reached"
    assert {step.block: step.after for step in plan.steps} == went
    assert plan.passed_over == []


def test_no_more_blocks_are_touched_than_was_said() -> None:
    plan = planned(KMEM[0], ONLINE, plans.shrink(facts(KMEM[0], ONLINE), 512 * MIB), most=2)
    assert (plan.verdict, plan.reached, len(plan.steps)) == ("short", 256 * MIB, 2)


def test_memory_in_a_kernel_zone_moves_to_zone_movable_in_two_writes() -> None:
    name = "x86_64-6.12.107+deb13-cloud-amd64-pc-dimm-default"
    source, seen = open_capture(name)["2-online"], facts(name, "2-online")
    blocks = [block.index for block in seen.memory.blocks if block.zone == "Normal"]
    plan = planned(name, "2-online", plans.move(source, seen, str(blocks[-1]), "movable"))
    assert [(step.write, step.after.state, step.after.zone) for step in plan.steps] == [
        ("offline", "offline", ""), ("online_movable", "online", "Movable"),
    ]  # fmt: skip


def test_one_dimm_of_two_is_evacuated_by_the_name_that_acpi_gave_it(tmp_path: Path) -> None:
    name, step = "x86_64-6.12.117+deb13-cloud-amd64-dimm-numa2-movablenode-kaslr", "2-dimm-on-node0"
    seen = facts(name, step)
    write_sysroot(seen, tmp_path)
    dimms = {"PNP0C80:00": range(32, 36), "PNP0C80:01": range(36, 38)}
    for at, (dimm, blocks) in enumerate(dimms.items()):
        device = tmp_path / "sys/devices/LNXSYSTM:00" / dimm
        device.mkdir(parents=True)
        (device / "path").write_text(f"\\_SB_.MHPC.MP0{at}\n")
        bus = tmp_path / "sys/bus/acpi/devices"
        bus.mkdir(parents=True, exist_ok=True)
        (bus / dimm).symlink_to(device)
        for index in blocks:
            (tmp_path / f"sys/devices/system/memory/memory{index}/firmware_node").symlink_to(device)
    source = open_source(tmp_path)
    for dimm, blocks in dimms.items():
        plan = plans.plan(source, seen, plans.evacuate(source, seen, dimm))
        assert (plan.verdict, sorted(step.block for step in plan.steps)) == ("reached", list(blocks))
    assert {each.added_by for each in read_blocks(source).ranges if each.first >= 32} == {
        f"acpi_memhotplug {dimm}" for dimm in dimms
    }


def test_a_refusal_by_the_model_that_the_machines_pages_do_not_bear_out_says_so(tmp_path: Path) -> None:
    name, step = "x86_64-6.12.117+deb13-cloud-amd64-dimm-numa2-movablenode-kaslr", "2-dimm-on-node0"
    (refused,) = planned(name, step, plans.evacuate(open_capture(name)[step], facts(name, step), "10")).passed_over
    assert refused == "10: EBUSY, failure to isolate range on the model, which has the lowest pages of each zone in use"
    write_sysroot(facts(name, step), tmp_path)
    free = f"memory10\t{1 << KEPT['BUDDY']:#x}\t32768\t0x50000\t0x57fff\n"
    (tmp_path / "kpageflags.tsv").write_text(free)
    source = open_source(tmp_path)
    seen = read_facts(source)
    (refused,) = plans.plan(source, seen, plans.evacuate(source, seen, "10")).passed_over
    assert "on the model" in refused
    assert why(source, "10").verdict == "goes"


@pytest.mark.parametrize(("full", "first"), [("Normal", "DMA32"), ("DMA32", "Normal")])
def test_where_nothing_shows_pages_blocks_of_the_zone_with_less_of_the_kernel_go_first(full: str, first: str) -> None:
    seen = facts("x86_64-6.12.107+deb13-cloud-amd64-pc-dimm-default", "2-online")
    zones = tuple(
        replace(zone, free=0 if zone.name == full else zone.managed, pagesets=()) if zone.managed else zone
        for zone in seen.zones
    )
    goal = plans.shrink(replace(seen, zones=zones), 256 * MIB)
    assert goal.blocks[0].zone == first


def test_blocks_that_are_passed_over_for_one_reason_are_told_together() -> None:
    plan = planned(KMEM[0], ONLINE, plans.shrink(facts(KMEM[0], ONLINE), 256 * MIB))
    passed = [f"{block}: EBUSY, failure to isolate range" for block in (9, 8, 7, 3)]
    passed += ["0: EINVAL, memory holes", "what somebody wrote"]
    text = plan_text.text_of(msgspec.structs.replace(plan, passed_over=passed))
    told = " ".join(text.split())
    assert "3, 7–9: EBUSY, failure to isolate range; 0: EINVAL, memory holes" in told
    assert "what somebody wrote" in told


def test_a_node_is_named_as_any_memory_is(tmp_path: Path) -> None:
    seen = facts("x86_64-6.12.117+deb13-cloud-amd64-dimm-numa2-movablenode-kaslr", "2-dimm-on-node0")
    write_sysroot(seen, tmp_path)
    source = open_source(tmp_path)
    of_node = {block.index for block in seen.memory.blocks if 1 in block.nodes}
    assert {block.index for block in plans.move(source, seen, "node1", "kernel").blocks} == set(range(32, 36))
    assert {each.block for each in why(source, "node1").blocks} == of_node


def test_a_size_that_no_blocks_make_and_a_node_that_is_not_there_are_refused() -> None:
    seen, source = facts(KMEM[0], ONLINE), open_capture(KMEM[0])[ONLINE]
    with pytest.raises(BadInput, match="not made of whole memory blocks"):
        plans.shrink(seen, 100 * MIB)
    with pytest.raises(BadInput, match="no memory block is on node7"):
        plans.evacuate(source, seen, "node7")


def test_what_is_written_is_the_document_and_falling_short_is_exit_code_1(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_sysroot(facts(*("x86_64-6.12.107+deb13-cloud-amd64-pc-dimm-default", "2-online")), tmp_path / "root")
    args = ["plan", "--sysroot", str(tmp_path / "root"), "--shrink-by", "64G", "--out", str(tmp_path / "plan.json")]
    assert main([*args, "--json"]) == 1
    shown = json.loads(capfd.readouterr().out)
    assert shown == json.loads((tmp_path / "plan.json").read_text())
    assert shown["verdict"] == "short"
    assert shown["reached"] == sum(step["write"] == "offline" for step in shown["steps"]) * 128 * MIB


@pytest.mark.parametrize(
    ("wish", "end", "code"),
    [
        (["--shrink-by", "256M"], "2 steps to 256 MiB, as wanted.", 0),
        (["--shrink-by", "1G", "--at-most", "1"], "1 step to 128 MiB of 1 GiB: no more blocks were to be touched.", 1),
        (["--grow-by", "1G"], "No step to 1 GiB: no memory block is offline.", 1),
        (["--move", "40", "--zone", "kernel"], "There is nothing to do.", 0),
    ],
)
def test_the_last_line_says_how_far_the_steps_go_and_why_no_further(
    wish: list[str], end: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "--machine", f"{archive(KMEM[2])}/0-pmem-raw", *wish]) == code
    assert capsys.readouterr().out.splitlines()[-1] == end


def test_a_machine_that_is_not_modelled_is_told_so(capfd: pytest.CaptureFixture[str]) -> None:
    name = "s390x-6.12.107+deb13-s390x-boot-only"
    step = next(iter(open_capture(name)))
    assert main(["plan", "--machine", f"{archive(name)}/{step}", "--shrink-by", "256M"]) == 2
    told = capfd.readouterr().err
    assert told.startswith("memhp: ")
    assert told.count(f"{name}.tar.xz/{step}") == 1
    assert "machine.source" not in told  # there is no such key where a plan is asked for


def test_a_plan_is_for_the_blocks_that_a_machine_shows_whatever_the_model_knows_besides() -> None:
    """util-linux's dump of a machine has no /proc/iomem, and shows ``none`` as the zone of its last block."""
    source = open_source(DATA / "lsmem" / "x86_64-16g.tar.bz2")
    seen = read_facts(source)
    assert seen.memory.blocks[-1].zone == "Normal"
    made = plans.plan(source, seen, plans.evacuate(source, seen, "128-132"))
    assert made.verdict == "reached"
    assert made.machine == plans.machine_state(source)
    assert made.machine.blocks[-1] == plans.BlockState(135, "online", "")
    assert {step.before for step in made.steps} <= set(made.machine.blocks)
