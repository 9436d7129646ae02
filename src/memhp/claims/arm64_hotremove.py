"""How the claims of the arm64 hot-remove series are decided."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.claims import evidence
from memhp.claims.claim import Finding
from memhp.explore.cases.memblock_order import CASE as MEMBLOCK_ORDER
from memhp.explore.cases.ptdump_vs_hot_remove import CASE as PTDUMP
from memhp.explore.cases.vmalloc_vs_hot_remove import CASE as RACE
from memhp.explore.cases.vmalloc_vs_hot_remove import LAYOUTS
from memhp.linux.config import configs
from memhp.linux.geometry import Row
from memhp.linux.profiles import MAINLINE, profile
from memhp.scenario.matrix import MatrixRow
from memhp.units import GiB, KiB, TiB, format_size

V6, V7 = "arm64-hotremove-v6", "arm64-hotremove-v7"


def _names(rows: list[Row] | list[MatrixRow]) -> str:
    """Configurations by page size and address width."""
    return ", ".join(dict.fromkeys(f"{format_size(row.page_size)}/{row.va_bits}" for row in rows)) or "none"


def race() -> Finding:
    """a64-1: hot-remove against vmalloc where the two share a table, under each revision's rule for empty tables.

    Explored with 4K pages and 48-bit addresses in today's layout, and with V5's rule in the layout of 5.4 as well.
    """
    name = "arm64-4K-48-linux-6.12"
    verdicts = {one.name: evidence.explored(RACE, one.name, name) for one in RACE.variants}
    parts = [f"{variant} {verdict.word} ({verdict.coverage.executions} executions)"
             for variant, verdict in verdicts.items()]  # fmt: skip
    today = [one for one in RACE.variant("V5").configurations if one.release == "linux-6.12"]
    old = next(one for one in LAYOUTS if (one.page_size, one.va_bits, one.release) == (4 * KiB, 48, V7))
    then = evidence.explored(RACE, "V5", old.name)
    shared = [one for one in today if not one.note]
    parts += [
        f"they share a table that can become empty in {len(shared)} of {len(today)} configurations of this layout",
        f"in none of {sum(one.release != 'linux-6.12' for one in LAYOUTS)} of older ones, "
        f"with 4K/48 of 5.4 V5 is {then.word}: {old.note}",
    ]
    failure = verdicts["V5"].failure
    found = failure is not None and failure.reason.startswith(("freed-table", "lost-write"))
    repaired = all(verdict.word == "safe" for variant, verdict in verdicts.items() if variant != "V5")
    return Finding("reproduced" if found and repaired else "refuted", "; ".join(parts))


def overlap() -> Finding:
    """a64-2: configurations in which vmalloc and vmemmap share a root entry, then and now."""
    then = [row for row in evidence.sizes("arm64", V7) if row.vmalloc_vmemmap_overlap]
    claimed = {(4 * KiB, 48), (16 * KiB, 48)}
    others = {name: evidence.sizes("arm64", name) for name in (V6, *MAINLINE)}
    parts = [f"layout of the series: {_names(then)}"]
    parts += [f"{name}: {_names([r for r in rows if r.vmalloc_vmemmap_overlap])}" for name, rows in others.items()]
    same = {(row.page_size, row.va_bits) for row in then} == claimed
    return Finding("reproduced" if same else "refuted", "; ".join(parts))


def empty_tables() -> Finding:
    """a64-3: tables that each revision leaves empty when a memory block far above all others came and went."""
    left: dict[str, list[str]] = {}
    worst = 0.0
    for name in (V6, V7, "linux-7.2"):
        for config in (c for c in configs(profile(name), ["arm64"]) if c.va_bits == 48):
            machine = {"arch": "arm64", "profile": name, "page_size": config.page_size, "va_bits": 48, "memory": "4G"}
            block = max(config.section_size, GiB)
            run = evidence.run(machine, {"do": "plug", "size": block, "at": 8 * TiB}, {"do": "remove"})
            added = evidence.table_count(run.steps[0].tables_allocated)
            kept = added - evidence.table_count(run.steps[1].tables_freed)
            worst = max(worst, kept * config.page_size / block)
            left.setdefault(name, []).append(f"{format_size(config.page_size)} {kept} of {added}")
    parts = [f"{name}: {', '.join(counts)}" for name, counts in left.items()]
    return Finding("reproduced" if worst < 0.01 else "refuted", f"{'; '.join(parts)}; at most {worst:.4%} of what came")


def all_configurations() -> Finding:
    """a64-4: the whole life cycle on every configuration of the series and of today's kernels."""
    rows = evidence.rows("arm64", V7, "linux-5.13", *MAINLINE)
    good = [row for row in rows if row.ok]
    figure = f"{len(good)} of {len(rows)} configurations keep every law, page tables as before"
    if len(good) < len(rows):
        figure += f"; not {_names([row for row in rows if not row.ok])}"
    return Finding("reproduced" if len(good) == len(rows) else "refuted", figure)


def ptdump_lock() -> Finding:
    """a64-5: hot-remove against the dump, without the hotplug lock and with it, with 4K and 16K pages."""
    parts, good = [], True
    for name in ("arm64-4K-48-linux-6.12", "arm64-16K-48-linux-6.12"):
        without, held = (evidence.explored(PTDUMP, variant, name) for variant in ("no-lock", "hotplug-lock"))
        found = without.failure is not None and without.failure.reason.startswith("freed-table")
        good = good and found and held.word == "safe" and held.coverage.executions > 1
        parts.append(f"{name}: {evidence.told('no-lock', without)}, {evidence.told('hotplug-lock', held)}")
    return Finding("reproduced" if good else "refuted", "; ".join(parts))


def memblock_order() -> Finding:
    """a64-6: removal with memblock told before and after the architecture's part.

    As a rehearsal, and explored against somebody who adds the memory again.
    """
    laws = {}
    for order in ("memblock-first", "arch-first"):
        run = evidence.run(
            {"preset": "arm64-vm", "profile": V7, "memory": "1G", "choices": {"memblock_order": order}},
            {"do": "plug", "size": "1G"},
            {"do": "online", "zone": "movable"},
            {"do": "offline"},
            {"do": "remove"},
            {"do": "plug", "size": "1G"},
        )
        outcomes = [f"{step.do}: {step.outcome.result}" for step in run.steps if not step.as_expected]
        laws[order] = outcomes + evidence.broken_laws(run)
    figure = "; ".join(f"{order}: {', '.join(broken) or 'all laws hold'}" for order, broken in laws.items())
    name = f"arm64-4K-48-{V7}"
    old, new = (evidence.explored(MEMBLOCK_ORDER, order, name) for order in ("memblock-first", "arch-first"))
    figure += f"; explored: {evidence.told('memblock-first', old)}, {evidence.told('arch-first', new)}"
    reproduced = bool(laws["memblock-first"]) and not laws["arch-first"]
    reproduced = reproduced and (old.word, new.word) == ("broken", "safe")
    return Finding("reproduced" if reproduced else "refuted", figure)


def two_passes() -> Finding:
    """a64-7: removal in two passes without a page-table lock, and what TLB maintenance that takes."""
    parts, good = [], True
    for row in evidence.rows("arm64", "linux-7.2"):
        if row.va_bits != row.va_bits_actual:
            continue
        times = sum(flush.times for flush in row.flushes_remove)
        good = good and row.ok and not row.freed_before_flush
        parts.append(f"{format_size(row.page_size)}/{row.va_bits}: {times} flushes")
    figure = f"removing two blocks: {', '.join(parts)}; no frame freed before its flush"
    return Finding("reproduced" if good else "refuted", figure)
