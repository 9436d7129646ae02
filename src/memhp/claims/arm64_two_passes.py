"""How the claim about the order of arm64 hot-remove is decided: two passes, no page-table lock, and what they flush."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass, field
from typing import Any

from memhp.claims import evidence
from memhp.claims.claim import Finding, VerdictName, answered, judged, over_releases
from memhp.claims.sequential_stepper import InOrder
from memhp.hw.format import Format
from memhp.hw.stepper import Access
from memhp.hw.tlb import Table
from memhp.linux.mm.pgd import PAGE_TABLE_LOCK
from memhp.linux.profiles import MAINLINE
from memhp.scenario.result import flush_count
from memhp.units import GiB, KiB, MiB, format_count, format_size

V5 = "arm64-hotremove-v5"
"""What the claim sets itself off from."""

KERNELS = (V5, "arm64-hotremove-v6", "arm64-hotremove-v7", "linux-5.13", "linux-6.12.85", *MAINLINE)
"""6.12.85 is the last 6.12.y that invalidates page by page."""

PAGE_SIZES = (4 * KiB, 16 * KiB, 64 * KiB)
AT = 16 * GiB


@dataclass
class Order(InOrder):
    """A stepper that tells the accesses of a removal apart."""

    fmt: Format
    locks: list[str] = field(default_factory=list)
    stored: list[tuple[int, int, int]] = field(default_factory=list)
    """What is stored to entries, in order: the address that they translate, their height, the value."""

    def step(self, access: Access) -> None:
        """Keep locks and stores."""
        if access.kind == "lock":
            self.locks.append(str(access.target))
        elif access.kind == "store" and isinstance(access.target, Table):
            at = access.target.va + access.entry * self.fmt.levels[access.target.height].size
            self.stored.append((at, access.target.height, access.value))


def machine(name: str, page_size: int) -> dict[str, Any]:
    """A server of that kernel with 4 GiB of RAM and 48-bit addresses."""
    return {"arch": "arm64", "profile": name, "page_size": page_size, "va_bits": 48, "memory": "4G"}


def removal(name: str) -> Order:
    """The accesses in which 4 MiB of the direct map go, which have two tables of 4K pages to themselves."""
    k = evidence.kernel(machine(name, 4 * KiB))
    evidence.added(k, GiB, AT)
    k.hw.stepper = order = Order(k.hw.fmt)
    try:
        k.port.arch_remove_memory(k, AT, 4 * MiB)
    finally:
        k.hw.stepper = None
    start = k.layout.phys_to_virt(AT)
    order.stored = [each for each in order.stored if start <= each[0] < start + 4 * MiB]
    return order


def passes(order: Order) -> int:
    """1 if leaves are cleared after an entry that pointed to a table was, else 2."""
    heights = [height for _, height, value in order.stored if value == 0]
    upper = next((index for index, height in enumerate(heights) if height > 0), len(heights))
    return 1 if 0 in heights[upper:] else 2


def two_passes() -> Finding:
    """a64-7: passes and page-table locks of a removal, kernel by kernel, and the invalidations that 1 GiB takes."""
    parts, verdicts = [], dict[str, VerdictName]()
    for name in KERNELS:
        order = removal(name)
        locked = PAGE_TABLE_LOCK in order.locks
        made = passes(order)
        if name != V5:
            verdicts[name] = judged(made == 2 and not locked)
        counts = []
        for page_size in PAGE_SIZES:
            steps = ({"do": "plug", "size": GiB, "at": AT}, {"do": "remove"})
            flushed = flush_count(evidence.run(machine(name, page_size), *steps).steps[1].flushes)
            counts.append(f"{format_size(page_size)} {flushed}")
        parts.append(
            f"{name}: {format_count(made, 'pass')}{', under the lock' if locked else ''}; "
            f"{', '.join(counts)} invalidations"
        )
    return over_releases(f"removing 1 GiB, 48-bit addresses: {'; '.join(parts)}", verdicts)


VERSIONS: dict[str, dict[str, Any]] = {
    "V2": {"leaf_flush": "none", "pte_table_flush": "none", "end_flush": "direct-map-range"},
    "V3 to V5": {},
}
"""How earlier versions flushed, as choices on V5. The change log of V7: V3 dropped ``flush_tlb_kernel_range()`` in
``remove_pagetable()`` and added it in ``remove_pte_table()``; V4 and V5 change neither that nor the lock, which V3 took
around all, and V2 around each change of an entry."""


def earlier() -> Finding:
    """a64-8: the invalidations that removing 1 GiB takes in V2, and in V3 to V5."""
    steps = ({"do": "plug", "size": GiB, "at": AT}, {"do": "remove"})
    counts = {
        name: [
            flush_count(evidence.run({**machine(V5, size), "choices": choices}, *steps).steps[1].flushes)
            for size in PAGE_SIZES
        ]
        for name, choices in VERSIONS.items()
    }
    told = (
        f"{name}: " + ", ".join(f"{format_size(size)} {n}" for size, n in zip(PAGE_SIZES, found, strict=True))
        for name, found in counts.items()
    )
    fewer = all(few < many for few, many in zip(counts["V2"], counts["V3 to V5"], strict=True))
    return answered((V5,), fewer, f"removing 1 GiB, 48-bit addresses: {'; '.join(told)} invalidations")
