"""Several dax devices in one region: what ``size`` and ``create`` of drivers/dax/bus.c make of it (6.1 and 7.2 alike).

What is expected follows from ``dev_dax_resize()``: gaps are taken from the lowest on, the last range of the device is
extended where a gap begins at its end, and shrinking cuts from the last range on.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from memhp.check import check_all
from memhp.errors import BadInput
from memhp.facts.derive import derive
from memhp.linux.drivers.dax.bus import DaxBus
from memhp.linux.state import Kernel
from memhp.scenario.load import loads
from memhp.scenario.result import Run
from memhp.target.model.run import rehearse_scenario
from memhp.units import GiB, MiB

FIRST = 'do = "dax", device = "dax0.0", namespace = false, at = "8G", size = "4G"'


def run(*steps: str, profile: str = "7.2") -> tuple[Run, Kernel]:
    text = f'[machine]\npreset = "x86-vm"\nmemory = "2G"\nprofile = "{profile}"\n'
    done, k = rehearse_scenario(loads(f"steps = [{', '.join(f'{{ {step} }}' for step in steps)}]\n{text}"))
    assert check_all(k) == []
    return done, k


def ranges(k: Kernel, name: str) -> list[tuple[float, float]]:
    """Start and end of each range of a device, in GiB from where the region starts."""
    return [(each.start / GiB - 8, each.end / GiB - 8) for each in k.statics(DaxBus).devices[name].ranges]


def dax(number: int, allocate: str, more: str = 'mode = "none"') -> str:
    return f'do = "dax", device = "dax0.{number}", allocate = "{allocate}", {more}'


@pytest.mark.parametrize("profile", ["6.1", "7.2"])
def test_a_region_is_cut_in_two_devices_with_a_driver_each(profile: str) -> None:
    done, k = run(
        f'{FIRST}, allocate = "1G", mode = "kmem"', dax(1, "2G", 'mode = "devdax"'), profile=profile
    )
    assert done.ok and ranges(k, "dax0.0") == [(0, 1)] and ranges(k, "dax0.1") == [(1, 3)]
    assert [(first, end) for first, end, _ in k.memory_blocks if end > 64] == [(64, 72)]
    shown = {each.name: (each.resource, each.size) for each in derive(k).dax}
    assert shown == {"dax0.0": (8 * GiB, GiB), "dax0.1": (9 * GiB, 2 * GiB)}


def test_a_device_grows_into_the_lowest_gaps_and_its_last_range_is_extended() -> None:
    steps = [
        f'{FIRST}, allocate = "1G", mode = "none"',
        dax(1, "1G"),
        dax(2, "1G"),
        'do = "dax", device = "dax0.0", allocate = "512M", mode = "none"',
        dax(2, "2G"),
    ]
    done, k = run(*steps)
    assert done.ok
    assert ranges(k, "dax0.2") == [(2, 3), (0.5, 1), (3, 3.5)]
    _, k = run(*steps[:3], dax(2, "1536M"))
    assert ranges(k, "dax0.2") == [(2, 3.5)]


def test_shrinking_cuts_from_the_last_range_on() -> None:
    _, k = run(
        f'{FIRST}, allocate = "512M", mode = "none"', dax(1, "1G"), dax(0, "1G"), dax(0, "640M"), dax(1, "256M")
    )
    assert ranges(k, "dax0.0") == [(0, 0.5), (1.5, 1.625)] and ranges(k, "dax0.1") == [(0.5, 0.75)]


@pytest.mark.parametrize(
    ("step", "answer", "place"),
    [
        (dax(1, "4G"), "ENOSPC", "dev_dax_resize"),
        (dax(1, "1M"), "EINVAL", "size_store"),
        (dax(0, "2G"), "EBUSY", "dev_dax_resize"),
    ],
)
def test_what_the_kernel_refuses_is_a_step_like_others(step: str, answer: str, place: str) -> None:
    done, _ = run(f'{FIRST}, allocate = "1G", mode = "kmem"', f'{step}, expect = "{answer}"')
    assert done.ok and (done.steps[1].outcome.place or "").endswith(place)


def test_a_namespace_has_one_device_of_one_size() -> None:
    whole = 'do = "dax", device = "dax0.0", at = "8G", size = "4G", mode = "devdax"'
    done, _ = run(whole, f'{dax(1, "1G")}, expect = "EINVAL"', f'{dax(0, "1G")}, expect = "EACCES"')
    assert done.ok


def test_a_device_that_got_nothing_has_no_driver() -> None:
    bind = 'do = "dax", device = "dax0.1", mode = "kmem", expect = "ENXIO"'
    done, _ = run(f'{FIRST}, mode = "none"', f'{dax(1, "1G")}, expect = "ENOSPC"', bind)
    assert done.ok


def test_a_device_of_a_region_says_how_much_it_has() -> None:
    with pytest.raises(BadInput, match="how much of the region"):
        run(f'{FIRST}, allocate = "1G", mode = "none"', 'do = "dax", device = "dax0.1", mode = "kmem"')


def test_after_a_reboot_a_region_is_one_device_again() -> None:
    done, k = run(f'{FIRST}, allocate = "1G", mode = "kmem"', dax(1, "2G", 'mode = "kmem"'), 'do = "reboot"')
    assert done.ok and any("dax0.1 is gone" in note for note in done.steps[2].notes)
    assert not [block for first, _, block in k.memory_blocks if first >= 8 * GiB // (128 * MiB)]
