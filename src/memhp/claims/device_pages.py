"""How the claims about pages of devices are decided: those of private memory, of DAX files, and of a PCI BAR."""
# SPDX-License-Identifier: GPL-2.0-or-later

from typing import NamedTuple

from memhp.check import check_all
from memhp.check.machine_view import MachineView
from memhp.claims import evidence
from memhp.claims.altmap import AT
from memhp.claims.claim import Finding, VerdictName, judged, over_releases
from memhp.errors import KernelBug, KernelError
from memhp.explore.cases.actors import pfns
from memhp.explore.cases.dax_dma_vs_truncate import CASE as DAX
from memhp.explore.cases.p2pdma_dma_vs_unbind import CASE as P2PDMA
from memhp.hw.memory import Owner, Use
from memhp.linux.drivers.pci.p2pdma import pci_p2pdma_add_resource
from memhp.linux.lib.test_hmm import (
    dmirror_allocate_chunk,
    dmirror_device_remove_chunks,
    dmirror_migrate_to_device,
)
from memhp.linux.mm.migrate_device import (
    device_private_pgmap,
    do_anonymous_page,
    do_swap_page,
    hmm_range_fault,
    hold,
    pin_user_pages,
)
from memhp.linux.mm.mm_types import Mm
from memhp.linux.profiles import MAINLINE
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import MiB, format_size

OURS, OTHER = "gpu0", "gpu1"
PRESETS = ("x86-vm", "arm64-vm", "riscv-vm")


class Away(NamedTuple):
    """What became of pages of a process that went to a device, and whether that is as the header says."""

    found: str
    good: bool


def _machine(preset: str, name: str) -> Kernel:
    return evidence.kernel({"preset": preset, "memory": "2G", "profile": name})


def _life(preset: str, name: str) -> Away:
    """Five pages go to a device; the CPU touches one, another device asks for two, DMA pins one; the driver goes.

    A page of RAM that DMA holds stays where it is, and a driver that does not empty its memory never ends.
    """
    k = _machine(preset, name)
    for owner in (OURS, OTHER):
        dmirror_allocate_chunk(k, owner)
    laws = sorted({breach.law for breach in check_all(k)})
    mm = Mm()
    for address in range(6):
        do_anonymous_page(k, mm, address)
    hold(k, mm.ptes[5])
    moved = dmirror_migrate_to_device(k, OURS, mm, range(6))
    away = [device_private_pgmap(k, pfn) is not None for pfn in mm.ptes.values()]
    do_swap_page(k, mm, 0)
    seen = [
        hmm_range_fault(k, mm, 1, OURS, fault=True) == mm.ptes[1] and device_private_pgmap(k, mm.ptes[1]) is not None,
        hmm_range_fault(k, mm, 1, OTHER, fault=False) is None,
        hmm_range_fault(k, mm, 2, OTHER, fault=True) is not None,
    ]
    pinned = device_private_pgmap(k, pin_user_pages(k, mm, 3)) is None
    back = [device_private_pgmap(k, mm.ptes[address]) is None for address in range(4)]
    dmirror_device_remove_chunks(k, OURS)
    emptied = all(device_private_pgmap(k, pfn) is None for pfn in mm.ptes.values())
    good = moved == 5 and away == [True] * 5 + [False] and all(seen) and pinned and emptied
    good = good and back == [True, False, True, True] and not check_all(k) and _hangs(preset, name)
    outside = f", laws broken: {', '.join(laws)}" if laws else ""
    found = f"{preset} {name}: {moved} of 6 pages away, {sum(back)} of 4 back by then, the rest at the end{outside}"
    return Away(found, good and not laws)


def _hangs(preset: str, name: str) -> bool:
    """Whether a driver that leaves a page of a process in its memory waits for ever when it goes."""
    k = _machine(preset, name)
    dmirror_allocate_chunk(k, OURS)
    mm = Mm()
    do_anonymous_page(k, mm, 0)
    dmirror_migrate_to_device(k, OURS, mm, [0])
    try:
        dmirror_device_remove_chunks(k, OURS, evict=False)
    except KernelBug as bug:
        return "references" in bug.reason
    return False


def private() -> Finding:
    """zd-4: private memory of two devices on three architectures: faults, owners, pins, and the end of a driver."""
    parts, verdicts = [], dict[str, VerdictName]()
    for name in MAINLINE:
        lives = [_life(preset, name) for preset in PRESETS]
        good = [life.good for life in lives]
        verdicts[name] = "reproduced" if all(good) else "in part" if any(good) else "refuted"
        parts += [life.found for life in lives]
    return over_releases("; ".join(parts), verdicts)


def idle() -> Finding:
    """zd-5: a file is truncated, or its file system unmounted, while DMA holds a page of it."""
    parts, verdicts = [], dict[str, VerdictName]()
    for name in MAINLINE:
        of_it = {variant.name for variant in DAX.variants if any(one.release == name for one in variant.configurations)}
        found = {variant: evidence.explored(DAX, variant, f"x86_64-4K-48-{name}") for variant in sorted(of_it)}
        kept = found["no-wait"].word == "broken" and found["break-layout"].word == "safe"
        ends = found.get("unmount-waits")
        verdicts[name] = "refuted" if not kept else "reproduced" if ends and ends.word == "safe" else "in part"
        parts.append(f"{name}: {', '.join(evidence.told(variant, verdict) for variant, verdict in found.items())}")
    return over_releases("; ".join(parts), verdicts)


def bar() -> Finding:
    """zd-6: struct pages and an uncached direct map for BARs of several sizes, and DMA to one whose driver goes."""
    parts, verdicts = [], dict[str, VerdictName]()
    for name in MAINLINE:
        answers = {size: _bar(name, size) for size in SIZES}
        found = {each: evidence.explored(P2PDMA, each, f"x86_64-4K-48-{name}") for each in ("uncounted", "counted")}
        good = answers == {size: "EINVAL" if size % SUBSECTION else "uncached" for size in SIZES}
        verdicts[name] = judged(good and [verdict.word for verdict in found.values()] == ["broken", "safe"])
        sizes = ", ".join(f"{format_size(size)} {answer}" for size, answer in answers.items())
        races = ", ".join(evidence.told(variant, verdict) for variant, verdict in found.items())
        parts.append(f"{name}: BARs of {sizes}; pages {races}")
    return over_releases("; ".join(parts), verdicts)


def _bar(name: str, size: int) -> str:
    """What a BAR of that size gets on x86-64: an errno, or how the direct map has it."""
    k = _machine("x86-vm", name)
    at = Span(AT, AT + size)
    k.hw.plug(pfns(k, at), Owner(Use.DEVICE, "BAR"))
    try:
        pci_p2pdma_add_resource(k, "BAR", at)
    except KernelError as error:
        return error.name
    start = k.layout.phys_to_virt(AT)
    leaves = MachineView(k).leaves(Span(start, start + size))
    uncached = int(leaves.size.sum()) == size and all(int(bits) & k.port.pgprot_noncached(k, 0) for bits in leaves.bits)
    return "uncached" if uncached and not check_all(k) else "cached"


SIZES = (MiB, 2 * MiB, 3 * MiB, 256 * MiB)
"""Sizes of BARs: powers of two, and a part of one."""

SUBSECTION = 2 * MiB
