"""A dax device of several ranges: what kmem adds and removes of them, and how a machine shows it."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace
from pathlib import Path

import pytest

from captures import captures, facts, open_capture
from memhp.check import check_all
from memhp.errors import BadInput
from memhp.facts.derive import derive
from memhp.facts.devices import read_dax
from memhp.facts.iomem import Resource
from memhp.facts.open_source import open_source
from memhp.linux.mmzone import ZoneType
from memhp.linux.state import Kernel
from memhp.scenario.load import loads
from memhp.scenario.result import Run
from memhp.spans import Span
from memhp.target.captures.flatten import flatten
from memhp.target.model.run import rehearse_scenario
from memhp.target.seen.dax_facts import dax_steps
from memhp.units import GiB, MiB

RANGES = '[{ start = "8G", size = "256M" }, { start = "0x230000000", size = "128M" }, { start = "9G", size = "64M" }]'
"""2, 1 and 0 memory blocks."""
DEVICE = f'do = "dax", at = "8G", size = "2G", namespace = false, ranges = {RANGES}'


def run(*steps: str, profile: str = "7.2", machine: str = "") -> tuple[Run, Kernel]:
    text = f'[machine]\npreset = "x86-vm"\nmemory = "2G"\nprofile = "{profile}"\n{machine}'
    done, k = rehearse_scenario(loads(f"steps = [{', '.join(f'{{ {step} }}' for step in steps)}]\n{text}"))
    assert done.ok, [step.outcome for step in done.steps]
    assert check_all(k) == []
    return done, k


def blocks(k: Kernel) -> list[int]:
    return [block for first, end, _ in k.memory_blocks for block in range(first, end) if block >= 64]


def said(k: Kernel) -> list[str]:
    return [line.text for line in k.hw.log_lines if line.text.startswith("kmem dax0.0")]


def test_kmem_adds_the_whole_blocks_of_each_range() -> None:
    _, k = run(f'{DEVICE}, mode = "kmem"')
    assert blocks(k) == [64, 65, 70]
    assert said(k) == [
        "kmem dax0.0: mapping2: 0x240000000-0x243ffffff too small after alignment",
        "kmem dax0.0: DAX region truncated by 64.0 MiB due to alignment",
    ]
    assert len(k.memory_groups) == 1


def test_a_range_that_has_to_stay_keeps_the_group_and_the_others_go() -> None:
    """``dev_dax_kmem_remove()``: the memory group goes with the last of the ranges, or not at all."""
    online = 'do = "online", blocks = [64]'
    done, k = run(f'{DEVICE}, mode = "kmem"', online, 'do = "dax", mode = "none"')
    assert blocks(k) == [64, 65]
    assert said(k)[-1] == "kmem dax0.0: mapping0: 0x200000000-0x20fffffff cannot be hotremoved until the next reboot"
    assert len(k.memory_groups) == 1
    assert any("mapping0" in note for note in done.steps[-1].notes)


def test_a_range_below_a_block_keeps_the_group_as_well() -> None:
    """``success`` counts ranges that were removed, and ``nr_range`` all."""
    _, k = run(f'{DEVICE}, mode = "kmem"', 'do = "dax", mode = "none"')
    assert blocks(k) == []
    assert len(k.memory_groups) == 1


def test_ranges_that_are_all_whole_go_with_their_group() -> None:
    whole = DEVICE.replace(', { start = "9G", size = "64M" }', "")
    _, k = run(f'{whole}, mode = "kmem"', 'do = "dax", mode = "none"')
    assert (blocks(k), k.memory_groups) == ([], {})


def test_device_dax_maps_all_ranges_or_none() -> None:
    _, k = run(f'{DEVICE}, mode = "devdax"')
    pages = sum(end - start for start, end, zone in k.page_zone.runs(0, 1 << 40) if zone.type is ZoneType.DEVICE)
    assert pages * 4096 == (256 + 128 + 64) * MiB
    run(f'{DEVICE}, mode = "devdax"', 'do = "dax", mode = "none"', 'do = "dax", mode = "kmem"')


def test_the_attribute_is_not_changed_while_kmem_has_the_device() -> None:
    """``memmap_on_memory_store()``."""
    wanted = 'do = "dax", memmap_on_memory = true'
    run(f'{DEVICE}, mode = "kmem"', f'{wanted}, expect = "ENOTSUP"')
    force = 'boot = { memmap_on_memory = "Y" }\n'
    run(f'{DEVICE}, mode = "kmem"', f'{wanted}, expect = "EBUSY"', machine=force)
    _, k = run(f'{DEVICE}, mode = "devdax"', wanted, machine=force)
    (shown,) = derive(k).dax
    assert (shown.memmap_on_memory, shown.size, len(shown.mappings)) == (True, 448 * MiB, 3)


@pytest.mark.parametrize(("mode", "stays"), [("N", False), ("Y", True)])
def test_the_attribute_stays_0_in_a_kernel_that_was_not_booted_for_it(mode: str, stays: bool) -> None:
    """Random lives saw it in guests of 7.2.13: the write is refused, and kmem takes the device all the same."""
    machine = f'boot = {{ memmap_on_memory = "{mode}" }}\n'
    result, k = run(f'{DEVICE}, mode = "kmem", memmap_on_memory = true', machine=machine)
    (shown,) = derive(k).dax
    assert shown.memmap_on_memory is stays and result.steps[-1].outcome.result == "ok"
    assert any("memmap_on_memory stays as it is" in note for note in result.steps[-1].notes) is not stays


@pytest.mark.parametrize(
    ("ranges", "problem"),
    [
        ('[{ size = "256M" }]', "lies somewhere"),
        ('[{ start = "8G", size = "1M" }]', "not aligned"),
        ('[{ start = "4G", size = "256M" }]', "not free in the region"),
        ('[{ start = "8G", size = "256M" }, { start = "8G", size = "2M" }]', "not free in the region"),
    ],
)
def test_ranges_that_no_kernel_makes_are_refused(ranges: str, problem: str) -> None:
    with pytest.raises(BadInput, match=problem) as refused:
        run(DEVICE.replace(RANGES, ranges))
    assert "ranges" in refused.value.where


def test_a_device_on_a_namespace_is_one_range() -> None:
    with pytest.raises(BadInput, match="all of it"):
        run(DEVICE.replace("namespace = false", "namespace = true"))


def test_a_machine_shows_its_ranges(tmp_path: Path) -> None:
    """``mappingN`` (``drivers/dax/bus.c``), whose ends are included, and the resources that kmem claimed."""
    (tmp_path / "sys/devices/system/memory").mkdir(parents=True)
    for name, text in {
        "size": "402653184", "align": "2097152", "target_node": "0", "resource": "0x200000000",
        "driver/bind": "", "mapping0/start": "0x200000000", "mapping0/end": "0x20fffffff",
        "mapping1/start": "0x230000000", "mapping1/end": "0x237ffffff",
    }.items():  # fmt: skip
        file = tmp_path / "sys/bus/dax/devices/dax0.0" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n", encoding="utf-8")
    (device,) = read_dax(open_source(tmp_path))
    spans = (Span(8 * GiB, 8 * GiB + 256 * MiB), Span(0x2_3000_0000, 0x2_3800_0000))
    assert device.mappings == spans
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/iomem").write_text("00001000-0009ffff : System RAM\n", encoding="utf-8")
    kept = flatten(open_source(tmp_path))["sys_dax.tsv"]
    assert "/sys/bus/dax/devices/dax0.0/mapping1/end\t0x237ffffff\n" in kept
    before = facts(captures()[0], next(iter(open_capture(captures()[0]))))
    claimed = tuple(
        Resource(span.start, span.end - 1, "dax0.0", (Resource(span.start, span.end - 1, "System RAM (kmem)"),))
        for span in spans
    )
    (step,) = dax_steps(before, replace(before, dax=(device,), iomem=(*before.iomem, *claimed)))
    assert (step.at, step.size, step.mode, step.namespace) == (8 * GiB, 0x2_3800_0000 - 8 * GiB, "kmem", False)
    assert step.ranges is not None
    assert [(each.start, each.size) for each in step.ranges] == [(span.start, span.size) for span in spans]
