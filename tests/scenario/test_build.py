"""Will this kernel hotplug? What builds without MEMORY_HOTPLUG, MEMORY_HOTREMOVE or ZONE_DEVICE answer (6.12, 7.2).

include/linux/memory_hotplug.h: offline_pages() is -EINVAL and remove_memory() -EBUSY without MEMORY_HOTREMOVE.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from typing import Any

import msgspec
import pytest

from memhp.errors import BadInput
from memhp.scenario.result import Run
from memhp.scenario.schema import Scenario
from memhp.target.model.run import rehearse_scenario

PLUG = {"do": "plug", "size": "128M", "driver": "kmem"}
PMEM = {"do": "dax", "device": "pmem0", "mode": "devdax", "at": "8G", "size": "1G"}


def built(build: dict[str, bool], *steps: dict[str, Any]) -> Run:
    machine = {"preset": "riscv-vm", "memory": "1G", "build": build}
    return rehearse_scenario(msgspec.convert({"machine": machine, "steps": list(steps)}, Scenario))[0]


@pytest.mark.parametrize(
    ("build", "steps", "results"),
    [
        ({}, [PLUG, {"do": "online"}, {"do": "offline"}, {"do": "remove"}], ["ok"] * 4),
        ({"memory_hotplug": False}, [PLUG], ["ENODEV"]),
        ({"memory_hotremove": False}, [PLUG, {"do": "online"}, {"do": "offline"}], ["ok", "ok", "EINVAL"]),
        ({"memory_hotremove": False}, [PLUG, {"do": "remove"}], ["ok", "EBUSY"]),
        ({"memory_hotremove": False}, [PMEM], ["ENXIO"]),
        ({"zone_device": False}, [PMEM], ["ENXIO"]),
        ({"zone_device": False}, [PLUG, {"do": "remove"}], ["ok", "ok"]),
    ],
)
def test_a_build_can_do_what_it_was_built_for(
    build: dict[str, bool], steps: list[dict[str, Any]], results: list[str]
) -> None:
    run = built(build, *steps)
    assert [step.outcome.result for step in run.steps] == results
    assert all(law.held for law in run.laws)


def test_an_option_without_what_it_needs_is_refused() -> None:
    with pytest.raises(BadInput, match="CONFIG_ZONE_DEVICE needs CONFIG_MEMORY_HOTREMOVE"):
        built({"memory_hotremove": False, "zone_device": True})


def test_a_kernel_that_cannot_remove_has_no_virtio_mem_driver() -> None:
    with pytest.raises(BadInput, match="no virtio-mem driver without CONFIG_MEMORY_HOTREMOVE"):
        built({"memory_hotremove": False}, {"do": "virtio-mem", "size": "1G"})
