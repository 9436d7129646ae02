"""The virtio-mem driver when the machine goes to sleep: drivers/virtio/virtio_mem.c.

A machine that hibernates is switched off, and its devices with it: their memory would be gone. One that sleeps loses
plugged memory too, unless the device says that it does not (``VIRTIO_MEM_F_PERSISTENT_SUSPEND``); to idle is no sleep
that a device notices. Before 6.10 the driver refused all of that.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from errno import EPERM
from functools import partial

from memhp.errors import KernelError
from memhp.hw.devices.virtio_mem_wire import Feature
from memhp.linux.drivers.base.power.main import PmDevice, SuspendState, device_pm_add, device_pm_remove
from memhp.linux.drivers.virtio.virtio_mem_shared import set_config_changed, virtio_mem_retry
from memhp.linux.drivers.virtio.virtio_mem_state import PLACE, VirtioMem, dev_log
from memhp.linux.kernel.power.main import PmAction, register_pm_notifier, unregister_pm_notifier
from memhp.linux.state import Kernel

KERNEL_FILE = "drivers/virtio/virtio_mem.c"
FREEZE = f"{PLACE}:virtio_mem_freeze"


def virtio_mem_pm_register(k: Kernel, vm: VirtioMem) -> None:
    """Sleep and wake up with the machine, and have the first word on hibernation."""
    device_pm_add(k, PmDevice(vm.name, partial(_suspend, vm), partial(_resume, vm)))
    if k.config.profile.virtio_mem_sleep == "by-feature":
        vm.pm_notifier = partial(virtio_mem_pm_notifier_cb, vm)
        register_pm_notifier(k, vm.pm_notifier)


def virtio_mem_pm_unregister(k: Kernel, vm: VirtioMem) -> None:
    """No longer."""
    device_pm_remove(k, vm.name)
    if vm.pm_notifier is not None:
        unregister_pm_notifier(k, vm.pm_notifier)


def virtio_mem_pm_notifier_cb(vm: VirtioMem, k: Kernel, action: PmAction) -> str:
    """Forbid hibernation, and to go back to the image of a machine that hibernated."""
    if action not in ("PM_HIBERNATION_PREPARE", "PM_RESTORE_PREPARE"):
        return ""
    dev_log(k, vm, "hibernation is not supported.", "err")
    return "a machine with a virtio-mem device does not hibernate: switched off, it would lose plugged memory"


def _suspend(vm: VirtioMem, k: Kernel, state: SuspendState) -> None:
    virtio_mem_freeze(k, vm, state)


def virtio_mem_freeze(k: Kernel, vm: VirtioMem, state: SuspendState) -> None:
    """The device falls asleep. Raises EPERM when plugged memory might not outlive that."""
    if k.config.profile.virtio_mem_sleep == "refused":
        dev_log(k, vm, "save/restore not supported.", "err")
        text = "this kernel does not sleep with a virtio-mem device"
        raise KernelError(EPERM, text, place=FREEZE, advice="unbind the driver before, or use Linux 6.10 or later")
    if state != "freeze" and vm.plugged_size and Feature.PERSISTENT_SUSPEND not in vm.features:
        text = "suspending with plugged memory is not supported"
        dev_log(k, vm, text, "err")
        advice = "resize the device to 0 before, suspend to idle, or use a device with persistent-suspend"
        raise KernelError(EPERM, text, place=FREEZE, advice=advice)
    vm.device.device_reset()


def _resume(vm: VirtioMem, k: Kernel) -> None:
    virtio_mem_restore(k, vm)


def virtio_mem_restore(k: Kernel, vm: VirtioMem) -> None:
    """The device wakes up, with the features it had: look whether its configuration changed meanwhile."""
    vm.device.negotiate(vm.features)
    virtio_device_ready(k, vm)
    virtio_mem_config_changed(k, vm)


def virtio_device_ready(k: Kernel, vm: VirtioMem) -> None:
    """From now on the driver hears of configuration changes."""
    vm.device.driver_ok(partial(virtio_mem_config_changed, k, vm))


def virtio_mem_config_changed(k: Kernel, vm: VirtioMem) -> None:
    """The device's interrupt: have the work look at the configuration."""
    set_config_changed(k, vm, changed=True)
    virtio_mem_retry(k, vm)
