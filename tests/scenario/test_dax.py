"""The step `dax`: regions change their drivers, DMA holds their pages, and what cannot be meant is said in one line."""
# SPDX-License-Identifier: GPL-2.0-or-later

from typing import Any

import msgspec
import pytest

from memhp.errors import BadInput
from memhp.scenario.result import Run
from memhp.scenario.run import rehearse_scenario
from memhp.scenario.schema import Scenario

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
