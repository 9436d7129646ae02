"""How what the RISC-V threads raise beside their claims is decided: costs of the two policies, altmaps, revisions."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Mapping
from typing import Any

from memhp.claims import evidence
from memhp.claims.altmap import device, storage
from memhp.claims.claim import Finding, VerdictName, answered, judged, over_releases, settled
from memhp.claims.kconfig import BUILDS, RULES, option
from memhp.claims.riscv_hotplug import V1
from memhp.linux.config import configs
from memhp.linux.mm.memremap import memremap_pages, memunmap_pages
from memhp.linux.profiles import MAINLINE, PROFILES, profile
from memhp.scenario.result import flush_count
from memhp.units import GiB

SYNC = {"pgd_policy": "sync", "pgd_preallocated": []}
PROCESSES = (0, 1, 10)
"""Numbers of processes that are run; what each costs more is a line, along which larger numbers are read."""
MISS_NS = 100
"""Nanoseconds of a store whose line is in no cache, an estimate: each process's root table is a page of its own."""

READ_OFF = (10, 100, 1000, 10_000)


def _stores(processes: int, choices: Mapping[str, Any]) -> tuple[int, int]:
    """Entries written by a hot-add of 16 GiB under Sv39, and new tables, with that many processes."""
    run = evidence.run(
        {"preset": "riscv-vm-sv39", "memory": "1G", "choices": dict(choices)},
        *({"do": "new-process", "process": f"p{number}"} for number in range(processes)),
        {"do": "plug", "size": 16 * GiB, "at": 16 * GiB},
    )
    return run.steps[-1].entries_written, evidence.table_count(run.steps[-1].tables_allocated)


def _ms(stores: int) -> float:
    """Milliseconds that so many stores take one after the other."""
    return stores * MISS_NS / 1e6


def sync_cost() -> Finding:
    """rv-12: what a hot-add costs for each process under synchronisation, and what pre-allocation costs for it.

    The stores that are more than without any process are made one after the other under ``pgd_lock``.
    """
    counted = {number: _stores(number, SYNC) for number in PROCESSES}
    none, tables = counted[0]
    each = counted[1][0] - none
    linear = all(stores - none == number * each for number, (stores, _) in counted.items()) and each > 0
    free = {_stores(number, {})[0] for number in PROCESSES}
    ahead = sum(area.tables for area in evidence.sizes("riscv64", "linux-6.12")[0].preallocated)
    figure = (
        f"16 GiB under Sv39: {each} stores for each process under pgd_lock, "
        f"{', '.join(f'{number * each:,} for {number:,}' for number in READ_OFF)}, and {tables} tables; at "
        f"{MISS_NS} ns a store the lock is held for {', '.join(f'{_ms(number * each):g}' for number in READ_OFF)} ms; "
        f"pre-allocated: none whatever the number, and {ahead} tables at boot"
    )
    return answered(("linux-6.12",), linear and len(free) == 1, figure)


def altmap_aware_free() -> Finding:
    """rv-13: 1 GiB of a device that keeps its struct pages itself, under Sv57: whom storage is taken from and given to.

    v1 populates without the altmap and frees with it. Nothing of v1 hands one down: it has neither ZONE_DEVICE nor
    memmap_on_memory, so that the fault sleeps.
    """
    parts, verdicts = [], dict[str, VerdictName]()
    for name in (V1, *MAINLINE):
        k = evidence.kernel({"preset": "riscv-vm-sv57", "memory": "1G", "profile": name})
        before = storage(k)[1]
        pgmap = device(k, GiB)
        memremap_pages(k, pgmap, 0)
        own, ram = storage(k)
        memunmap_pages(k, pgmap)
        assert pgmap.altmap is not None
        lost, left = storage(k)[1] - before, pgmap.altmap.alloc
        verdicts[name] = judged(own > 0 and ram == before and not lost and not left)
        parts.append(
            f"{name}: {own} pages on the device, {ram - before} in RAM; afterwards {lost} pages of RAM are lost and "
            f"the account shows {left}"
        )
    return over_releases("; ".join(parts), verdicts)


def build_options() -> Finding:
    """rv-14: which options a build has, by what it asks for, in each kernel; see :mod:`memhp.claims.kconfig`."""
    parts, verdicts = [], dict[str, VerdictName]()
    for name in RULES:
        told = []
        for build, asked in BUILDS.items():
            has = [each for each in ("MEMORY_HOTPLUG", "MEMORY_HOTREMOVE", "ZONE_DEVICE") if option(name, each, asked)]
            told.append(f"{build}: {', '.join(has) or 'none'}")
        verdicts[name] = settled(option(name, "MEMORY_HOTREMOVE", BUILDS["as distributions build it"]))
        parts.append(f"{name}: {'; '.join(told)}")
    return over_releases("; ".join(parts), verdicts)


REVISIONS: dict[str, dict[str, Any]] = {
    "v2": {"add_flush": "before-add-pages", "remove_extra_flush": False, "optimize_dax_vmemmap": False},
    "v3": {"optimize_dax_vmemmap": False},
    "v4": {},
}
"""What each revision has otherwise than 6.11, which merged v4."""


def revisions() -> Finding:
    """rv-15: every revision's life cycle in each mode: what each changed, and what none did."""
    merged = profile("linux-6.11")
    kernels = {"v1": PROFILES[V1]} | {
        name: merged.choosing("riscv64", {"ptdump_lock": "mem_hotplug_lock", **choices})
        for name, choices in REVISIONS.items()
    }
    parts, whole = [], {}
    for name, kernel in kernels.items():
        rows = [evidence.row(config) for config in configs(kernel, ["riscv64"])]
        whole[name] = [f"Sv{row.va_bits}" for row in rows if row.ok]
        last = rows[-1]
        times = [flush_count(flushes) for flushes in (last.flushes_add, last.flushes_remove)]
        parts.append(
            f"{name}: {', '.join(whole[name])} keeps every law, struct pages by {last.memmap_leaf}, "
            f"{times[0]} flushes to add and {times[1]} to remove"
        )
    return answered(kernels, all(modes == ["Sv57"] for modes in whole.values()), "; ".join(parts))
