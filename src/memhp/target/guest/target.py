"""A kernel in QEMU as a target: what it can do is known from its row in the table of machines before it starts."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable
from dataclasses import replace

from memhp.facts import dmesg
from memhp.facts.kpageflags import Flags
from memhp.facts.observed import Facts
from memhp.scenario import schema
from memhp.spans import Span
from memhp.target.guest import dax, injected, observe, served
from memhp.target.guest.guest import Guest
from memhp.target.guest.kernel import Kernel
from memhp.target.guest.machines import MACHINES
from memhp.target.guest.memory import GuestMemory
from memhp.target.guest.plugged import GuestMachine
from memhp.target.guest.pmem import regions, with_regions
from memhp.target.guest.qemu import GuestSpec, VirtioMemDevice
from memhp.target.guest.served import Served
from memhp.target.guest.steps import RUNNERS
from memhp.target.guest.users import FILE_UNIT, USES
from memhp.target.target import Done
from memhp.units import parse_size

BOOT_OPTIONS = {
    "memmap_on_memory": "memory_hotplug.memmap_on_memory={}",
    "online_policy": "memory_hotplug.online_policy={}",
    "auto_movable_ratio": "memory_hotplug.auto_movable_ratio={}",
    "auto_movable_numa_aware": "memory_hotplug.auto_movable_numa_aware={}",
    "memhp_default_state": "memhp_default_state={}",
    "movable_node": "movable_node",
    "rodata_full": "rodata=full",
    "debug_pagealloc": "debug_pagealloc=on",
    "gbpages": "gbpages",
}
"""What stands on a command line for each key of ``[machine.boot]`` (admin-guide/kernel-parameters.rst)."""

WHEN_OFF = {"gbpages": "nogbpages", "rodata_full": "rodata=on"}
"""The same for a key that is false, where leaving it out is not enough."""


def refusal(kernel: Kernel, step: schema.StepKind, *, served: bool = False) -> str | None:
    """Why a guest with a kernel cannot carry out a step; None if it can. `served` says that memhp is its device."""
    arch, machine = kernel.arch, MACHINES[kernel.arch]
    if step.fault is not None and (why := injected.refusal(kernel, step.fault)) is not None:
        return why
    if type(step) not in RUNNERS:
        return "only the model can (another target would need a program of its own in the guest)"
    if isinstance(step, schema.Plug):
        if step.driver != "dimm":
            return f"driver {step.driver!r} adds memory of a device: write that device's own steps"
        if step.memmap_on_memory is not None:
            return "the driver decides about memmap_on_memory: set it in [machine.boot]"
        if not machine.dimm:
            return f"QEMU has no DIMMs on {arch}"
        if kernel.lacks("CONFIG_ACPI_HOTPLUG_MEMORY"):
            return "the kernel is built without ACPI_HOTPLUG_MEMORY"
    if isinstance(step, schema.VirtioMem | schema.Resize):
        if not served and not machine.virtio_mem:
            return f"QEMU has no virtio-mem on {arch}"
        if served and machine.served is None:
            return f"no device is served to a guest of {arch}"
        if kernel.lacks("CONFIG_VIRTIO_MEM") and not kernel.has_module("virtio_mem"):
            return "the kernel is built without VIRTIO_MEM, and no module of that name is beside its own"
        if step.faults and not served:
            return "QEMU's device makes no faults"
    if isinstance(step, schema.VirtioMem) and (step.big_blocks or step.big_block_size or not step.unplug_online):
        return "the driver is loaded without parameters"
    if isinstance(step, schema.Allocate):
        if step.kind not in USES or step.at is not None or step.node:
            return f"a guest uses memory anywhere, and of these kinds: {', '.join(USES)}"
        if step.kind == "pinned" and kernel.lacks("CONFIG_IO_URING"):
            return "the kernel is built without IO_URING"
        if step.kind == "movable" and parse_size(step.size, where="size") % FILE_UNIT:
            return f"such files are made of {FILE_UNIT >> 10} KiB"
    if isinstance(step, schema.Poison) and step.at is None:
        return "which page it is only its address says: write `at`"
    if isinstance(step, schema.Dax):
        nowhere = f"memhp has no region of persistent memory for guests of {arch}"
        return dax.refusal(kernel, step) if machine.pmem else nowhere
    if isinstance(step, schema.Eject) and not step.enabled:
        return "the attribute that forbids ejecting is left alone"
    return None


def spec_for(base: GuestSpec, scenario: schema.Scenario) -> GuestSpec:
    """A guest for a scenario: its RAM, nodes, CPUs and command line, with the devices of its steps.

    Raises :class:`BadInput` for sizes that cannot be read.
    """
    text = scenario.machine
    devices = tuple(
        VirtioMemDevice(step.device, parse_size(step.size), parse_size(step.block_size), step.node)
        for step in scenario.steps
        if isinstance(step, schema.VirtioMem)
    )
    dimms = any(isinstance(step, schema.Plug) for step in scenario.steps)
    spec = replace(
        base,
        nodes=_nodes(text) or base.nodes,
        cpus=text.cpus or base.cpus,
        append=" ".join(filter(None, (base.append, *_options(text.boot)))),
        virtio_mem=devices,
        dimms=dimms,
        notifiers=any(step.fault is not None and step.fault.notifier is not None for step in scenario.steps),
    )
    return with_regions(spec, regions(scenario.steps))


def _nodes(text: schema.MachineText) -> tuple[int, ...]:
    """The RAM of each node."""
    if isinstance(text.memory, list):
        count = max((part.node for part in text.memory), default=0) + 1
        sizes = [0] * count
        for part in text.memory:
            sizes[part.node] += parse_size(part.size)
        return tuple(sizes)
    return (parse_size(text.memory),) if text.memory is not None else ()


def _options(boot: schema.Boot | None) -> Iterable[str]:
    for key, option in BOOT_OPTIONS.items():
        value = None if boot is None else getattr(boot, key)
        if value is False and "{}" not in option:
            yield WHEN_OFF.get(key, "")
        elif value is not None:
            yield option.format({True: "Y", False: "N"}.get(value, value) if isinstance(value, bool) else value)


class GuestTarget:
    """A guest that runs. Whoever started the guest ends it."""

    def __init__(self, guest: Guest, device: Served | None = None) -> None:
        self.guest = guest
        self.name = f"guest {guest.release}"
        self.served = device
        """Its virtio-mem device, where that is not QEMU's."""
        if guest.spec.virtio_mem:
            guest.load("virtio_mem")
        if guest.spec.notifiers:
            guest.load(injected.MODULE)
        self.machine = GuestMachine(guest)

    def refusal(self, step: schema.StepKind) -> str | None:
        """Why a step cannot be carried out here; None if it can."""
        spec = self.guest.spec
        if isinstance(step, schema.Plug) and MACHINES[spec.kernel.arch].dimm_needs_firmware and not spec.dimms:
            return "the guest was not started through UEFI, whose ACPI tells of DIMMs"
        return refusal(spec.kernel, step, served=self.served is not None)

    def carry_out(self, step: schema.StepKind) -> Done:
        """Do what a step says and wait until the kernel is done with it."""
        return injected.carry_out(self.machine, step, lambda: self._do(step))

    def _do(self, step: schema.StepKind) -> Done:
        if self.served is not None and isinstance(step, schema.VirtioMem):
            return served.virtio_mem(self.machine, self.served, step)
        if self.served is not None and isinstance(step, schema.Resize):
            return served.resize(self.machine, self.served, step)
        return RUNNERS[type(step)](self.machine, step)

    def requests(self) -> tuple[str, ...] | None:
        """What its virtio-mem device was asked so far, with the answers; None where that device is QEMU's."""
        return None if self.served is None else tuple(map(str, self.served.requests()))

    def facts(self) -> Facts:
        """All that the guest shows now."""
        return observe.facts(self.guest)

    def page_flags(self, pages: Span) -> Flags:
        """``/proc/kpageflags`` of page frames."""
        return observe.page_flags(self.guest, pages)

    def memory(self) -> GuestMemory:
        """Its physical memory, and where its page tables are. Raises :class:`BadInput` where that is not told."""
        return GuestMemory(self.guest)

    def log(self) -> tuple[str, ...]:
        """The kernel log so far."""
        return tuple(line.text for line in dmesg.parse(self.guest.agent.run("dmesg").text).lines)
