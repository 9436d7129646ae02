"""The machine of a rehearsal in words, as the heads of reports have it."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.scenario.result import MachineResult
from memhp.units import format_count, format_size


def machine_text(machine: MachineResult) -> str:
    """Name, architecture, kernel, pages, addresses and CPUs."""
    return (
        f"{machine.name}: {machine.arch}, {machine.profile}, {format_size(machine.page_size)} pages, "
        f"{machine.va_bits}-bit addresses in {machine.levels} levels, {format_count(machine.cpus, 'CPU')}"
    )


def ram_text(machine: MachineResult) -> str:
    """RAM at boot, and how much more there is that the kernel leaves."""
    taken = f"{format_size(sum(end - start for start, end, _ in machine.ram))} of RAM"
    left = f"{format_size(machine.ram_left)} more lies beyond what the kernel maps at boot"
    return f"{taken} ({left})" if machine.ram_left else taken
