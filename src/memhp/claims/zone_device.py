"""How the claims about include/linux/memremap.h are decided."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace

from memhp.claims import evidence
from memhp.claims.altmap import device
from memhp.claims.claim import Finding, VerdictName, judged, over_releases, settled
from memhp.explore.cases.pagemap_lookup_vs_unmap import CASE as PAGEMAP
from memhp.linux.config import configs
from memhp.linux.mm.altmap import vmem_altmap_nr_free
from memhp.linux.mm.memremap import memremap_compat_align, memremap_pages, memunmap_pages
from memhp.linux.profiles import MAINLINE, PROFILES
from memhp.units import GiB, MiB, format_size

DRAINED = ("fs-dax", "p2pdma", "private", "two-ranges")
"""Variants of the race in which references are waited for, by type; GENERIC is what those of 5.13 have."""


def altmap_accounts() -> Finding:
    """zd-1: the altmap of 1 GiB of persistent memory on riscv64 while it is mapped and after, against closed forms."""
    parts, verdicts = [], dict[str, VerdictName]()
    for name in MAINLINE:
        k = evidence.kernel({"preset": "riscv-vm", "memory": "1G", "profile": name})
        pgmap = device(k, GiB)
        altmap = pgmap.altmap
        assert altmap is not None
        memremap_pages(k, pgmap, 0)
        leaf = k.config.pmd_size >> k.config.page_shift
        needed = (GiB >> k.config.page_shift) * k.config.struct_page_size >> k.config.page_shift
        good = altmap.alloc == needed and altmap.align == -(altmap.base_pfn + altmap.reserve) % leaf
        figure = (
            f"{name}, 1 GiB: base_pfn {altmap.base_pfn:#x}, end_pfn {altmap.end_pfn:#x}, reserve {altmap.reserve}, "
            f"free {altmap.free}, align {altmap.align}, alloc {altmap.alloc}, {vmem_altmap_nr_free(altmap)} left over"
        )
        memunmap_pages(k, pgmap)
        verdicts[name] = judged(good and altmap.alloc == 0)
        parts.append(f"{figure}; afterwards alloc {altmap.alloc}")
    return over_releases("; ".join(parts), verdicts)


def life_cycle() -> Finding:
    """zd-2: a mapping's end against lookups of every type, one range and two, and against DMA; old kernels and today's.

    Before references were waited for, whoever looks a page up runs into struct pages that are gone.
    """
    found = {
        "linux-5.13": {name: evidence.explored(PAGEMAP, name, "arm64-4K-48-linux-5.13") for name in THEN},
        "linux-7.2": {name: evidence.explored(PAGEMAP, name, "riscv64-4K-48-linux-7.2") for name in (*DRAINED, DMA)},
    }
    verdicts: dict[str, VerdictName] = {}
    for name, explored in found.items():
        wrong = {
            variant for variant, verdict in explored.items() if verdict.word != ("broken" if variant in OLD else "safe")
        }
        verdicts[name] = "reproduced" if not wrong else "in part" if wrong == {DMA} else "refuted"
    parts = [
        f"{name}: {', '.join(evidence.told(variant, verdict) for variant, verdict in explored.items())}"
        for name, explored in found.items()
    ]
    return over_releases("; ".join(parts), verdicts)


OLD = ("no-reference", "kill-only")
"""What was before references were waited for."""

THEN = (*OLD, "own-count", "dma-each-page")

DMA = "dma-at-once"
"""Pages that DMA holds, as kernels since 5.18 count them."""


def compat_align() -> Finding:
    """zd-3: the alignment in every configuration of every kernel that has the function, with ZONE_DEVICE and without.

    It came with 5.7, so that the arm64 series of 2019 know nothing of it.
    """
    parts, verdicts = [], dict[str, VerdictName]()
    for name in HAVE_IT:
        every = list(configs(PROFILES[name]))
        found = sorted({memremap_compat_align(config) for config in every})
        stub = {memremap_compat_align(replace(config, zone_device=False)) == config.page_size for config in every}
        verdicts[name] = settled(found == [SUBSECTION] and stub == {True})
        parts.append(f"{name}: {', '.join(map(format_size, found))} in {len(every)} configurations")
    return over_releases(f"{'; '.join(parts)}; a page without ZONE_DEVICE", verdicts)


HAVE_IT = tuple(name for name in PROFILES if not name.startswith("arm64-hotremove"))
"""The kernels from 5.7 on."""

SUBSECTION = 2 * MiB
