"""Root tables of processes: the kernel half of each says what ``init_mm`` says, as far as this kernel promises.

arm64 has one table for all (TTBR1). x86-64 copies new root entries to every process (``sync_global_pgds()``), riscv
fills all of them before the first process is there. An entry that leads elsewhere than the kernel's own is stale.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator

import numpy as np

from memhp.check.law import Breach, Law, Note
from memhp.check.machine_view import MachineView, va_text
from memhp.check.snapshot import Snapshot
from memhp.hw.tlb import Table
from memhp.spans import Span

NAME = "processes"


def promised(look: MachineView) -> list[Span]:
    """The areas (bytes) whose root entries every process has, as this kernel promises."""
    layout, choices = look.k.layout, look.k.config.choices
    names: set[str] = set(choices.areas_filled_at_boot)
    if choices.syncs_root_entries:
        names |= {layout.direct_map.name, layout.vmemmap.name}
    areas = (layout.direct_map, layout.vmemmap, layout.vmalloc, layout.modules, layout.kasan)
    return [area.span for area in areas if area is not None and area.name in names]


def _differences(look: MachineView, root: Table) -> Iterator[tuple[Span, int, int]]:
    """Where the kernel half of a root table leads elsewhere than ``init_mm``'s: addresses, kernel entry, own entry."""
    fmt = look.k.hw.fmt
    level = fmt.levels[fmt.root_height]
    rows = look.k.hw.memory.tables(np.array([look.k.init_mm.frame, root.frame], dtype=np.uint64))
    kernel, own = rows[0, : level.entries], rows[1, : level.entries]
    empty = np.uint64(fmt.empty[fmt.root_height])
    differ = (fmt.table_pfn(kernel) != fmt.table_pfn(own)) | ((kernel == empty) != (own == empty))
    if fmt.sign_extended:
        differ[: level.entries // 2] = False
    for index in np.flatnonzero(differ).tolist():
        va = fmt.canonical(index << level.shift)
        yield Span(va, va + level.size), int(kernel[index]), int(own[index])


def find(look: MachineView, before: Snapshot | None) -> Iterator[Breach]:
    """Root entries of processes that lead elsewhere than the kernel's, or that a process lacks against the promise."""
    k = look.k
    fmt = k.hw.fmt
    areas = promised(look)
    for mm, root in k.pgd.items():
        if mm == "init_mm" or root.frame == k.init_mm.frame:
            continue
        if root.frame not in k.hw.memory.arena:
            frame = Span(root.frame, root.frame + 1)
            yield Breach(NAME, f"the root of {mm} is PFN {root.frame:#x}, which holds no table", pfns=frame)
            continue
        for vas, kernel, own in _differences(look, root):
            if own:
                there = f"init_mm's leads to {fmt.table_pfn(kernel):#x}" if kernel else "init_mm has none"
                text = f"the root entry of {mm} for {va_text(vas)} leads to PFN {fmt.table_pfn(own):#x}, {there}: stale"
                yield Breach(NAME, text, vas=vas)
            elif any(area.overlaps(vas) for area in areas):
                yield Breach(NAME, f"{mm} lacks the root entry for {va_text(vas)}, which init_mm has", vas=vas)


def find_notes(look: MachineView, before: Snapshot | None) -> Iterator[Note]:
    """How many root entries processes lack that this kernel never promised them."""
    k = look.k
    areas = promised(look)
    for mm, root in k.pgd.items():
        if root.frame == k.init_mm.frame or root.frame not in k.hw.memory.arena:
            continue
        count = sum(
            not own and not any(area.overlaps(vas) for area in areas) for vas, _, own in _differences(look, root)
        )
        if count:
            yield Note(NAME, f"{mm} lacks {count} root entries of init_mm: an access through them faults", count)


LAW = Law(
    NAME,
    "The kernel half of every process's root table says what init_mm says, as far as this kernel promises",
    find,
    find_notes=find_notes,
)
