"""How the claims of the RISC-V series about its page tables are decided: as it was posted, and in kernels since."""
# SPDX-License-Identifier: GPL-2.0-or-later

from typing import Any

from memhp.claims import evidence
from memhp.claims.claim import Finding, VerdictName, judged, over_releases
from memhp.explore.cases.free_before_flush import CASE as FREE_BEFORE_FLUSH
from memhp.explore.cases.pgd_sync_existing_process import CASE as EXISTING
from memhp.explore.cases.pgd_sync_new_process import CASE as NEW
from memhp.linux.config import configs
from memhp.linux.profiles import MAINLINE, Arch, profile
from memhp.scenario.result import flush_count
from memhp.units import GiB, KiB, MiB, format_count

V1 = "riscv-hotplug-v1"
BEFORE_THE_MEND = "linux-6.12.102"
"""The last 6.12.y whose removal walk reads behind the root table; 6.11 to 7.1 do as well."""

KERNELS = (V1, BEFORE_THE_MEND, *MAINLINE)
MODES = {"riscv-vm-sv39": "Sv39", "riscv-vm": "Sv48", "riscv-vm-sv57": "Sv57"}
"""Paging modes by the machine that boots with each."""

SV39 = "riscv64-4K-39-linux-6.12"
PLUG_512M = {"do": "plug", "size": "512M", "driver": "virtio_mem"}


def life_cycle() -> Finding:
    """rv-1: add, online, offline and remove under Sv39, Sv48 and Sv57, page tables as before afterwards."""
    parts, verdicts = [], dict[str, VerdictName]()
    for name in KERNELS:
        rows = evidence.rows("riscv64", name)
        broken = [f"Sv{row.va_bits} breaks {', '.join(row.broken)}" for row in rows if not row.ok]
        verdicts[name] = judged(not broken)
        parts.append(f"{name}: {sum(row.ok for row in rows)} of {len(rows)} modes keep every law")
        parts += broken
    return over_releases("; ".join(parts), verdicts)


def root_entries() -> Finding:
    """rv-2: who faults on memory whose root entry is newer than the process, under each policy.

    As a rehearsal, one step after the other, and explored under Sv39: every order of hot-add with an older process that
    comes upon the memory, and with a fork.
    """
    faults = {name: _faults(choices) for name, choices in POLICIES.items()}
    figure = "; ".join(f"{name}: {' and '.join(who) or 'nobody'} faults" for name, who in faults.items())
    as_claimed = faults == {"none": ["older process"], "sync": [], "preallocate": []}
    for race, who in ((EXISTING, "older process"), (NEW, "fork")):
        words = []
        for variant in race.variants:
            if SV39 not in [one.name for one in variant.configurations]:
                continue
            verdict = evidence.explored(race, variant.name, SV39)
            as_claimed = as_claimed and verdict.word == ("broken" if variant.stands_for == "broken" else "safe")
            number = verdict.classes if verdict.failure is None else None
            classes = "" if number is None else f" ({format_count(number, 'class')})"
            words.append(f"{variant.name} {verdict.word}{classes}")
        figure += f"; explored, {who}: {', '.join(words)}"
    own = {name: _faults({}, name) for name in (V1, *MAINLINE)}
    figure += "".join(f"; {name} as it is: {' and '.join(who) or 'nobody'} faults" for name, who in own.items())
    return over_releases(figure, {name: judged(as_claimed and not who) for name, who in own.items()})


POLICIES: dict[str, dict[str, Any]] = {
    "none": {"pgd_policy": "none", "pgd_preallocated": []},
    "sync": {"pgd_policy": "sync", "pgd_preallocated": []},
    "preallocate": {},
}


def _faults(choices: dict[str, Any], name: str = "linux-6.12") -> list[str]:
    """Which of an older and a younger process faults on 2 GiB added to a Sv39 machine, direct map or struct pages."""
    at = 4 * GiB
    touches = [
        {"do": "touch", "process": process, "at": at, "what": what, "name": f"{process} process"}
        for process in ("older", "younger")
        for what in ("direct-map", "struct-page")
    ]
    who = []
    for touch in touches:
        run = evidence.run(
            {"preset": "riscv-vm-sv39", "memory": "1G", "profile": name, "choices": choices},
            {"do": "new-process", "process": "older"},
            {"do": "plug", "size": 2 * GiB, "at": at},
            {"do": "new-process", "process": "younger"},
            touch,
        )
        if run.steps[-1].outcome.result == "BUG" and touch["name"] not in who:
            who.append(str(touch["name"]))
    return who


def preallocation() -> Finding:
    """rv-3: table pages that the posted series allocates ahead, and how many of them 4 GiB of RAM use; and today."""
    parts, verdicts = [], dict[str, VerdictName]()
    for name in (V1, *MAINLINE):
        near = True
        for row in evidence.sizes("riscv64", name):
            areas = {area.area: area for area in row.preallocated}
            first = [areas[area] for area in ("direct map", "vmemmap")]
            tables, used = sum(area.tables for area in first), sum(area.used or 0 for area in first)
            near = near and abs(tables - 128) <= 128 // 4
            others = ", ".join(f"{area.tables} for {area.area}" for area in row.preallocated if area not in first)
            parts.append(f"{name} Sv{row.va_bits}: {tables} pages, {used} used; {others} more")
        verdicts[name] = judged(near)
    return over_releases("; ".join(parts), verdicts)


def vmemmap_leaves() -> Finding:
    """rv-4: what struct pages of 512 MiB cost in entries and tables, as posted and with PMD leaves."""
    cost = {}
    for name in (V1, *MAINLINE):
        (step,) = evidence.run({"preset": "riscv-vm-sv57", "profile": name}, PLUG_512M, tables=True).steps
        written = [each for each in step.table_changes if each.area == "vmemmap" and each.what == "leaf"]
        cost[name] = (sum(each.entries for each in written), evidence.table_count(step.tables_allocated))
    base, base_tables = cost[V1]
    parts = [f"{name}: {entries} leaves, {tables} new tables" for name, (entries, tables) in cost.items()]
    storage = (512 * MiB >> 12) * 64
    pages, huge = storage // (4 * KiB), storage // (2 * MiB)
    verdicts: dict[str, VerdictName] = {V1: judged(base == pages)}
    verdicts |= {name: judged(cost[name][0] == huge and cost[name][1] < base_tables) for name in MAINLINE}
    return over_releases(f"struct pages of 512 MiB: {'; '.join(parts)}", verdicts)


def frames_conserved() -> Finding:
    """rv-5: one teardown for both areas, and no frame lost or freed twice, in every mode."""
    parts, verdicts = [], dict[str, VerdictName]()
    for name in KERNELS:
        told = []
        for preset, mode in MODES.items():
            run = evidence.run(
                {"preset": preset, "profile": name, "memory": "1G"},
                PLUG_512M,
                {"do": "online", "zone": "movable"},
                {"do": "offline"},
                {"do": "remove"},
            )
            lost = run.steps[0].memory_before.free - run.steps[-1].memory_after.free
            broken = evidence.broken_laws(run)
            if lost or broken:
                told.append(f"{mode} loses {lost} bytes and breaks {len(broken)} laws")
        verdicts[name] = judged(not told)
        parts.append(f"{name}: {', '.join(told) or 'nothing lost in any mode'}")
    return over_releases("; ".join(parts), verdicts)


def flushes() -> Finding:
    """rv-6: flushes on removal, frames given back before the flush that covers them, and whether that is safe.

    Under Sv57, where every kernel removes. The hammer of a kernel is enough if nobody else can have a frame that some
    CPU may still translate to; what is explored is the order of clearing, flushing and freeing that the kernel has.
    """
    parts, verdicts = [], dict[str, VerdictName]()
    for (arch, kernel), (variant, where) in FLUSH_ORDERS.items():
        word = evidence.explored(FREE_BEFORE_FLUSH, variant, where).word
        row = evidence.row([each for each in configs(profile(kernel), [arch]) if each.page_size == 4 * KiB][-1])
        times = flush_count(row.flushes_remove)
        early = row.freed_before_flush
        enough = word == "safe" and not early
        if arch == "riscv64":
            verdicts[kernel] = judged(enough)
        parts.append(
            f"{arch} {kernel}: {times} flushes, {early} frames freed before theirs, "
            f"{'enough' if enough else 'not enough'}"
        )
    repaired = [evidence.explored(FREE_BEFORE_FLUSH, *each).word for each in REPAIRED]
    parts.append(f"everything flushed once and then freed: {'safe' if set(repaired) == {'safe'} else 'broken'}")
    return over_releases(f"removing 256 MiB: {'; '.join(parts)}", verdicts)


FLUSH_ORDERS: dict[tuple[Arch, str], tuple[str, str]] = {
    ("riscv64", "riscv-hotplug-v1"): ("riscv-posted", "riscv64-4K-57-riscv-hotplug-v1"),
    ("riscv64", "linux-6.12"): ("riscv-order", "riscv64-4K-48-linux-6.12"),
    ("riscv64", "linux-7.2"): ("riscv-order", "riscv64-4K-48-linux-7.2"),
    ("x86_64", "linux-7.2"): ("x86-order", "x86_64-4K-48-linux-7.2"),
    ("arm64", "linux-7.2"): ("arm64-order", "arm64-4K-39-linux-7.2"),
}
"""Each kernel's order of clearing, flushing and freeing, as the race free-before-flush has it, and where."""

REPAIRED = (("flush-then-free", "riscv64-4K-48-linux-6.12"),)
