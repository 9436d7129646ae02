"""Xen's balloon as the one that adds memory: what drivers/xen/balloon.c makes of a domain's target."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from memhp.check import check_all
from memhp.linux.drivers.xen.balloon import BalloonStats
from memhp.linux.kernel.resource import iter_resources
from memhp.linux.state import Kernel
from memhp.scenario.load import loads
from memhp.scenario.result import Run
from memhp.target.model.run import rehearse_scenario
from memhp.units import GiB, MiB

ONLINE = 'boot = { memhp_default_state = "online" }'


def run(*steps: str, machine: str = ONLINE, memory: str = "2G", profile: str = "6.12") -> tuple[Run, Kernel]:
    text = f'[machine]\npreset = "x86-vm"\nmemory = "{memory}"\nprofile = "{profile}"\n{machine}\n'
    done, k = rehearse_scenario(loads(f"steps = [{', '.join(f'{{ {step} }}' for step in steps)}]\n{text}"))
    assert done.ok, [step.outcome for step in done.steps]
    assert check_all(k) == []
    return done, k


def target(mib: int) -> str:
    return f'do = "xen-target", target = "{mib}M"'


BOOTED = sum(node.present for node in run()[1].nodes.values()) * 4096
"""Bytes that a domain of 2 GiB has when its driver starts: all but what lies below 1 MiB and is no RAM."""


def managed(k: Kernel) -> int:
    return sum(zone.managed for zone in k.zones()) * k.config.page_size


def test_whole_sections_are_added_and_only_the_target_comes_out_of_the_balloon() -> None:
    """``reserve_additional_memory()``: 300 MiB more make three sections of 128 MiB, behind RAM, where nothing is; the
    balloon gives what went into it last (``balloon_append()`` adds to the head of its list).
    """
    wanted = BOOTED // MiB + 300
    done, k = run(target(wanted))
    assert [(first, end) for first, end, _ in k.memory_blocks if end > 16] == [(16, 19)]
    assert managed(k) - managed(run()[1]) == wanted * MiB - BOOTED
    (kept,) = [(start << 12, end << 12) for start, end, flags in k.page_flags.runs(16 << 15, 19 << 15) if flags]
    assert kept == (2 * GiB, 2 * GiB + 384 * MiB - wanted * MiB + BOOTED)
    assert any("in the balloon" in note for note in done.steps[0].notes)


def test_a_block_with_pages_in_the_balloon_does_not_go_offline() -> None:
    done, _ = run(target(2300), 'do = "offline", blocks = [16], expect = "EBUSY"', 'do = "offline", blocks = [17]')
    assert done.steps[1].outcome.reason == "unmovable page"


def test_the_balloon_is_emptied_before_memory_is_added() -> None:
    _, k = run(target(2100), target(2170))
    assert sum(end - first for first, end, _ in k.memory_blocks) == 17
    _, k = run(target(2100), target(2400))
    assert sum(end - first for first, end, _ in k.memory_blocks) == 19


def test_what_it_gives_up_it_gets_back_without_adding_memory() -> None:
    _, k = run(target(1500), target(2000))
    assert sum(end - first for first, end, _ in k.memory_blocks) == 16
    assert managed(k) == managed(run()[1]) - (BOOTED - 2000 * MiB)


def test_memory_that_stays_offline_is_waited_for_and_not_added_twice() -> None:
    """``BP_WAIT``: ``total_pages`` has it already. Once it is online, the notifier wakes the thread."""
    done, k = run(target(2350), target(2352), 'do = "online"', machine="")
    assert sum(end - first for first, end, _ in k.memory_blocks if first >= 16) == 3
    assert any("3 memory blocks wait" in note for note in done.steps[0].notes)
    assert k.statics(BalloonStats).current_pages == 2352 * MiB // 4096


def test_what_another_driver_brings_online_goes_into_the_balloon() -> None:
    _, k = run(target(2100), 'do = "plug", size = "256M"', target(2200))
    stats = k.statics(BalloonStats)
    assert sum(span.size for span in stats.ballooned_pages) * 4096 == 384 * MiB + BOOTED - 2200 * MiB


@pytest.mark.parametrize(("size", "outcome"), [("70G", "EINVAL"), ("20G", "ok")])
def test_large_blocks_refuse_memory_that_is_made_of_sections(size: str, outcome: str) -> None:
    """A domain of 64 GiB and more has blocks of 1 or 2 GiB, and ``check_hotplug_memory_range()`` wants whole ones."""
    wanted = int(size[:-1]) * 1024 + 300
    done, k = run(f'{target(wanted)}, expect = "{outcome}"', memory=size)
    assert (done.steps[0].outcome.result == "ok") == (k.memory_block_size == 128 * MiB)
    said = [line.text for line in k.hw.log_lines if line.text.startswith("xen:balloon")]
    assert said == (["xen:balloon: Cannot add additional memory (-22)"] if outcome == "EINVAL" else [])
    names = [res.name for _, res in iter_resources(k.iomem_resource)]
    assert names.count("System RAM") == (3 if outcome == "EINVAL" else names.count("System RAM"))


@pytest.mark.parametrize(("more", "start"), [(1024, 2 * GiB), (2048, 6 * GiB)])
def test_room_below_4_gib_is_taken_first_and_devices_are_left_alone(more: int, start: int) -> None:
    """``allocate_resource()`` goes from below, and hvmloader has devices from 0xf0000000 on: 2 GiB do not fit there."""
    booted, k = run(memory="4G")[1], run(target(4096 + more), memory="4G")[1]
    there, now = ({i for first, end, _ in each.memory_blocks for i in range(first, end)} for each in (booted, k))
    assert min(now - there) * 128 * MiB == start


NO_ZONE_DEVICE = f"{ONLINE}\nbuild = {{ zone_device = false }}"


def test_pages_without_memory_behind_them_are_added_only_if_that_is_allowed() -> None:
    """``add_ballooned_pages()``: by default pages in use are given up."""
    _, k = run('do = "xen-target", unpopulated = "64M"', machine=NO_ZONE_DEVICE)
    assert sum(end - first for first, end, _ in k.memory_blocks) == 16
    assert managed(run()[1]) - managed(k) == 64 * MiB
    _, k = run('do = "xen-target", unpopulated = "64M", hotplug_unpopulated = true', machine=NO_ZONE_DEVICE)
    assert sum(end - first for first, end, _ in k.memory_blocks) == 17
    assert managed(run()[1]) == managed(k)


def test_xen_gives_no_more_than_the_domain_may_have() -> None:
    """``increase_reservation()``: what Xen does not give stays in the balloon, and the driver tries again."""
    done, k = run(target(2300), 'do = "xen-target", target = "3G", max = "2500M", expect = "ENOMEM"')
    assert k.statics(BalloonStats).current_pages == 2500 * MiB // 4096
    assert done.steps[1].outcome.reason == "Xen gives the domain 572 MiB less than the target"
    _, k = run(target(2300), 'do = "xen-target", target = "3G", max = "4G"')
    assert k.statics(BalloonStats).current_pages == 3 * GiB // 4096


def test_a_balloon_takes_no_more_than_si_mem_available_has() -> None:
    """``balloon_thread()`` goes on while more is free than all zones together keep in reserve."""
    _, k = run('do = "xen-target", target = "20M", expect = "ENOMEM"')
    free = sum(zone.free.size for zone in k.zones())
    reserves = sum(
        min(max(zone.lowmem_reserve.values(), default=0) + zone.watermark_high, zone.present) for zone in k.zones()
    )
    assert free - reserves < 512 and free > sum(zone.watermark_min for zone in k.zones())


def test_what_keeps_a_page_is_named() -> None:
    done, _ = run(target(2300), 'do = "offline", blocks = [16], expect = "EBUSY"')
    assert "its driver (drivers/xen/balloon.c) keeps it" in (done.steps[1].outcome.advice or "")
