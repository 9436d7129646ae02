"""Counts of page tables: which tables a kernel counts as it makes them, and which it takes off as they go.

``nr_page_table_pages`` goes up in a table's constructor (``pagetable_pte_ctor()`` and its kin) and down in its
destructor. Tables of the direct map are made by the architecture, those of the vmemmap by mm/sparse-vmemmap.c, which
calls no constructor; both go through one function of the architecture when memory does.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

from memhp.claims.claim import Finding, VerdictName, judged, over_releases
from memhp.claims.fix import Shown
from memhp.hw.memory import Owner, Use
from memhp.hw.walker import tables
from memhp.linux.arch.registry import Arch
from memhp.linux.config import Config, configs
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.mm.memory_hotplug_add import MHP_NONE, add_memory
from memhp.linux.mm.memory_hotplug_remove import remove_memory
from memhp.linux.profiles import profile
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, KiB, TiB

Area = Literal["direct map", "vmemmap"]
Kind = tuple[Area, int]
"""Tables of an area and a height."""
KERNELS = ("linux-6.12", "linux-7.2")
KERNEL_HALF = 1 << 63


def _kinds(area: Area, *heights: int) -> frozenset[Kind]:
    return frozenset(product((area,), heights))


@dataclass(frozen=True)
class Pairing:
    """Which tables have a constructor run for them, and which a destructor."""

    made: frozenset[Kind] = frozenset()
    unmade: frozenset[Kind] = frozenset()

    @property
    def paired(self) -> "Pairing":
        """The same kernel repaired: the destructor runs for those that the constructor ran for."""
        return replace(self, unmade=self.made)


PAIRINGS: dict[tuple[Arch, str], Pairing] = {
    # __pgd_pgtable_alloc() and free_hotplug_pgtable_page() of arch/arm64/mm/mmu.c
    ("arm64", "linux-6.12"): Pairing(),
    ("arm64", "linux-7.2"): Pairing(
        _kinds("direct map", 0, 1, 2, 3), _kinds("direct map", 0, 1, 2, 3) | _kinds("vmemmap", 0, 1, 2, 3)
    ),
    # alloc_pte_late() to alloc_p4d_late() and free_pte_table() to free_pud_table() of arch/riscv/mm/init.c
    ("riscv64", "linux-6.12"): Pairing(_kinds("direct map", 0, 1), _kinds("direct map", 0, 1) | _kinds("vmemmap", 0)),
    ("riscv64", "linux-7.2"): Pairing(
        _kinds("direct map", 0, 1, 2, 3), _kinds("direct map", 0, 1) | _kinds("vmemmap", 0)
    ),
    # alloc_low_pages() and free_pagetable() of arch/x86/mm
    ("x86_64", "linux-6.12"): Pairing(),
    ("x86_64", "linux-7.2"): Pairing(),
}
"""As the sources have it, by architecture and kernel."""


@dataclass(frozen=True)
class Cycle:
    """How many tables of each kind a memory block far away needs, and how many of them go with it."""

    gained: Counter[Kind]
    lost: Counter[Kind]

    def drift(self, pairing: Pairing) -> int:
        """By how many tables the count is off after the block has come and gone."""
        gone = {kind: min(n, self.lost[kind]) for kind, n in self.gained.items()}
        counted = sum(n for kind, n in gone.items() if kind in pairing.made)
        return counted - sum(n for kind, n in gone.items() if kind in pairing.unmade)


def cycle(config: Config) -> Cycle:
    """A memory block is added where no table of its own is there yet, and removed."""
    start = config.port.ram_start
    k = start_kernel(MachineSpec("small", config, (Ram(start, GiB),)))
    at = start + min(TiB, k.layout.pluggable_range(need_mapping=True).end // 2)
    size = k.memory_block_size
    k.hw.plug(Span(at >> config.page_shift, at + size >> config.page_shift), Owner(Use.DEVICE, "dimm"))
    before = _counted(k)
    add_memory(k, 0, at, size, MHP_NONE)
    there = _counted(k)
    remove_memory(k, at, size)
    return Cycle(there - before, there - _counted(k))


def _counted(k: Kernel) -> Counter[Kind]:
    found = tables(k.hw.memory, k.hw.fmt, k.init_mm.frame, va_start=KERNEL_HALF)
    areas: dict[Area, Span] = {"direct map": k.layout.direct_map.span, "vmemmap": k.layout.vmemmap.span}
    return Counter(
        (area, height)
        for va, height in zip(found.va.tolist(), found.height.tolist(), strict=True)
        for area, span in areas.items()
        if va in span and height < k.hw.fmt.root_height
    )


def _config(arch: Arch, kernel: str) -> Config:
    """4K pages, as many levels as there are."""
    found = [each for each in configs(profile(kernel), [arch]) if each.page_size == 4 * KiB]
    return max(found, key=lambda each: len(each.format.levels))


@dataclass(frozen=True)
class Counted:
    """A witness: by how much the count is off after a block has come and gone, as it is and repaired."""

    arch: Arch
    kernel: str
    before: Pairing
    after: Pairing

    def show(self) -> Shown:
        """Add and remove a block once, and count with both."""
        made = cycle(_config(self.arch, self.kernel))
        return Shown(*(_off(made.drift(each)) for each in (self.before, self.after)))


def _off(drift: int) -> str:
    return f"PageTables is off by {drift:+d} tables for each block that came and went" if drift else ""


def pairs() -> Finding:
    """Whether each table that had a constructor has its destructor, and no other, in today's kernels."""
    verdicts: dict[str, VerdictName] = {}
    told = []
    for kernel in KERNELS:
        drifts = {
            arch: cycle(_config(arch, kernel)).drift(found)
            for (arch, name), found in PAIRINGS.items()
            if name == kernel
        }
        verdicts[kernel] = judged(not any(drifts.values()))
        told.append(f"{kernel}: " + ", ".join(f"{arch} {drift:+d}" for arch, drift in drifts.items()))
    return over_releases("; ".join(told), verdicts)
