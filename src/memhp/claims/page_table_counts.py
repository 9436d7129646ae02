"""Counts of page tables: what a memory block that has come and gone leaves in ``nr_page_table_pages``.

It goes up in a table's constructor (``pagetable_pte_ctor()`` and its kin) and down in its destructor. Tables of the
direct map are made by the architecture, those of the vmemmap by mm/sparse-vmemmap.c, which calls no constructor; both
go through one function of the architecture when memory does.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.check import table_counts
from memhp.claims.claim import Finding, VerdictName, judged, over_releases
from memhp.hw.memory import Owner, Use
from memhp.linux.arch.registry import Arch
from memhp.linux.config import Config, configs
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.mm.memory_hotplug_add import MHP_NONE, add_memory
from memhp.linux.mm.memory_hotplug_remove import remove_memory
from memhp.linux.profiles import profile
from memhp.linux.set_memory import set_direct_map_default_noflush, set_direct_map_invalid_noflush
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, KiB, TiB

KERNELS = ("linux-6.12.5", "linux-6.12", "linux-7.2")
ARCHES: tuple[Arch, ...] = ("arm64", "riscv64", "x86_64")


def come_and_gone(config: Config, *, split: bool = False) -> Kernel:
    """A machine after a memory block was added where no table of its own was there yet, and removed.

    `split`: one page of it lost and got back its direct map meanwhile, for which a leaf is split.
    """
    start = config.port.ram_start
    k = start_kernel(MachineSpec("small", config, (Ram(start, GiB),)))
    at = start + min(TiB, k.layout.pluggable_range(need_mapping=True).end // 2)
    size = k.memory_block_size
    k.hw.plug(Span(at >> config.page_shift, at + size >> config.page_shift), Owner(Use.DEVICE, "dimm"))
    add_memory(k, 0, at, size, MHP_NONE)
    if split:
        set_direct_map_invalid_noflush(k, at >> config.page_shift)
        set_direct_map_default_noflush(k, at >> config.page_shift)
    remove_memory(k, at, size)
    return k


def drift(config: Config, *, split: bool = False) -> int:
    """By how many tables the count is off after a memory block has come and gone."""
    tables = come_and_gone(config, split=split).hw.table_counts
    return tables.nr_page_table_pages - tables.constructed.size


def off(config: Config) -> str:
    """What is wrong with the count after a memory block has come and gone; empty if nothing is."""
    found = drift(config)
    return f"PageTables is off by {found:+d} tables for each block that came and went" if found else ""


def kept(config: Config) -> str:
    """How many tables stay counted that are gone after a memory block has come and gone; empty if none does."""
    found = come_and_gone(config).hw.table_counts.never_destroyed.total()
    return f"PageTables goes on counting {found} tables" if found else ""


def breached(config: Config) -> str:
    """What the law finds after a memory block has come and gone: more than a figure that is off."""
    return "; ".join(breach.text for breach in table_counts.LAW.check(come_and_gone(config)))


def _config(arch: Arch, kernel: str) -> Config:
    """4K pages, as many levels as there are."""
    found = [each for each in configs(profile(kernel), [arch]) if each.page_size == 4 * KiB]
    return max(found, key=lambda each: len(each.format.levels))


def pairs() -> Finding:
    """Whether each table that had a constructor has its destructor, and no other, in today's kernels."""
    verdicts: dict[str, VerdictName] = {}
    told = []
    for kernel in KERNELS:
        drifts: dict[str, int] = {arch: drift(_config(arch, kernel)) for arch in ARCHES}
        drifts["x86_64 with a leaf split"] = drift(_config("x86_64", kernel), split=True)
        verdicts[kernel] = judged(not any(drifts.values()))
        told.append(f"{kernel}: " + ", ".join(f"{what} {found:+d}" for what, found in drifts.items()))
    return over_releases("; ".join(told), verdicts)
