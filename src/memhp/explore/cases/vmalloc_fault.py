"""vmalloc grows under a root entry that is new; a process with an older PGD uses the area that it is handed."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Hashable
from dataclasses import dataclass, field

from memhp.explore.case import Case, Configuration, Variant, configurations, mainline
from memhp.explore.cases.actors import laws_hold
from memhp.explore.doors.run import KernelProgram
from memhp.hw.shared import marked
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.mm.vmalloc import vmalloc
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB

OLDER = "older"
"""A process that is there before the area."""
POINTER = "the area's pointer"
V1 = "riscv-hotplug-v1"
TWO_CALLERS = "sync-two-callers"


@dataclass
class Pointer:
    """A variable of the kernel, through which one CPU hands an area to others."""

    area: Span | None = field(default=None, metadata=marked(POINTER))


def grow(k: Kernel) -> None:
    """``vmalloc()`` of a page, then the pointer to it is stored where others find it."""
    area = vmalloc(k, k.config.page_size, "shared")
    k.hw.writes(POINTER)
    k.statics(Pointer).area = area


def use(k: Kernel) -> Hashable:
    """Another process takes the pointer and reads what it points to: the outcome of the access, if there was one."""
    k.hw.reads(POINTER)
    area = k.statics(Pointer).area
    return k.port.kernel_access(k, OLDER, area.start) if area is not None else "no area yet"


def use_own(k: Kernel) -> Hashable:
    """The process makes an area for itself and reads what is in it."""
    area = vmalloc(k, k.config.page_size, "its own")
    return k.port.kernel_access(k, OLDER, area.start)


def build(variant: Variant, configuration: Configuration) -> KernelProgram:
    """The first area in the vmalloc range is made; an older process looks for it, or makes one at the same time."""
    config = variant.config(configuration)
    k = start_kernel(MachineSpec("explored", config, (Ram(config.port.ram_start, GiB),)))
    k.port.copy_pgd(k, OLDER)
    process = use_own if variant.name == TWO_CALLERS else use
    return KernelProgram(k, (grow, process), ("vmalloc", "process"), check=laws_hold)


CASE = Case(
    name="vmalloc-fault",
    actors="vmalloc growing into a new PGD slot; access from a process with a stale PGD",
    build=build,
    variants=(
        Variant(
            "no-fault-handler",
            "no fault handler and no tables in advance: nothing brings the root entry to the process",
            "broken",
            configurations("linux-6.12", "riscv64", "x86_64"),
            {"pgd_policy": "none", "pgd_preallocated": ()},
        ),
        Variant(
            "vmalloc-fault",
            "the fault handler copies the root entry from init_mm (the riscv series before its patch 7)",
            "repaired",
            configurations(V1, "riscv64"),
            {"pgd_preallocated": ("vmemmap", "direct map"), "vmalloc_fault": True},
        ),
        Variant(
            "sync",
            "vmalloc writes the root entry that it fills into every process's table (x86 before it preallocated)",
            "repaired",
            configurations("linux-6.12", "x86_64"),
            {"pgd_preallocated": ()},
        ),
        Variant(
            TWO_CALLERS,
            "the same; another caller of vmalloc, who finds the entry filled, does not wait for that",
            "broken",
            configurations("linux-6.12", "x86_64"),
            {"pgd_preallocated": ()},
        ),
        Variant(
            "patch-7",
            "boot fills the root entries of the vmalloc area (patch 7 of the riscv series)",
            "repaired",
            configurations(V1, "riscv64"),
        ),
        Variant(
            "preallocate",
            "boot fills the root entries of the vmalloc area (riscv and x86 as they are)",
            "repaired",
            mainline("riscv64", "x86_64"),
        ),
    ),
)
