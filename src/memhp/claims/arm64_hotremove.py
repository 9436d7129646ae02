"""How the claims of the arm64 hot-remove series are decided."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.claims import evidence
from memhp.claims.claim import Finding
from memhp.linux.geometry import Row
from memhp.scenario.matrix import MatrixRow
from memhp.units import KiB, format_size

V6, V7 = "arm64-hotremove-v6", "arm64-hotremove-v7"


def _names(rows: list[Row] | list[MatrixRow]) -> str:
    """Configurations by page size and address width."""
    return ", ".join(dict.fromkeys(f"{format_size(row.page_size)}/{row.va_bits}" for row in rows)) or "none"


def overlap() -> Finding:
    """a64-2: configurations in which vmalloc and vmemmap share a root entry, then and now."""
    then = [row for row in evidence.sizes("arm64", V7) if row.vmalloc_vmemmap_overlap]
    claimed = {(4 * KiB, 48), (16 * KiB, 48)}
    others = {name: evidence.sizes("arm64", name) for name in (V6, *evidence.MAINLINE)}
    parts = [f"layout of the series: {_names(then)}"]
    parts += [f"{name}: {_names([r for r in rows if r.vmalloc_vmemmap_overlap])}" for name, rows in others.items()]
    same = {(row.page_size, row.va_bits) for row in then} == claimed
    return Finding("reproduced" if same else "refuted", "; ".join(parts))


def empty_tables() -> Finding:
    """a64-3: tables that V7 leaves empty, by configuration, after two memory blocks came and went."""
    rows = evidence.rows("arm64", V7)
    left = [f"{format_size(row.page_size)}/{row.va_bits}: {row.tables_left}" for row in rows if row.tables_left]
    pages = max((row.tables_left * row.page_size / row.added for row in rows), default=0.0)
    figure = f"tables left by V7: {', '.join(left) or 'none'}; at most {pages:.3%} of the memory that was removed"
    return Finding("reproduced" if all(row.ok for row in rows) else "refuted", figure)


def all_configurations() -> Finding:
    """a64-4: the whole life cycle on every configuration of the series and of today's kernels."""
    rows = evidence.rows("arm64", V7, "linux-5.13", *evidence.MAINLINE)
    good = [row for row in rows if row.ok]
    figure = f"{len(good)} of {len(rows)} configurations keep every law, page tables as before"
    if len(good) < len(rows):
        figure += f"; not {_names([row for row in rows if not row.ok])}"
    return Finding("reproduced" if len(good) == len(rows) else "refuted", figure)


def memblock_order() -> Finding:
    """a64-6: removal with memblock told before and after the architecture's part."""
    laws = {}
    for order in ("memblock-first", "arch-first"):
        run = evidence.run(
            {"preset": "arm64-vm", "profile": V7, "memory": "1G", "choices": {"memblock_order": order}},
            {"do": "plug", "size": "1G"},
            {"do": "online", "zone": "movable"},
            {"do": "offline"},
            {"do": "remove"},
        )
        outcomes = [f"{step.do}: {step.outcome.result}" for step in run.steps if not step.as_expected]
        laws[order] = outcomes + evidence.broken_laws(run)
    figure = "; ".join(f"{order}: {', '.join(broken) or 'all laws hold'}" for order, broken in laws.items())
    reproduced = bool(laws["memblock-first"]) and not laws["arch-first"]
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
