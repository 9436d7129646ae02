"""Machines with virtio-mem devices that go to sleep: to idle, to RAM, to disk; by feature and by kernel."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable
from errno import EPERM
from typing import Literal

import pytest

from kernels import kernel, log, refused
from memhp.check import check_all
from memhp.hw.devices.backing import MachineBacking
from memhp.hw.devices.virtio_mem import Geometry, VirtioMemDevice
from memhp.hw.devices.virtio_mem_wire import Feature
from memhp.linux.drivers.virtio.virtio_mem import virtio_mem_probe, virtio_mem_remove
from memhp.linux.drivers.virtio.virtio_mem_state import VirtioMem
from memhp.linux.kernel.power.main import PmChain
from memhp.linux.kernel.power.suspend import hibernate, pm_suspend
from memhp.linux.state import Kernel
from memhp.units import GiB, MiB
from virtio_mem import AT, SECOND, agree, resize

BLOCK = 128 * MiB


def machine(release: str = "linux-6.12", *, persistent: bool = False, count: int = 1) -> tuple[Kernel, list[VirtioMem]]:
    """A machine that onlines what comes, and its devices."""
    k = kernel("x86_64", release)
    k.auto_online_blocks = "online_movable"
    features = Feature.ACPI_PXM | (Feature.PERSISTENT_SUSPEND if persistent else Feature.NONE)
    found = []
    for number in range(count):
        shape = Geometry(AT + number * 2 * GiB, 2 * GiB, features=features)
        device = VirtioMemDevice(shape, MachineBacking(k.hw, f"vm{number}"))
        found.append(virtio_mem_probe(k, device, f"virtio{number}"))
        k.hw.advance(0)
    return k, found


def asleep(*vms: VirtioMem, to: int | None = None) -> Callable[[], None]:
    """The platform wakes the machine up: a reset that is a resume; the host may have requested a size before."""

    def platform() -> None:
        for vm in vms:
            vm.device.system_reset(resume=True)
            if to is not None:
                vm.device.resize(to)

    return platform


def nothing() -> None:
    """No device notices that the machine idles."""


@pytest.mark.parametrize("persistent", [True, False])
def test_suspend_to_ram_needs_a_device_that_keeps_plugged_memory(persistent: bool) -> None:
    k, (vm,) = machine(persistent=persistent)
    resize(k, vm, BLOCK)
    if persistent:
        pm_suspend(k, "mem", asleep(vm))
    else:
        error = refused(pm_suspend, k, "mem", asleep(vm))
        assert (error.errno, error.place) == (EPERM, "drivers/virtio/virtio_mem.c:virtio_mem_freeze")
        assert "virtio_mem virtio0: suspending with plugged memory is not supported" in log(k, "err")
        assert "PM: Some devices failed to suspend, or early wake event detected" in log(k, "err")
    assert vm.plugged_size == BLOCK
    agree(vm)
    assert check_all(k) == []


@pytest.mark.parametrize("state", ["freeze", "mem"])
def test_without_plugged_memory_a_machine_sleeps_as_it_likes(state: Literal["freeze", "mem"]) -> None:
    k, (vm,) = machine()
    resize(k, vm, BLOCK)
    resize(k, vm, 0)
    pm_suspend(k, state, asleep(vm) if state == "mem" else nothing)
    resize(k, vm, BLOCK)
    assert vm.plugged_size == BLOCK


def test_suspend_to_idle_keeps_plugged_memory_whatever_the_device() -> None:
    k, (vm,) = machine()
    resize(k, vm, BLOCK)
    pm_suspend(k, "freeze", nothing)
    assert vm.plugged_size == vm.device.plugged_size == BLOCK


@pytest.mark.parametrize("size", [0, 3 * BLOCK])
def test_a_size_requested_of_a_sleeping_machine_is_seen_when_it_wakes_up(size: int) -> None:
    k, (vm,) = machine(persistent=True)
    resize(k, vm, BLOCK)
    seen = len(vm.device.log)

    def platform() -> None:
        vm.device.resize(size)
        k.hw.advance(1000 * SECOND)
        assert len(vm.device.log) == seen

    pm_suspend(k, "mem", platform)
    k.hw.advance(0)
    assert vm.plugged_size == size
    agree(vm)


def test_the_features_hold_again_after_sleep() -> None:
    k, (vm,) = machine(persistent=True)
    before = vm.device.negotiated
    pm_suspend(k, "mem", asleep(vm))
    assert vm.device.negotiated == before == Feature.ACPI_PXM | Feature.PERSISTENT_SUSPEND


def test_devices_that_fell_asleep_before_one_refused_are_woken_up() -> None:
    k, (first, second) = machine(count=2)
    resize(k, first, BLOCK)
    refused(pm_suspend, k, "mem", nothing)
    resize(k, second, BLOCK)
    assert (first.plugged_size, second.plugged_size) == (BLOCK, BLOCK)


@pytest.mark.parametrize("plugged", [0, BLOCK])
@pytest.mark.parametrize("persistent", [True, False])
def test_no_machine_with_such_a_device_hibernates(plugged: int, persistent: bool) -> None:
    k, (vm,) = machine(persistent=persistent)
    resize(k, vm, plugged)
    error = refused(hibernate, k, nothing)
    assert (error.errno, error.place) == (EPERM, "kernel/power/hibernate.c:hibernate")
    assert log(k)[-3:] == [
        "PM: hibernation: hibernation entry",
        "virtio_mem virtio0: hibernation is not supported.",
        "PM: hibernation: hibernation exit",
    ]
    assert vm.plugged_size == plugged


def test_nor_does_it_go_back_to_an_image() -> None:
    k, _ = machine()
    assert [bool(notifier(k, "PM_RESTORE_PREPARE")) for notifier in k.statics(PmChain).notifiers] == [True]
    assert [bool(notifier(k, "PM_SUSPEND_PREPARE")) for notifier in k.statics(PmChain).notifiers] == [False]


def test_an_unbound_driver_forbids_nothing_and_the_memory_is_lost() -> None:
    k, (vm,) = machine()
    resize(k, vm, BLOCK)
    virtio_mem_remove(k, vm)
    hibernate(k, vm.device.system_reset)
    assert {violation.law for violation in k.hw.violations} == {"one-owner"}


@pytest.mark.parametrize("state", ["freeze", "mem"])
@pytest.mark.parametrize("plugged", [0, BLOCK])
def test_before_6_10_no_machine_with_such_a_device_sleeps(state: Literal["freeze", "mem"], plugged: int) -> None:
    k, (vm,) = machine("linux-5.13", persistent=True)
    assert vm.features == Feature.ACPI_PXM
    resize(k, vm, plugged)
    assert refused(pm_suspend, k, state, nothing).errno == EPERM
    assert refused(hibernate, k, nothing).place == "drivers/virtio/virtio_mem.c:virtio_mem_freeze"
    assert "virtio_mem virtio0: save/restore not supported." in log(k, "err")
    resize(k, vm, 2 * BLOCK)
    assert vm.plugged_size == 2 * BLOCK
