"""Virtio-mem devices in scenarios: sizes reached and not reached, what holds the rest, faults, time."""
# SPDX-License-Identifier: GPL-2.0-or-later

from contextlib import nullcontext
from pathlib import Path

import msgspec
import pytest

from captures import archive
from memhp.errors import BadInput
from memhp.scenario import result
from memhp.scenario.load import load, loads
from memhp.target.model.run import rehearse_scenario
from memhp.units import GiB, MiB

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "virtio-mem.toml"
MACHINE = """
[machine]
preset = "x86-vm"
boot = { memhp_default_state = "online_movable" }
"""


def run(*steps: str, machine: str = MACHINE) -> result.Run:
    """Rehearse steps that are written as inline tables' contents, such as ``do = "wait", seconds = 1``."""
    scenario = loads("steps = [" + ", ".join(f"{{ {step} }}" for step in steps) + "]\n" + machine)
    return rehearse_scenario(scenario)[0]


def last(done: result.Run) -> result.VirtioMemDevice:
    """The device at the end."""
    return done.steps[-1].devices[-1]


DEVICE = 'do = "virtio-mem", size = "4G", at = "8G"'


def test_the_example_goes_as_it_says() -> None:
    done, _ = rehearse_scenario(load(EXAMPLE))
    assert done.ok
    plugged = [step.devices[0].plugged for step in done.steps]
    assert plugged == [each * MiB for each in (0, 512, 1024, 1030, 1030, 128, 2, 2, 0)]
    stuck = done.steps[6]
    assert stuck.devices[0].held == [result.Held(start=0x2_0400_0000, size=MiB, owner="pinned:dma")]
    assert "vm0: held by pinned:dma, 256 pages, the first at 0x204000000" in stuck.notes


def test_a_run_with_devices_prints_as_json_and_back() -> None:
    done = run(DEVICE, 'do = "resize", to = "1G"')
    assert msgspec.json.decode(msgspec.json.encode(done), type=result.Run) == done


def test_sizes_are_reached_one_after_the_other_and_the_laws_hold() -> None:
    done = run(DEVICE, *(f'do = "resize", to = "{size}M"' for size in (512, 6, 300, 0)))
    assert done.ok
    assert [step.devices[0].plugged // MiB for step in done.steps] == [0, 512, 6, 300, 0]


def test_a_device_may_ask_for_memory_from_the_start() -> None:
    device = last(run(f'{DEVICE}, requested = "256M"'))
    assert (device.plugged, device.mode, device.unit, device.requests) == (256 * MiB, "sub-block", 2 * MiB, 2)


def test_what_cannot_be_reached_ends_in_the_errno_that_stopped_the_driver() -> None:
    offline = '[machine]\npreset = "x86-vm"\n'
    done = run(DEVICE, 'do = "resize", to = "2G"', machine=offline)
    assert done.steps[1].outcome.result == "ENOSPC"
    assert (last(done).plugged, last(done).offline) == (GiB, GiB)
    assert done.steps[1].outcome.advice == "online the memory blocks that were added"


def test_blocks_brought_online_by_hand_let_the_driver_go_on() -> None:
    offline = '[machine]\npreset = "x86-vm"\n'
    online = 'do = "online", zone = "movable", at = "8G", size = "1G"'
    done = run(DEVICE, 'do = "resize", to = "2G", expect = "ENOSPC"', online, machine=offline)
    assert done.ok
    assert last(done).plugged == 2 * GiB


def test_memory_in_use_is_named_owner_by_owner() -> None:
    done = run(
        f'{DEVICE}, requested = "256M"',
        'do = "allocate", size = "8K", kind = "pinned", tag = "dma", at = "0x200000000"',
        'do = "allocate", size = "4M", kind = "pinned", tag = "gpu", at = "0x208000000"',
        'do = "resize", to = 0, expect = "EBUSY", wait = 200',
    )
    assert done.ok
    assert [note for note in done.steps[-1].notes if "held by" in note] == [
        "vm0: held by pinned:dma, 2 pages, the first at 0x200000000",
        "vm0: held by pinned:gpu, 1024 pages, the first at 0x208000000",
    ]
    assert last(done).plugged == 6 * MiB


def test_the_driver_tries_again_while_time_passes() -> None:
    steps = (
        f'{DEVICE}, faults = [{{ request = "PLUG", answer = "BUSY" }}]',
        'do = "resize", to = "1G", wait = 49, expect = "ETXTBSY"',
        'do = "wait", seconds = 1.0',
    )
    assert [step.devices[0].plugged for step in run(*steps).steps] == [0, 0, GiB]


def busy(count: str, wait: str) -> tuple[str, str]:
    """A device that is always busy, or so many times, and is given time."""
    fault = f'faults = [{{ request = "PLUG", answer = "BUSY"{count} }}]'
    return f"{DEVICE}, {fault}", f'do = "resize", to = "1G", {wait}'


def test_retries_of_decades_are_counted_and_come_to_the_same_as_in_small_steps() -> None:
    """The driver tries again after 50, 100 and 200 s, and every 300 s from then on."""
    device, resize = busy(", count = 1000000000", 'wait = 1000000000, expect = "ETXTBSY"')
    done = run(device, resize)
    assert done.ok
    assert (last(done).plugged, last(done).requests) == (0, 1 + 3 + (10**9 - 350) // 300)
    device, resize = busy(", count = 1000000000", 'wait = 10000, expect = "ETXTBSY"')
    whole = run(device, resize)
    small = run(device, 'do = "resize", to = "1G", wait = 0, expect = "ETXTBSY"', *['do = "wait", seconds = 500'] * 20)
    assert last(small).requests == last(whole).requests == 1 + 3 + (10_000 - 350) // 300


def test_a_device_that_is_busy_a_thousand_times_has_its_memory_after_a_thousand_retries() -> None:
    enough, short = (run(*busy(", count = 1000", f"wait = {seconds}")) for seconds in (350 + 997 * 300, 997 * 300))
    assert (last(enough).plugged, last(short).plugged) == (GiB, 0)


@pytest.mark.parametrize(
    ("fault", "outcome", "plugged"),
    [
        ('request = "PLUG", first = 3, answer = "ERROR"', "EINVAL", 256 * MiB),
        ('request = "PLUG", answer = "NACK", count = 3', "ok", GiB),
        ('request = "PLUG", answer = "NACK", count = 1000', "BUG", 0),
        ('request = "PLUG", first = 3, requested = "128M"', "ok", 128 * MiB),
        ("delay = 2.5", "ok", GiB),
    ],
)
def test_faults_of_the_device_come_to_what_the_driver_makes_of_them(fault: str, outcome: str, plugged: int) -> None:
    done = run(f"{DEVICE}, faults = [{{ {fault} }}]", 'do = "resize", to = "1G"')
    assert done.steps[1].outcome.result == outcome
    assert last(done).plugged == plugged
    assert last(done).broken == (outcome == "EINVAL")
    assert all(law.held for law in done.laws)


def test_big_blocks_come_and_go_whole() -> None:
    done = run(f"{DEVICE}, big_blocks = true", 'do = "resize", to = "200M"')
    assert (last(done).mode, last(done).plugged) == ("big-block", 128 * MiB)


def test_two_devices_are_kept_apart() -> None:
    other = 'do = "virtio-mem", device = "vm1", size = "1G", requested = "256M"'
    done = run(DEVICE, other, 'do = "resize", to = "128M"', 'do = "resize", device = "vm1", to = 0')
    assert [device.plugged for device in done.steps[-1].devices] == [128 * MiB, 0]
    assert done.ok


@pytest.mark.parametrize(
    ("steps", "where"),
    [
        (['do = "resize", to = "1G"'], "steps[0].device"),
        ([DEVICE, 'do = "resize", to = "8G"'], "steps[1].to"),
        ([DEVICE, 'do = "resize", to = "1M"'], "steps[1].to"),
        ([DEVICE, DEVICE], "steps[1].device"),
        (['do = "virtio-mem", size = "0"'], "steps[0].size"),
        (['do = "virtio-mem", size = "1G", block_size = "3M"'], "steps[0].block_size"),
        (['do = "virtio-mem", size = "1G", node = 7'], "steps[0].node"),
        (['do = "virtio-mem", size = "1G", at = "4G"'], "steps[0].at"),
        ([f"{DEVICE}, faults = [{{ count = 0 }}]"], "steps[0].faults[0].count"),
    ],
)
def test_what_cannot_be_meant_is_told_with_its_key(steps: list[str], where: str) -> None:
    with pytest.raises(BadInput) as caught:
        run(*steps)
    assert where in caught.value.where


@pytest.mark.parametrize(("release", "has"), [("5.17", False), ("5.18", True)])
def test_arm64_has_the_driver_since_5_18(release: str, has: bool) -> None:
    """drivers/virtio/Kconfig, by "drivers/virtio: Enable virtio mem for ARM64"."""
    machine = f'[machine]\npreset = "arm64-vm"\nprofile = "{release}"\n'
    for step in ('do = "virtio-mem", size = "1G"', 'do = "plug", size = "1G", driver = "virtio_mem"'):
        with nullcontext() if has else pytest.raises(BadInput, match="no virtio-mem driver for arm64"):
            run(step, machine=machine)


def test_loongarch_has_no_driver() -> None:
    machine = '[machine]\npreset = "loongarch-vm"\n'
    with pytest.raises(BadInput, match="no virtio-mem driver for loongarch64") as caught:
        run('do = "plug", size = "1G", driver = "virtio_mem"', machine=machine)
    assert caught.value.where.endswith("driver")


def test_a_machine_that_was_seen_with_a_device_can_get_it_again() -> None:
    name = "x86_64-6.12.107+deb13-cloud-amd64-virtio-mem-default"
    device = 'do = "virtio-mem", size = "2G", at = "4G", requested = "512M"'
    done = run(device, machine=f'[machine]\nsource = "{archive(name)}"\n')
    assert done.ok
    assert last(done).plugged == 512 * MiB
    added = [line for line in done.state.iomem if "virtio_mem" in line]
    assert added == ["  100000000-11fffffff : System RAM (virtio_mem)"]
