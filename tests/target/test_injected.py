"""Steps in which something is made to fail: on the model as by fault injection, in a guest by the kernel's module."""
# SPDX-License-Identifier: GPL-2.0-or-later

from pathlib import Path
from typing import Any

import pytest

from memhp.errors import BadInput
from memhp.scenario import schema
from memhp.scenario.machine_text import Boot
from memhp.scenario.result import Run
from memhp.scenario.titles import title
from memhp.target.guest.kernel import Kernel
from memhp.target.guest.qemu import GuestSpec
from memhp.target.guest.target import refusal, spec_for
from memhp.target.model.run import rehearse_scenario

MACHINE = schema.MachineText(preset="x86-vm", profile="7.2", memory="1G")
PLUG = schema.Plug(size="256M")


def rehearsed(*steps: schema.StepKind) -> Run:
    return rehearse_scenario(schema.Scenario(machine=MACHINE, steps=list(steps)))[0]


def results(*steps: schema.StepKind) -> list[str]:
    return [step.outcome.result for step in rehearsed(*steps).steps]


def failing(allocation: Any, nth: int = 1) -> schema.Injected:
    return schema.Injected(allocation=allocation, nth=nth)


def refusing(notifier: Any, error: str = "EBUSY") -> schema.Injected:
    return schema.Injected(notifier=notifier, error=error)


def test_a_notifier_refuses_for_one_step_only() -> None:
    going = refusing("MEM_GOING_ONLINE", "ENOMEM")
    staying = refusing("MEM_GOING_OFFLINE", "EAGAIN")
    assert results(
        PLUG, schema.Online(zone="movable", fault=going), schema.Online(zone="movable"),
        schema.Offline(fault=staying), schema.Eject(fault=staying), schema.Eject(),
    ) == ["ok", "ENOMEM", "ok", "EAGAIN", "EBUSY", "ok"]  # fmt: skip


def test_without_a_chunk_of_a_pmd_struct_pages_are_in_base_pages() -> None:
    """``vmemmap_populate_hugepages()`` goes on with base pages; the next section has its chunk again."""
    run = rehearsed(schema.Plug(size="256M", fault=failing("vmemmap_alloc_block")))
    assert run.ok and run.steps[0].outcome.result == "ok"


@pytest.mark.parametrize("function", ["section_activate", "add_memory_block", "acpi_memory_device_add"])
def test_a_dimm_does_not_come_without_memory_for_it_and_does_afterwards(function: str) -> None:
    first, second = results(schema.Plug(size="128M", fault=failing(function)), schema.Plug(size="128M"))
    assert (first, second) == ("ENOMEM", "ok")


@pytest.mark.parametrize(
    ("function", "nth", "ends"),
    [
        ("add_memory_block", 3, ["ENOMEM", "ok"]),
        ("section_activate", 2, ["ENOMEM", "ok"]),
        ("vmemmap_alloc_block", 4, ["ok", "ok"]),
        ("acpi_bind_one", 2, ["ENODEV", "ok"]),
        ("alloc_low_pages", 2, ["BUG"]),
    ],
)
def test_a_later_allocation_fails_as_on_a_kernel_with_fault_injection(function: str, nth: int, ends: list[str]) -> None:
    """The DIMM crosses a gigabyte, so that its direct map wants two tables. Each was played on such a kernel too."""
    first = schema.Plug(size="512M", at="80640M", fault=failing(function, nth))
    assert results(first, *[schema.Plug(size="128M")] * (len(ends) - 1)) == ends


def test_of_blocks_that_host_their_struct_pages_those_before_the_one_that_fails_go_again() -> None:
    machine = schema.MachineText(preset="x86-vm", profile="7.2", memory="1G", boot=Boot(memmap_on_memory="Y"))
    fault = failing("create_altmaps_and_memory_blocks", 3)
    steps: list[schema.StepKind] = [schema.Plug(size="512M", fault=fault), schema.Plug(size="128M")]
    run, _ = rehearse_scenario(schema.Scenario(machine=machine, steps=steps))
    assert [step.outcome.result for step in run.steps] == ["ENOMEM", "ok"]
    assert run.steps[0].blocks_after == run.steps[0].blocks_before


def test_a_dimm_that_was_not_bound_is_unplugged_while_the_kernel_uses_it_f_25() -> None:
    """``acpi_scan_hot_remove()`` asks the driver of a device whether its memory is offline, and this one has none."""
    assert results(
        schema.Plug(size="256M", fault=failing("acpi_bind_one", 2)), schema.Online(zone="movable"), schema.Eject()
    ) == ["ENODEV", "ok", "BUG"]  # fmt: skip


def test_a_table_that_is_missing_kills_x86_64() -> None:
    assert results(schema.Plug(size="128M", at="80G", fault=failing("alloc_low_pages"))) == ["BUG"]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (schema.Injected(), "of an allocation or of a notifier"),
        (schema.Injected(allocation="acpi_bind_one", notifier="MEM_GOING_ONLINE"), "of an allocation or of a notifier"),
        (schema.Injected(notifier="MEM_GOING_ONLINE", nth=2), "all that it is asked"),
        (refusing("MEM_GOING_ONLINE", "ENONSENSE"), "no errno"),
        (failing("add_memory_block", 2), "or not so often"),
        (failing("offline_and_remove_memory"), "nothing is allocated there"),
    ],
)
def test_a_fault_that_cannot_be_meant_is_refused(fault: schema.Injected, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        rehearsed(schema.Plug(size="128M", fault=fault))


def test_a_guest_says_before_it_starts_what_its_kernel_cannot_have_fail(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("CONFIG_ACPI_HOTPLUG_MEMORY=y\n")
    kernel = Kernel("7.2", "x86_64", "amd64", tmp_path / "image", config=config)
    step = schema.Plug(size="128M", fault=refusing("MEM_GOING_ONLINE"))
    assert refusal(kernel, step) == "the kernel is built without MEMORY_NOTIFIER_ERROR_INJECT"
    config.write_text("CONFIG_ACPI_HOTPLUG_MEMORY=y\nCONFIG_MEMORY_NOTIFIER_ERROR_INJECT=m\n")
    assert refusal(kernel, step) is None
    assert spec_for(GuestSpec(kernel), schema.Scenario(machine=MACHINE, steps=[step])).notifiers
    for function, missing in (("section_activate", "FAILSLAB"), ("vmemmap_alloc_block", "FAIL_PAGE_ALLOC")):
        step = schema.Plug(size="128M", fault=failing(function))
        assert refusal(kernel, step) == f"the kernel is built without {missing}"
    options = ("FAILSLAB", "FAULT_INJECTION_DEBUG_FS", "FAULT_INJECTION_STACKTRACE_FILTER", "ACPI_HOTPLUG_MEMORY")
    config.write_text("".join(f"CONFIG_{option}=y\n" for option in options))
    assert refusal(kernel, schema.Plug(size="128M", fault=failing("section_activate"))) is None


def test_a_title_tells_what_fails() -> None:
    assert title(schema.Plug(size="1G", fault=failing("section_activate"))) == "plug size 1G fault of section_activate"
    assert title(schema.Plug(size="1G", fault=failing("acpi_bind_one", 2))).endswith("fault of acpi_bind_one number 2")
    assert title(schema.Offline(fault=refusing("MEM_GOING_OFFLINE"))) == "offline fault EBUSY of MEM_GOING_OFFLINE"
