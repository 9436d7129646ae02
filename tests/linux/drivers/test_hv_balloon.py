"""Memory that Hyper-V's host adds: what drivers/hv/hv_balloon.c makes of requests that are no whole memory blocks."""
# SPDX-License-Identifier: GPL-2.0-or-later

from typing import Any

import pytest

from memhp.check import check_all
from memhp.linux.drivers.hv.hv_balloon import DmDevice
from memhp.linux.mmzone import PageFlags
from memhp.linux.state import Kernel
from memhp.scenario.load import loads
from memhp.scenario.result import Run
from memhp.target.model.run import rehearse_scenario
from memhp.units import MiB

ONLINE = 'boot = { memhp_default_state = "online" }'


def run(*steps: str, machine: str = ONLINE, memory: str = "2G", profile: str = "6.12") -> tuple[Run, Kernel]:
    text = f'[machine]\npreset = "x86-vm"\nmemory = "{memory}"\nprofile = "{profile}"\n{machine}\n'
    done, k = rehearse_scenario(loads(f"steps = [{', '.join(f'{{ {step} }}' for step in steps)}]\n{text}"))
    assert done.ok, [step.outcome for step in done.steps]
    assert check_all(k) == []
    return done, k


def managed(k: Kernel) -> int:
    """MiB that the zones manage above 4 GiB."""
    return sum(zone.managed for zone in k.zones() if zone.start_pfn >= 1 << 20) * k.config.page_size // MiB


def test_blocks_cover_what_the_host_backs_and_only_that_is_the_buddys() -> None:
    done, k = run('do = "hv-add", size = "300M"')
    assert [block for block, _, _ in k.memory_blocks if block >= 32] == [32]
    assert sum(end - first for first, end, _ in k.memory_blocks if first >= 32) == 3
    assert managed(k) == 300
    kept = [run for run in k.page_flags.runs(1 << 20, (1 << 20) + 3 * 32768) if run[2] & PageFlags.OFFLINE]
    assert sum(end - start for start, end, _ in kept) * 4096 == 84 * MiB
    assert any("84 MiB of the last memory block" in note for note in done.steps[0].notes)


def test_the_next_request_fills_the_block_up_before_it_adds_one() -> None:
    _, k = run('do = "hv-add", size = "300M"', 'do = "hv-add", size = "64M"')
    assert managed(k) == 364
    assert sum(end - first for first, end, _ in k.memory_blocks if first >= 32) == 3
    _, k = run('do = "hv-add", size = "300M"', 'do = "hv-add", size = "100M"')
    assert managed(k) == 400
    assert sum(end - first for first, end, _ in k.memory_blocks if first >= 32) == 4


def test_what_the_host_leaves_out_stays_out() -> None:
    """``pfn_covered()`` makes a gap of it."""
    _, k = run('do = "hv-add", size = "64M"', 'do = "hv-add", size = "32M", at = "0x105000000"')
    assert managed(k) == 96
    (state,) = k.statics(DmDevice).ha_region_list
    assert [gap.size * 4096 // MiB for gap in state.gap_list] == [16]


def test_a_block_that_is_not_all_backed_does_not_go_offline() -> None:
    """Nobody drops the references of such pages when it is to go offline: ``scan_movable_pages()`` meets them."""
    done, _ = run('do = "hv-add", size = "64M"', 'do = "offline", expect = "EBUSY"')
    assert done.steps[1].outcome.reason == "unmovable page"
    run('do = "hv-add", size = "128M"', 'do = "offline"', 'do = "online"')


def test_blocks_that_stay_offline_are_waited_for() -> None:
    done, k = run('do = "hv-add", size = "256M"', 'do = "online"', machine="")
    assert any("2 memory blocks wait" in note for note in done.steps[0].notes)
    assert k.hw.now == 10 * 10**9
    assert managed(k) == 256


@pytest.mark.parametrize(("profile", "outcome"), [("6.1", "EINVAL"), ("6.12", "ok")])
def test_older_drivers_add_128_mib_which_large_blocks_refuse(profile: str, outcome: str) -> None:
    """``HA_CHUNK`` of 6.1; a guest with 64 GiB and more has blocks of 2 GiB there."""
    step = f'do = "hv-add", size = "2G", at = "0x2000000000", expect = "{outcome}"'
    done, _ = run(step, memory="70G", profile=profile)
    assert done.steps[0].outcome.result == outcome


def test_memory_that_is_there_already_makes_the_driver_give_up() -> None:
    steps: list[str] = ['do = "hv-add", size = "128M", at = "1G", expect = "EEXIST"']
    done, k = run(*steps, 'do = "hv-add", size = "128M", at = "8G", expect = "ENOMEM"')
    assert not k.statics(DmDevice).do_hot_add
    said: list[Any] = [line.text for line in k.hw.log_lines if line.text.startswith("hv_balloon")]
    assert said == ["hv_balloon: hot_add memory failed error is -17", *["hv_balloon: Memory hot add failed"] * 2]
    assert "given up" in done.steps[1].outcome.reason


@pytest.mark.parametrize(("profile", "size"), [("6.12", 0), ("7.2", 256)])
def test_older_drivers_keep_what_another_driver_adds_out_of_use(profile: str, size: int) -> None:
    """``hv_online_page()``: a page that is in no region of its own is given to nobody, in 7.2 to the buddy."""
    _, k = run('do = "hv-add", size = "128M"', 'do = "plug", size = "256M"', profile=profile)
    assert managed(k) == 128 + size


def test_a_region_of_the_hosts_is_filled_from_its_start() -> None:
    region = 'region = { start = "8G", size = "1G" }'
    _, k = run(f'do = "hv-add", size = "128M", at = "8G", {region}', f'do = "hv-add", size = "128M", {region}')
    assert {i for first, end, _ in k.memory_blocks for i in range(first, end) if i >= 64} == {64, 65}
    assert managed(k) == 256
