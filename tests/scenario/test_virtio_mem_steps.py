"""What becomes of a virtio-mem device in a scenario besides its size: unbinding, sleep, proximity, faults, hours."""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from memhp.cli.rehearse import rehearse
from memhp.errors import BadInput
from memhp.scenario import result
from memhp.scenario.load import load, loads
from memhp.target.model.run import rehearse_scenario
from memhp.units import GiB, MiB

DAY = Path(__file__).parent.parent.parent / "examples" / "virtio-mem-day.toml"
BOOT = 'preset = "x86-vm"\nboot = { memhp_default_state = "online_movable" }\n'
DEVICE = 'do = "virtio-mem", size = "4G", at = "8G", requested = "256M"'
PERSISTENT = f'{DEVICE}, features = ["acpi-pxm", "persistent-suspend"]'


def run(*steps: str, machine: str = BOOT) -> result.Run:
    """Rehearse steps that are written as inline tables' contents."""
    text = "steps = [" + ", ".join(f"{{ {step} }}" for step in steps) + "]\n"
    return rehearse_scenario(loads(f"{text}[machine]\n{machine}"))[0]


def sizes(done: result.Run) -> list[int]:
    """MiB plugged after each step."""
    return [step.devices[0].plugged // MiB for step in done.steps]


# Unbind and bind ---------------------------------------------------------------------------------------------


def test_an_unbound_device_keeps_its_memory_and_hears_of_nothing() -> None:
    done = run(DEVICE, 'do = "unbind"', 'do = "resize", to = 0, wait = 3600', 'do = "bind", expect = "EBUSY"')
    assert done.ok
    assert sizes(done) == [256] * 4
    assert [step.devices[0].bound for step in done.steps] == [True, False, False, False]
    assert "vm0: no driver is bound to hear of it" in done.steps[2].notes
    assert {each.reason for each in done.steps[2].devices[0].stuck} == {"no driver is bound"}


def test_a_partly_plugged_block_refuses_to_go_offline_once_the_driver_is_unbound() -> None:
    done = run(
        DEVICE,
        'do = "resize", to = "130M"',
        'do = "offline", at = "0x208000000", size = "128M"',
        'do = "online", at = "0x208000000", size = "128M", zone = "movable"',
        'do = "unbind"',
        'do = "offline", at = "0x208000000", size = "128M", expect = "EBUSY"',
        'do = "offline", at = "0x200000000", size = "128M"',
    )
    assert done.ok
    assert done.steps[5].outcome.reason == "unmovable page"


def test_the_driver_starts_anew_when_all_memory_is_removed() -> None:
    done = run(DEVICE, 'do = "resize", to = 0', 'do = "unbind"', 'do = "bind"', 'do = "resize", to = "512M"')
    assert done.ok
    assert sizes(done) == [256, 0, 0, 0, 512]


# Sleep -------------------------------------------------------------------------------------------------------


def test_suspend_to_ram_by_feature_to_idle_always_hibernation_never() -> None:
    ram, idle, disk = 'do = "suspend"', 'do = "suspend", state = "freeze"', 'do = "suspend", state = "disk"'
    without = run(DEVICE, f'{ram}, expect = "EPERM"', idle, f'{disk}, expect = "EPERM"')
    assert without.ok
    with_it = run(PERSISTENT, ram, idle, f'{disk}, expect = "EPERM"')
    assert with_it.ok
    assert sizes(without) == sizes(with_it) == [256] * 4


def test_a_size_requested_while_the_machine_sleeps_is_reached_when_it_wakes_up() -> None:
    done = run(PERSISTENT, 'do = "suspend", requested = { vm0 = "1G" }')
    assert done.ok
    assert sizes(done) == [256, 1024]


def test_hibernation_without_the_driver_loses_memory_and_breaks_a_law() -> None:
    done = run(DEVICE, 'do = "unbind"', 'do = "suspend", state = "disk"')
    assert done.steps[2].devices[0].plugged == 0
    assert not done.ok


def test_a_kernel_before_6_10_does_not_sleep_at_all() -> None:
    done = run(DEVICE, 'do = "suspend", state = "freeze", expect = "EPERM"', machine=f'{BOOT}profile = "linux-5.13"\n')
    assert done.ok


# Proximity ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("proximity", "device", "node"),
    [
        ("", "node = 1", 1),
        ("proximity = [4, 9]\n", "node = 9", 1),
        ("proximity = [9, 4]\n", "node = 9", 0),
        ("proximity = []\n", "node = 1", 0),
        ("proximity = [4, 9]\n", 'node = 9, features = ["unplugged-inaccessible"]', 0),
    ],
)
def test_memory_belongs_to_the_node_of_the_proximity_domain_else_of_its_address(
    proximity: str, device: str, node: int
) -> None:
    done = run(f"{DEVICE}, {device}", machine=f"{BOOT}nodes = 2\n{proximity}")
    assert done.ok
    assert done.steps[0].devices[0].node == node
    assert {block.node for block in done.state.blocks if block.start >= 8 * GiB} == {node}


def test_without_a_table_the_node_is_that_of_boot_memory_nearby() -> None:
    memory = 'memory = [{ size = "1G", node = 1 }, { size = "1G", node = 0 }]\n'
    done = run(f"{DEVICE}, node = 0", machine=f"{BOOT}nodes = 2\n{memory}proximity = []\n")
    assert done.steps[0].devices[0].node == 1


# Faults ------------------------------------------------------------------------------------------------------


def test_faults_may_come_later_and_speak_of_single_blocks() -> None:
    fault = 'faults = [{ request = "UNPLUG", at = "0x208000000", size = "2M", count = 2, answer = "BUSY" }]'
    done = run(DEVICE, f'do = "resize", to = 0, {fault}, expect = "ETXTBSY"', 'do = "wait", seconds = 200')
    assert done.steps[1].as_expected
    assert sizes(done) == [256, 256, 0]


def test_a_usable_region_that_shrinks_is_a_fault_like_others() -> None:
    fault = 'faults = [{ request = "PLUG", first = 2, usable = "384M" }]'
    done = run(DEVICE, f'do = "resize", to = "1G", {fault}, expect = "EINVAL"')
    assert done.ok
    assert sizes(done) == [256, 512]
    assert done.steps[1].devices[0].usable == 384 * MiB


@pytest.mark.parametrize(
    ("steps", "where"),
    [
        (['do = "unbind"'], "steps[0].device"),
        ([DEVICE, 'do = "bind"'], "steps[1].device"),
        ([DEVICE, 'do = "unbind"', 'do = "unbind"'], "steps[2].device"),
        ([DEVICE, 'do = "suspend", requested = { vm7 = "1G" }'], "steps[1].requested.vm7"),
        ([PERSISTENT, 'do = "suspend", requested = { vm0 = "1M" }'], "steps[1].requested.vm0"),
        ([DEVICE, 'do = "resize", to = 0, faults = [{ size = "2M" }]'], "steps[1].faults[0].at"),
        ([f"{DEVICE}, node = 3"], "steps[0].node"),
    ],
)
def test_what_cannot_be_meant_is_told_with_its_key(steps: list[str], where: str) -> None:
    with pytest.raises(BadInput) as caught:
        run(*steps)
    assert where in caught.value.where


# Zones -------------------------------------------------------------------------------------------------------


def test_a_device_grows_into_zones_by_the_auto_movable_policy_block_by_block() -> None:
    """As published for a VM of 4 GiB at 301 %: 12 GiB Movable, then one block of four in a kernel zone."""
    boot = 'online_policy = "auto-movable", auto_movable_ratio = 301, memhp_default_state = "online"'
    ram = 'memory = [{ start = "1M", size = "2047M" }, { start = "4G", size = "2G" }]'
    device = 'do = "virtio-mem", size = "24G", at = "8G", requested = "12G"'
    done = run(
        device,
        'do = "resize", to = "13G"',
        'do = "resize", to = "6G"',
        machine=f'preset = "x86-vm"\nboot = {{ {boot} }}\n{ram}\n',
    )
    assert done.ok
    grown = [(each.last - each.first + 1, each.zone) for each in done.steps[1].blocks_after if each.start >= 8 * GiB]
    assert grown == [(96, "Movable"), (1, "Normal"), (3, "Movable"), (1, "Normal"), (3, "Movable")]
    left = [(each.last - each.first + 1, each.zone) for each in done.steps[2].blocks_after if each.start >= 8 * GiB]
    assert left == [(46, "Movable"), (1, "Normal"), (1, "Normal")]


# Hours, and what stays page by page --------------------------------------------------------------------------


def test_a_day_of_growth_pressure_and_shrinking_goes_as_the_example_says() -> None:
    done, _ = rehearse_scenario(load(DAY))
    assert done.ok
    assert sizes(done) == [2048, 8192, 8192, 8192, 3586, 3586, 2, 2, 2, 0, 0]
    assert [each.owner for each in done.steps[6].devices[0].held] == ["pinned:rdma"]


def test_what_stays_of_a_shrink_is_told_page_by_page_in_the_terminal_and_in_json() -> None:
    text = CliRunner().invoke(rehearse, [str(DAY)], env={"COLUMNS": "200"}, catch_exceptions=False).stdout
    assert "note: vm0: memory127 (Movable) keeps 2 MiB at 0x3ffe00000: PFN 0x3ffe00-0x3ffe01 pinned:rdma\n" in text
    told = json.loads(CliRunner().invoke(rehearse, [str(DAY), "--json"], catch_exceptions=False).stdout)
    (device,) = told["steps"][4]["devices"]
    assert sum(each["size"] for each in device["stuck"]) == device["plugged"] == 3586 * MiB
    assert [(each["block"], each["size"] // MiB, each["zone"]) for each in device["stuck"]] == [
        (64, 3456, "Movable"),
        (91, 46, "Movable"),
        (91, 82, "Movable"),
        (127, 2, "Movable"),
    ]
    assert device["stuck"][3]["held"][0] == {"start": 0x3_FFE0_0000, "size": 8192, "owner": "pinned:rdma"}


def test_ranges_beyond_the_first_are_counted_in_the_terminal_and_all_in_the_result() -> None:
    places = [0x2_0000_0000 + at * 8 * MiB for at in range(12)]
    pins = [f'do = "allocate", size = "4K", kind = "pinned", tag = "p{at:x}", at = "{at:#x}"' for at in places]
    done = run(DEVICE, *pins, 'do = "resize", to = 0, expect = "EBUSY"')
    assert done.ok
    last = done.steps[-1]
    assert [each.start for each in last.devices[0].stuck] == places
    assert "vm0: and 4 more such ranges, all of them in --json" in last.notes


def test_memory_that_unplug_online_leaves_alone_says_so() -> None:
    offline = 'preset = "x86-vm"\n'
    done = run(
        f"{DEVICE}, unplug_online = false",
        'do = "online", at = "0x200000000", size = "128M", zone = "movable"',
        'do = "resize", to = 0',
        machine=offline,
    )
    (device,) = done.steps[2].devices
    assert device.plugged == 128 * MiB
    assert [(each.block, each.reason) for each in device.stuck] == [(64, "online, which unplug_online=0 leaves alone")]
