"""How the claims about memory that hot-add costs, and about memmap_on_memory, are decided."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.claims import evidence
from memhp.claims.claim import Finding
from memhp.units import MiB, format_size


def cost() -> Finding:
    """mom-1: existing memory that a 128 MiB hot-add takes, with and without a free 2 MiB chunk."""
    run = evidence.run(
        {"preset": "x86-vm", "memory": "2G"},
        {"do": "plug", "size": "128M"},
        {"do": "fragment", "size": "2M"},
        {"do": "plug", "size": "128M"},
    )
    whole, _, pieces = run.steps
    taken = [step.memory_before.free - step.memory_after.free for step in (whole, pieces)]
    tables = evidence.table_count(pieces.tables_allocated)
    figure = (
        f"128 MiB takes {format_size(taken[0])}; fragmented {format_size(taken[1])}, "
        f"{pieces.tables_allocated.PTE} PTE tables of {tables}"
    )
    reproduced = taken[0] >= 2 * MiB and pieces.tables_allocated.PTE > whole.tables_allocated.PTE
    return Finding("reproduced" if reproduced else "refuted", figure)


def granularity() -> Finding:
    """mom-8: removing half a block of memory that hosts its own memmap."""
    run = evidence.run(
        {"preset": "x86-vm", "memory": "2G", "boot": {"memmap_on_memory": "Y"}},
        {"do": "plug", "size": "256M", "at": "0x100000000"},
        {"do": "unplug", "at": "0x100000000", "size": "64M", "expect": "EINVAL"},
    )
    refused = run.steps[1]
    same = refused.blocks_before == refused.blocks_after and refused.memory_before == refused.memory_after
    figure = f"{refused.outcome.result}: {refused.outcome.reason}; machine {'unchanged' if same else 'changed'}"
    return Finding("reproduced" if refused.as_expected and same and run.ok else "refuted", figure)
