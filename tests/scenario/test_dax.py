"""The step `dax`: regions change their drivers, DMA holds their pages, and what cannot be meant is said in one line."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from memhp.errors import BadInput
from memhp.scenario import schema
from memhp.scenario.machine import machine_spec
from memhp.scenario.result import Run
from memhp.scenario.schema import Scenario
from memhp.target.model.run import rehearse, rehearse_scenario

REGION = {"do": "dax", "at": "8G", "size": "1G"}


def rehearsed(*steps: dict[str, Any], **machine: Any) -> Run:
    text = {"machine": {"preset": "x86-vm", "memory": "2G", **machine}, "steps": list(steps)}
    return rehearse_scenario(msgspec.convert(text, Scenario))[0]


def outcomes(run: Run) -> list[str]:
    return [step.outcome.result for step in run.steps]


@pytest.mark.parametrize(("profile", "last"), [("linux-5.13", "BUG"), ("linux-6.12", "ok")])
def test_unbinding_waits_for_pinned_pages_for_ever_only_where_each_holds_the_mapping(profile: str, last: str) -> None:
    run = rehearsed(
        {**REGION, "mode": "devdax"}, {"do": "dax", "pinned": 3}, {"do": "dax", "mode": "none"}, profile=profile
    )
    assert outcomes(run) == ["ok", "ok", last]
    if last == "BUG":
        assert "waits for ever: 3 references" in run.steps[-1].outcome.reason
        assert run.steps[-1].outcome.place == "mm/memremap.c:memunmap_pages"


def test_pins_that_are_let_go_let_the_driver_go() -> None:
    pins = [{"do": "dax", "pinned": 3}, {"do": "dax", "pinned": 0}]
    run = rehearsed({**REGION, "mode": "devdax"}, *pins, {"do": "dax", "mode": "none"}, profile="linux-5.13")
    assert run.ok


def test_a_soft_reserved_region_has_no_metadata() -> None:
    run = rehearsed({**REGION, "mode": "kmem", "namespace": False}, {"do": "dax", "mode": "none", "namespace": False})
    assert run.ok
    assert [block.size for block in run.steps[0].blocks_after if block.state == "offline"] == [1 << 30]


def test_ram_that_is_online_stays_and_is_named() -> None:
    online = {"do": "online", "at": "8320M", "size": "128M"}
    run = rehearsed({**REGION, "mode": "kmem"}, online, {"do": "dax", "mode": "none"})
    assert outcomes(run) == ["ok", "ok", "ok"]
    assert any("stays RAM until the next boot" in note for note in run.steps[-1].notes)


@pytest.mark.parametrize("mode", ["devdax", "kmem", "raw"])
def test_no_driver_gets_a_region_whose_memory_stays_ram(mode: str) -> None:
    """``request_mem_region()`` meets what kmem left in ``/proc/iomem``, where all else is unbound."""
    run = rehearsed({**REGION, "mode": "kmem"}, {"do": "online"}, {"do": "dax", "mode": mode, "expect": "EBUSY"})
    assert outcomes(run) == ["ok", "ok", "EBUSY"]
    assert "offline before kmem is unbound" in run.steps[-1].outcome.advice
    assert run.ok
    assert [line for line in run.state.iomem if "System RAM (kmem)" in line]


def test_a_device_keeps_its_map_page_size_and_attribute_until_a_step_says_otherwise() -> None:
    run = rehearsed(
        {**REGION, "mode": "devdax", "map": "dev"},
        {"do": "dax", "mode": "none"},
        {"do": "dax", "mode": "devdax"},
        {"do": "dax", "mode": "devdax", "map": "mem"},
    )
    places = [sorted(place for place, size in step.memmap_from.items() if size > 0) for step in run.steps]
    assert places[2] == places[0] != places[3]
    hosted = {"mode": "kmem", "namespace": False, "memmap_on_memory": True}
    machine = {"boot": {"memmap_on_memory": "Y"}}
    run = rehearsed({**REGION, **hosted}, {"do": "dax", "mode": "none"}, {"do": "dax", "mode": "kmem"}, **machine)
    assert run.ok
    assert run.steps[2].memmap_from == run.steps[0].memmap_from


def test_a_bad_page_that_nobody_has_mapped_cannot_be_locked() -> None:
    """``mf_generic_kill_procs()``: the page's mapping is NULL; the struct pages on the device are beyond repair."""
    poison = [{"do": "poison", "at": at, "expect": errno} for at, errno in (("8G", "ENXIO"), ("8448M", "EBUSY"))]
    assert rehearsed({**REGION, "mode": "devdax", "map": "dev"}, *poison).ok


def test_a_bad_page_that_is_mapped_kills_and_stays_with_the_device() -> None:
    run = rehearsed(
        {**REGION, "mode": "devdax", "namespace": False, "pinned": 4},
        {"do": "poison", "at": "8G"},
        {"do": "dax", "pinned": 0},
        {"do": "dax", "mode": "none"},
    )
    assert run.ok
    assert "recovery action for dax page: Recovered" in run.steps[1].log[-1].text


def test_a_kernel_without_zone_device_gives_devices_no_struct_pages() -> None:
    """``CONFIG_ZONE_DEVICE=n``: kmem goes, device-dax does not (``include/linux/memremap.h``)."""
    text = {"machine": {"preset": "x86-vm", "memory": "2G"}, "steps": []}
    spec = machine_spec(msgspec.convert(text, Scenario).machine)
    spec = replace(spec, config=replace(spec.config, zone_device=False))
    steps = [
        schema.Dax(at="8G", size="1G", mode="raw"),
        schema.Dax(mode="devdax", expect="ENXIO"),
        schema.Dax(mode="devdax", namespace=False, expect="ENXIO"),
        schema.Dax(mode="kmem", namespace=False),
    ]
    run, _ = rehearse(spec, [*steps])
    assert [step.outcome.result for step in run.steps] == ["ok", "ENXIO", "ENXIO", "ok"]
    assert run.ok


@pytest.mark.parametrize(
    ("step", "key"),
    [
        ({"do": "dax", "mode": "raw"}, "at"),
        ({"do": "dax", "mode": "raw", "at": "1G", "size": "1G"}, "at"),
        ({"do": "dax", "mode": "raw", "at": "8G", "size": "1025"}, "size"),
        ({**REGION, "mode": "devdax", "align": "3M"}, "align"),
        ({**REGION, "pinned": 1}, "pinned"),
    ],
)
def test_what_cannot_be_meant_is_refused(step: dict[str, Any], key: str) -> None:
    with pytest.raises(BadInput) as refused:
        rehearsed(step)
    assert str(refused.value.where).endswith(f".{key}")
