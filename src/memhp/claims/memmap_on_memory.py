"""How the claims about memory that hot-add costs, and about memmap_on_memory, are decided."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter
from itertools import product
from typing import Any

from memhp.claims import evidence
from memhp.claims.claim import Finding, VerdictName, judged, on, over_releases
from memhp.hw.memory import Owner, Use
from memhp.hw.walker import walk
from memhp.linux.config import configs
from memhp.linux.memmap_verdicts import MemmapRow, memmap_rows
from memhp.linux.mm.sparse import pfn_to_online_page
from memhp.linux.mm.vmemmap_alloc import SELF_HOSTED
from memhp.linux.mmzone import PageFlags
from memhp.linux.profiles import MAINLINE
from memhp.scenario.schema import Online
from memhp.target.model.steps import online
from memhp.units import GiB, KiB, MiB, format_size

KERNELS = ("linux-5.13", *MAINLINE)
"""Profiles of kernels that can keep struct pages in the memory that they describe."""


def cost() -> Finding:
    """mom-1: what a 128 MiB hot-add takes of existing memory, with and without a free 2 MiB chunk.

    Struct pages and page tables apart: their storage is the same, in one chunk or in pages; the tables are not.
    """
    parts, verdicts = [], dict[str, VerdictName]()
    for name in KERNELS:
        run = evidence.run(
            {"preset": "x86-vm", "memory": "2G", "profile": name},
            {"do": "plug", "size": "128M"},
            {"do": "fragment", "size": "2M"},
            {"do": "plug", "size": "128M"},
        )
        whole, _, pieces = run.steps
        storage = [sum(step.memmap_from.values()) for step in (whole, pieces)]
        tables = [evidence.table_count(step.tables_allocated) for step in (whole, pieces)]
        leaves = pieces.tables_allocated.PTE > whole.tables_allocated.PTE
        verdicts[name] = judged(storage == [2 * MiB] * 2 and leaves)
        parts.append(
            f"{name}: {format_size(storage[0])} of struct pages and {tables[0]} tables; fragmented "
            f"{format_size(storage[1])} in base pages and {tables[1]} tables, {pieces.tables_allocated.PTE} of PTEs"
        )
    return over_releases(f"128 MiB: {'; '.join(parts)}", verdicts)


def granularity() -> Finding:
    """mom-8: two blocks that host their own struct pages, plugged apart, unplugged by one call; and half a block."""
    parts, verdicts = [], dict[str, VerdictName]()
    for name in ("linux-5.13", "linux-6.1", *MAINLINE):
        machine = {"preset": "x86-vm", "memory": "2G", "profile": name, "boot": {"memmap_on_memory": "Y"}}
        two = evidence.run(
            machine,
            {"do": "plug", "size": "128M", "at": "0x100000000"},
            {"do": "plug", "size": "128M", "at": "0x108000000"},
            {"do": "unplug", "at": "0x100000000", "size": "256M"},
        )
        half = evidence.run(
            machine,
            {"do": "plug", "size": "128M", "at": "0x100000000"},
            {"do": "unplug", "at": "0x100000000", "size": "64M", "expect": "EINVAL"},
        )
        refused = two.steps[-1]
        unchanged = refused.blocks_before == refused.blocks_after and refused.memory_before == refused.memory_after
        same = unchanged and half.steps[1].blocks_before == half.steps[1].blocks_after
        errors = [run.steps[-1].outcome for run in (two, half)]
        told = f"{errors[0].result}: {errors[0].reason}" if errors[0].reason else errors[0].result
        laws = "; ".join(breach for law in two.laws for breach in law.breaches)
        verdicts[name] = judged([each.result for each in errors] == ["EINVAL"] * 2 and same and not laws)
        parts.append(f"{name}: two blocks at once {told}{f', {laws}' if laws else ''}; half a block {errors[1].result}")
    return over_releases("; ".join(parts), verdicts)


def exhaustion() -> Finding:
    """mom-2: a 2 GiB guest that is given far more, with its struct pages in RAM and in the memory itself.

    ENOMEM from the add is the good end. Out of memory is what comes after, as the add keeps what it took, or before: a
    page table of the direct map is one page of GFP_KERNEL on arm64 and riscv64, which the kernel kills for, and dies.
    """
    parts, verdicts = [], dict[str, VerdictName]()
    for name in KERNELS:
        words = []
        for arch, (machine, used, size) in GIVEN_TOO_MUCH.items():
            for mode in ("N", "Y"):
                run = evidence.run(
                    {**machine, "profile": name, "boot": {"memmap_on_memory": mode}},
                    {"do": "allocate", "size": used, "tag": "workload", "kind": "kernel"},
                    {"do": "plug", "size": size},
                    {"do": "allocate", "size": "64M", "tag": "a little more"},
                )
                first, then = (step.outcome for step in run.steps[1:])
                if mode == "N":
                    words.append(first.result == "PANIC" or (first.result, then.result) == ("ENOMEM", "ENOMEM"))
                why = f" ({first.reason})" if first.result == "PANIC" else f", then 64 MiB: {then.result}"
                parts.append(f"{name} {arch}, {mode}: {size} more: {first.result}{why}")
        verdicts[name] = judged(all(words))
    return over_releases("; ".join(parts), verdicts)


GIVEN_TOO_MUCH: dict[str, tuple[dict[str, Any], str, str]] = {
    "x86_64": ({"preset": "x86-vm", "memory": "2G"}, "256M", "120G"),
    "arm64": ({"preset": "arm64-vm", "memory": "256M"}, "52M", "4G"),
}
"""Machines, what the kernel has of them, and what they are given: struct pages of 120 GiB take 1920 MiB, and the tables
that map 4 GiB by 4K pages 8 MiB; of arm64's 256 MiB CMA keeps 64 from the kernel."""


def off_node() -> Finding:
    """mom-3: where the struct pages of a node are that has nothing but ZONE_MOVABLE."""
    parts, shares = [], []
    for name, mode in product(MAINLINE, ("N", "Y")):
        run = evidence.run(
            {"preset": "x86-vm", "memory": "2G", "nodes": 2, "profile": name, "boot": {"memmap_on_memory": mode}},
            {"do": "plug", "size": "4G", "node": 1, "online": "movable"},
            {"do": "plug", "size": "4G", "node": 1, "online": "movable"},
        )
        places: Counter[str] = Counter()
        for step in run.steps:
            places.update(step.memmap_from)
        shares.append(places["RAM of node 0"] / places.total())
        sizes = ", ".join(f"{format_size(size)} in {place}" for place, size in places.items() if size)
        parts.append(f"{name}, {mode}: {shares[-1]:.0%} off-node ({sizes})")
    return on(MAINLINE, shares == [1, 0] * len(MAINLINE), "; ".join(parts))


def page_states() -> Finding:
    """mom-4: the pages of a block that hosts its struct pages, before it goes online and after."""
    parts, verdicts = [], dict[str, VerdictName]()
    for name in KERNELS:
        k = evidence.kernel({"preset": "x86-vm", "memory": "2G", "profile": name, "boot": {"memmap_on_memory": "Y"}})
        session = evidence.added(k, k.memory_block_size)
        start = session.plugged[0].start >> k.config.page_shift
        end, own = start + k.pages_per_block, next(iter(k.altmaps.values())).free
        seen = [pfn_to_online_page(k, start)]
        online(session, Online(zone="movable"))
        seen.append(pfn_to_online_page(k, start))
        zone = k.zone_of(start)
        assert zone is not None
        walked = walk(k.hw.memory, k.hw.fmt, k.init_mm.frame, k.layout.pfn_to_page(start)).pa
        as_said = all(
            (
                list(k.hw.memory.owners.runs(start, end))
                == [(start, start + own, SELF_HOSTED), (start + own, end, Owner(Use.FREE))],
                PageFlags.VMEMMAP_SELF_HOSTED in (k.page_flags.get(start) or PageFlags(0)),
                (zone.present, zone.managed) == (end - start, end - start - own),
                walked == start << k.config.page_shift,
            )
        )
        never_online = not any(seen)
        verdicts[name] = judged(never_online) if as_said is never_online else "in part"
        answers = ["not NULL" if online else "NULL" for online in seen]
        parts.append(
            f"{name}: {own} pages reserved, {zone.managed} to the buddy; pfn_to_online_page() of the former is "
            f"{answers[0]} while the block is offline, {answers[1]} when it is online"
        )
    return over_releases("; ".join(parts), verdicts)


def conditions() -> Finding:
    """mom-5: the verdict on every configuration, held against what adding memory does there."""
    rows = list(memmap_rows(configs(), 4 * GiB))
    asked = [row for row in rows if row.mode != "N"]
    yes = [row for row in asked if row.supported]
    agree = {key: _hosts_its_own(*key) == supported for key, supported in _cheapest(asked).items()}
    unmet: Counter[str] = Counter(each.name for row in asked for each in row.conditions if not each.met)
    pages = ", ".join(format_size(size) for size in sorted({row.page_size for row in yes}))
    why = ", ".join(f"{name} {count}" for name, count in unmet.items())
    figure = (
        f"{len(yes)} of {len(asked)} configurations that ask for it can, all with {pages} pages; unmet: {why}; "
        f"{sum(agree.values())} of {len(agree)} adds do as the verdict says"
    )
    verdicts: dict[str, VerdictName] = {}
    for name in KERNELS:
        asks = {each.name for row in asked if row.profile == name for each in row.conditions}
        as_done = all(same for (profile, *_), same in agree.items() if profile == name)
        verdicts[name] = "refuted" if not as_done else "reproduced" if asks >= CONDITIONS else "in part"
    return over_releases(figure, verdicts)


CONDITIONS = {"one block", "whole PMDs", "whole pageblocks"}
"""What the review's version asks for."""


def _cheapest(rows: list[MemmapRow]) -> dict[tuple[str, str, int, str], bool]:
    """The verdicts by kernel, architecture, page size and mode, for memory blocks of one section."""
    found: dict[tuple[str, str, int, str], bool] = {}
    for row in sorted(rows, key=lambda row: row.memory_block_size):
        found.setdefault((row.profile, row.arch, row.page_size, row.mode), row.supported)
    return found


def _hosts_its_own(profile: str, arch: str, page_size: int, mode: str) -> bool:
    """Whether a memory block that is added there has its struct pages in itself."""
    run = evidence.run(
        {
            "arch": arch,
            "profile": profile,
            "page_size": page_size,
            "memory": "4G",
            "boot": {"memmap_on_memory": mode, **({"rodata_full": False} if arch == "arm64" else {})},
        },
        {"do": "plug", "size": max(128 * MiB, 512 * MiB * (page_size // (64 * KiB)))},
    )
    return "the added memory itself" in run.steps[0].memmap_from
