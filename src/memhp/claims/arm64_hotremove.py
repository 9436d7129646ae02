"""How the claims of the arm64 hot-remove series are decided."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.claims import evidence
from memhp.claims.claim import Finding, VerdictName, judged, on, over_releases
from memhp.explore.cases.memblock_order import CASE as MEMBLOCK_ORDER
from memhp.explore.cases.ptdump_vs_hot_remove import CASE as PTDUMP
from memhp.explore.cases.vmalloc_vs_hot_remove import CASE as RACE
from memhp.explore.cases.vmalloc_vs_hot_remove import LAYOUTS
from memhp.linux.config import configs
from memhp.linux.geometry import Row
from memhp.linux.profiles import MAINLINE, profile
from memhp.target.model.matrix import MatrixRow
from memhp.units import GiB, KiB, TiB, format_size

V6, V7 = "arm64-hotremove-v6", "arm64-hotremove-v7"


def _names(rows: list[Row] | list[MatrixRow]) -> str:
    """Configurations by page size and address width."""
    return ", ".join(dict.fromkeys(f"{format_size(row.page_size)}/{row.va_bits}" for row in rows)) or "none"


def race() -> Finding:
    """a64-1: hot-remove against vmalloc where the two share a table, under each revision's rule for empty tables.

    V5 frees an emptied table whoever shares it. The race needs a table that can become empty: it is looked for in every
    configuration of the layouts of the time and of later ones, and explored where there is one, and where there is not.
    """
    parts, verdicts = [], dict[str, VerdictName]()
    for release in dict.fromkeys(one.release for one in LAYOUTS):
        layouts = [one for one in LAYOUTS if one.release == release]
        shared = [one for one in layouts if not one.note]
        word = evidence.explored(RACE, "V5", (shared or layouts)[0].name).word
        verdicts[release] = judged(bool(shared) and word == "broken")
        parts.append(f"layout of {release}: a table can become empty under both in {len(shared)} of {len(layouts)}")
        parts.append(f"V5 there {word}")
    notes = ", ".join(sorted({one.note.rpartition(": ")[2] for one in LAYOUTS if one.note}))
    parts.append(f"what keeps it elsewhere: {notes}")
    rules = {one.name: evidence.explored(RACE, one.name, TODAY) for one in RACE.variants}
    parts.append(f"on {TODAY}: {', '.join(f'{name} {verdict.word}' for name, verdict in rules.items())}")
    failure = rules["V5"].failure
    found = failure is not None and failure.reason.startswith(("freed-table", "lost-write"))
    repaired = all(verdict.word == "safe" for variant, verdict in rules.items() if variant != "V5")
    if not (found and repaired):
        verdicts = dict.fromkeys(verdicts, "refuted")
    return over_releases("; ".join(parts), verdicts)


TODAY = "arm64-4K-48-linux-6.12"


def overlap() -> Finding:
    """a64-2: configurations in which vmalloc and vmemmap share a root entry, then and now."""
    claimed = {(4 * KiB, 48), (16 * KiB, 48)}
    parts, verdicts = [], dict[str, VerdictName]()
    for name in (V7, V6, "linux-5.13", *MAINLINE):
        rows = [row for row in evidence.sizes("arm64", name) if row.vmalloc_vmemmap_overlap]
        verdicts[name] = judged({(row.page_size, row.va_bits) for row in rows} == claimed)
        parts.append(f"{name}: {_names(rows)}")
    return over_releases("; ".join(parts), verdicts)


def empty_tables() -> Finding:
    """a64-3: tables that each revision leaves empty when a memory block far above all others came and went."""
    parts, verdicts, worst = [], dict[str, VerdictName](), 0.0
    for name in (V6, V7, *MAINLINE):
        left, most = [], 0.0
        for config in (c for c in configs(profile(name), ["arm64"]) if c.va_bits == 48):
            machine = {"arch": "arm64", "profile": name, "page_size": config.page_size, "va_bits": 48, "memory": "4G"}
            block = max(config.section_size, GiB)
            run = evidence.run(machine, {"do": "plug", "size": block, "at": 8 * TiB}, {"do": "remove"})
            added = evidence.table_count(run.steps[0].tables_allocated)
            kept = added - evidence.table_count(run.steps[1].tables_freed)
            most = max(most, kept * config.page_size / block)
            left.append(f"{format_size(config.page_size)} {kept} of {added}")
        worst = max(worst, most)
        verdicts[name] = judged(most < MINIMAL)
        parts.append(f"{name}: {', '.join(left)}")
    return over_releases(f"{'; '.join(parts)}; at most {worst:.4%} of what came", verdicts)


MINIMAL = 0.001
"""What is minimal: a thousandth of the memory that came."""


def all_configurations() -> Finding:
    """a64-4: the whole life cycle on every configuration of the series and of kernels since."""
    parts, verdicts = [], dict[str, VerdictName]()
    for name in (V7, "linux-5.13", *MAINLINE):
        rows = evidence.rows("arm64", name)
        bad = [row for row in rows if not row.ok]
        verdicts[name] = judged(not bad)
        parts.append(
            f"{name}: {len(rows) - len(bad)} of {len(rows)} configurations keep every law, page tables as before"
            + (f"; not {_names(bad)}" if bad else "")
        )
    return over_releases("; ".join(parts), verdicts)


def ptdump_lock() -> Finding:
    """a64-5: hot-remove against the dump, without the hotplug lock and with it, with 4K and 16K pages."""
    parts, good = [], True
    for name in ("arm64-4K-48-linux-6.12", "arm64-16K-48-linux-6.12"):
        without, held = (evidence.explored(PTDUMP, variant, name) for variant in ("no-lock", "hotplug-lock"))
        found = without.failure is not None and without.failure.reason.startswith("freed-table")
        good = good and found and held.word == "safe" and held.coverage.executions > 1
        parts.append(f"{name}: {evidence.told('no-lock', without)}, {evidence.told('hotplug-lock', held)}")
    return on(("linux-6.12",), good, "; ".join(parts))


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
    return on((V7,), reproduced, figure)
