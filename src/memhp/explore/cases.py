"""Races of memory hotplug, ready to be explored: kernels, a DIMM, and what two CPUs do at the same time.

The machines have 1 GiB of RAM at boot and real page-table geometry; the DIMM is one 128 MiB range above it. A variant
is a kernel: what differs between variants is in that kernel's profile.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any

from memhp.check import check_all
from memhp.errors import BadInput
from memhp.explore.doors import Actor, KernelProgram
from memhp.hw.memory import Owner, Use
from memhp.linux.choices import Arch, PtdumpLock
from memhp.linux.config import Config
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.mm.memory_hotplug import MHP_NONE, add_memory, remove_memory
from memhp.linux.mm.page_alloc import alloc_pages
from memhp.linux.mm.ptdump import ptdump_walk_pgd
from memhp.linux.profiles import profile
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, KiB, MiB

DIMM = Span(8 * GiB, 8 * GiB + 128 * MiB)
BOOT_RAM: dict[Arch, int] = {"riscv64": 2 * GiB, "arm64": 1 * GiB, "x86_64": 1 * MiB}
RECORDS: dict[Arch, str] = {"riscv64": "riscv", "arm64": "arm64", "x86_64": "x86"}
"""The name of an architecture's record in a profile."""
HUGE_ORDER = 9
"""A block as large as the storage of a section's struct pages under a 2 MiB leaf."""


@dataclass(frozen=True)
class Kind:
    """A kernel on an architecture: the variant of a case."""

    arch: Arch
    release: str
    va_bits: int
    ptdump_lock: bool | None = None
    """Whether the page-table dump takes ``mem_hotplug_lock``; None: as this kernel does."""

    def boot(self) -> Kernel:
        """The machine with its DIMM plugged, which the kernel does not know yet."""
        chosen = profile(self.release)
        if self.ptdump_lock is not None:
            lock: PtdumpLock = "mem_hotplug_lock" if self.ptdump_lock else "none"
            changes: dict[str, Any] = {RECORDS[self.arch]: replace(chosen.arch(self.arch), ptdump_lock=lock)}
            chosen = replace(chosen, **changes)
        config = Config(arch=self.arch, profile=chosen, page_size=4 * KiB, va_bits=self.va_bits, rodata_full=False)
        k = start_kernel(MachineSpec("explored", config, (Ram(BOOT_RAM[self.arch], GiB),)))
        k.hw.plug(pfns(k, DIMM), Owner(Use.DEVICE, "dimm"))
        return k


def pfns(k: Kernel, span: Span) -> Span:
    """Bytes as PFNs."""
    return Span(span.start >> k.config.page_shift, span.end >> k.config.page_shift)


def hot_add(k: Kernel) -> None:
    """``add_memory()`` of the DIMM."""
    add_memory(k, 0, DIMM.start, DIMM.size, MHP_NONE)


def hot_remove(k: Kernel) -> None:
    """``remove_memory()`` of the DIMM, whose blocks are offline."""
    remove_memory(k, DIMM.start, DIMM.size)


def take_pages(k: Kernel) -> Hashable:
    """Anybody's allocation of a large block."""
    owner = Owner(Use.KERNEL, "someone else")
    return tuple(alloc_pages(k, HUGE_ORDER, 0, owner=owner, where="mm/page_alloc.c:alloc_pages"))


def dump_page_tables(k: Kernel) -> Hashable:
    """``cat /sys/kernel/debug/kernel_page_tables``, as far as the DIMM's direct map."""
    start = k.layout.phys_to_virt(DIMM.start)
    return ptdump_walk_pgd(k, Span(start, start + DIMM.size))


def laws_hold(k: Kernel) -> str | None:
    """The first law of :mod:`memhp.check` that does not hold when all is done."""
    return next((f"{breach.law}: {breach.text}" for breach in check_all(k)), None)


@dataclass(frozen=True)
class Case:
    """One race: what happens on each CPU, whether the DIMM was added before, and the variants."""

    name: str
    actors: tuple[tuple[str, Actor], ...]
    added: bool
    variants: dict[str, Kind]

    def program(self, variant: str) -> KernelProgram:
        """The case on one kernel. BadInput: there is no such variant."""
        if variant not in self.variants:
            raise BadInput(f"{self.name} has no variant {variant!r}", fix=f"one of {', '.join(self.variants)}")
        k = self.variants[variant].boot()
        if self.added:
            hot_add(k)
        names, actors = zip(*self.actors, strict=True)
        return KernelProgram(k, actors, names, check=laws_hold)


MAINLINE = {
    "riscv64-6.12": Kind("riscv64", "linux-6.12", 48),
    "arm64-6.12": Kind("arm64", "linux-6.12", 48),
    "x86_64-6.12": Kind("x86_64", "linux-6.12", 48),
}

CASES: dict[str, Case] = {
    case.name: case
    for case in (
        Case(
            "free-before-flush",
            (("hot-remove", hot_remove), ("allocation", take_pages)),
            True,
            MAINLINE,
        ),
        Case(
            "ptdump-vs-hot-remove",
            (("hot-remove", hot_remove), ("ptdump", dump_page_tables)),
            True,
            {f"{name}-{lock}": replace(kind, ptdump_lock=lock == "locked")
             for name, kind in MAINLINE.items() for lock in ("unlocked", "locked")},
        ),
        Case(
            "two-hotplugs",
            (("hot-add", hot_add), ("hot-add", hot_add)),
            False,
            MAINLINE,
        ),
    )
}  # fmt: skip
"""The cases by name."""
