"""How the claims about include/linux/memremap.h are decided."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.claims import evidence
from memhp.claims.altmap import device
from memhp.claims.claim import Finding
from memhp.explore.cases.pagemap_lookup_vs_unmap import CASE as PAGEMAP
from memhp.linux.config import configs
from memhp.linux.mm.altmap import vmem_altmap_nr_free
from memhp.linux.mm.memremap import memremap_compat_align, memremap_pages, memunmap_pages
from memhp.linux.profiles import PROFILES
from memhp.units import GiB, format_size

DRAINED = ("generic", "fs-dax", "p2pdma", "private", "two-ranges")
"""Variants of the race in which references are waited for."""


def altmap_accounts() -> Finding:
    """zd-1: the altmap of 1 GiB of persistent memory on riscv64 while it is mapped and after, against closed forms."""
    k = evidence.kernel({"preset": "riscv-vm", "memory": "1G"})
    pgmap = device(k, GiB)
    altmap = pgmap.altmap
    assert altmap is not None
    memremap_pages(k, pgmap, 0)
    leaf = k.config.pmd_size >> k.config.page_shift
    needed = (GiB >> k.config.page_shift) * k.config.struct_page_size >> k.config.page_shift
    good = altmap.alloc == needed and altmap.align == -(altmap.base_pfn + altmap.reserve) % leaf
    figure = (
        f"1 GiB: base_pfn {altmap.base_pfn:#x}, end_pfn {altmap.end_pfn:#x}, reserve {altmap.reserve}, "
        f"free {altmap.free}, align {altmap.align}, alloc {altmap.alloc}, {vmem_altmap_nr_free(altmap)} left over"
    )
    memunmap_pages(k, pgmap)
    good = good and altmap.alloc == 0
    return Finding("reproduced" if good else "refuted", f"{figure}; afterwards alloc {altmap.alloc}")


def life_cycle() -> Finding:
    """zd-2: a mapping's end against lookups of every type, one range and two, and against DMA; old kernels and today's.

    Before references were waited for, whoever looks a page up runs into struct pages that are gone.
    """
    broken = {
        name: evidence.explored(PAGEMAP, name, "arm64-4K-48-linux-5.13") for name in ("no-reference", "kill-only")
    }
    drained = {name: evidence.explored(PAGEMAP, name, "riscv64-4K-48-linux-7.2") for name in DRAINED}
    drained |= {
        name: evidence.explored(PAGEMAP, name, "arm64-4K-48-linux-5.13") for name in ("own-count", "dma-each-page")
    }
    today = evidence.explored(PAGEMAP, "dma-at-once", "riscv64-4K-48-linux-7.2")
    parts = [evidence.told(name, verdict) for name, verdict in (broken | drained).items()]
    parts.append(f"pages that DMA holds are waited for in 5.13; today {evidence.told('dma-at-once', today)}")
    good = all(verdict.word == "broken" for verdict in broken.values())
    good = good and all(each.word == "safe" and each.coverage.executions > 1 for each in drained.values())
    return Finding("reproduced" if good else "refuted", "; ".join(parts))


def compat_align() -> Finding:
    """zd-3: the alignment in every configuration of every kernel."""
    every = [config for profile in PROFILES.values() for config in configs(profile)]
    found = sorted({memremap_compat_align(config) for config in every})
    return Finding("answered", f"{', '.join(map(format_size, found))} in all {len(every)} configurations")
