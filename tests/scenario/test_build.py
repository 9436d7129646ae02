"""Will this kernel hotplug? What builds without MEMORY_HOTPLUG, MEMORY_HOTREMOVE or ZONE_DEVICE answer (6.12, 7.2).

include/linux/memory_hotplug.h: offline_pages() is -EINVAL and remove_memory() -EBUSY without MEMORY_HOTREMOVE.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from typing import Any

import msgspec
import pytest

from memhp.errors import BadInput
from memhp.facts.derive import derive
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
        # ARCH_ENABLE_MEMORY_HOTPLUG if SPARSEMEM_VMEMMAP (arch/riscv/Kconfig)
        ({"sparsemem_vmemmap": False}, [PLUG], ["ENODEV"]),
        ({"sparsemem_vmemmap": False}, [PMEM], ["ENXIO"]),
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


def test_a_kernel_without_hotplug_has_no_memory_blocks() -> None:
    """drivers/base/Makefile: memory.o only with CONFIG_MEMORY_HOTPLUG."""
    machine = {"preset": "riscv-vm", "memory": "1G", "build": {"memory_hotplug": False}}
    run, k = rehearse_scenario(msgspec.convert({"machine": machine, "steps": []}, Scenario))
    memory = derive(k).memory
    assert (memory.block_size, list(memory.blocks)) == (0, [])
    assert all(law.held for law in run.laws)


@pytest.mark.parametrize(
    ("preset", "profile", "va_bits", "said"),
    [
        ("arm64-vm", "6.12", 48, "has CONFIG_SPARSEMEM_VMEMMAP in every build"),
        ("riscv-vm", "6.18", 48, "has CONFIG_SPARSEMEM_VMEMMAP in every build"),
        ("riscv-vm", "7.2", 48, "has CONFIG_SPARSEMEM_VMEMMAP in every build"),
        ("loongarch-vm", "6.18", 48, "has CONFIG_SPARSEMEM_VMEMMAP in every build"),
        ("loongarch-vm", "6.12", 48, "are not modelled; such a kernel adds and removes whole sections"),
        ("x86-vm", "6.12", 48, "are not modelled; such a kernel adds and removes whole sections"),
        ("x86-vm", "6.16", 48, "has CONFIG_SPARSEMEM_VMEMMAP in every build"),
        # X86_5LEVEL selects it
        ("x86-vm", "6.12", 57, "with 57-bit addresses has CONFIG_SPARSEMEM_VMEMMAP in every build"),
    ],
)
def test_a_build_without_a_vmemmap_is_refused_where_there_is_none(
    preset: str, profile: str, va_bits: int, said: str
) -> None:
    build = {"sparsemem_vmemmap": False}
    machine = {"preset": preset, "memory": "1G", "profile": profile, "va_bits": va_bits, "build": build}
    with pytest.raises(BadInput, match=said):
        rehearse_scenario(msgspec.convert({"machine": machine, "steps": [PLUG]}, Scenario))


def test_an_option_without_what_it_needs_is_refused() -> None:
    with pytest.raises(BadInput, match="CONFIG_ZONE_DEVICE needs CONFIG_MEMORY_HOTREMOVE"):
        built({"memory_hotremove": False, "zone_device": True})


def test_a_kernel_that_cannot_remove_has_no_virtio_mem_driver() -> None:
    with pytest.raises(BadInput, match="no virtio-mem driver without CONFIG_MEMORY_HOTREMOVE"):
        built({"memory_hotremove": False}, {"do": "virtio-mem", "size": "1G"})
