"""How the claims about memory that hot-add costs, and about memmap_on_memory, are decided."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter
from typing import Any

from memhp.claims import evidence
from memhp.claims.claim import Finding
from memhp.hw.memory import Owner, Use
from memhp.hw.walker import walk
from memhp.linux.config import configs
from memhp.linux.memmap_verdicts import MemmapRow, memmap_rows
from memhp.linux.mm.sparse import pfn_to_online_page
from memhp.linux.mm.vmemmap_alloc import SELF_HOSTED
from memhp.linux.mmzone import PageFlags
from memhp.linux.profiles import MAINLINE
from memhp.scenario.schema import Online, Plug
from memhp.scenario.session import Session
from memhp.scenario.steps import online, plug
from memhp.units import GiB, KiB, MiB, format_size

KERNELS = ("linux-5.13", *MAINLINE)
"""Profiles of kernels that can keep struct pages in the memory that they describe."""


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


def exhaustion() -> Finding:
    """mom-2: a 2 GiB guest that is given 120 GiB, with its struct pages in RAM and in the memory itself."""
    machine = {"preset": "x86-vm", "memory": "2G"}
    steps: list[dict[str, Any]] = [
        {"do": "allocate", "size": "256M", "tag": "workload"},
        {"do": "plug", "size": "120G"},
        {"do": "allocate", "size": "64M", "tag": "a little more"},
    ]
    runs = [
        evidence.run(machine, *steps),
        evidence.run({**machine, "boot": {"memmap_on_memory": "Y"}}, *steps),
    ]
    parts = []
    for mode, run in zip(("N", "Y"), runs, strict=True):
        _, plug, more = run.steps
        parts.append(
            f"{mode}: 120 GiB into 2 GiB: {plug.outcome.result}, {format_size(plug.memory_after.free)} free, "
            f"64 MiB more: {more.outcome.result}"
        )
    ends = [[step.outcome.result for step in run.steps] for run in runs]
    reproduced = ends == [["ok", "ENOMEM", "ENOMEM"], ["ok", "ok", "ok"]]
    return Finding("reproduced" if reproduced else "refuted", "; ".join(parts))


def off_node() -> Finding:
    """mom-3: where the struct pages of a node are that has nothing but ZONE_MOVABLE."""
    parts, shares = [], []
    for mode in ("N", "Y"):
        run = evidence.run(
            {"preset": "x86-vm", "memory": "2G", "nodes": 2, "boot": {"memmap_on_memory": mode}},
            {"do": "plug", "size": "4G", "node": 1, "online": "movable"},
            {"do": "plug", "size": "4G", "node": 1, "online": "movable"},
        )
        places: Counter[str] = Counter()
        for step in run.steps:
            places.update(step.memmap_from)
        shares.append(places["RAM of node 0"] / places.total())
        sizes = ", ".join(f"{format_size(size)} in {place}" for place, size in places.items() if size)
        parts.append(f"{mode}: {shares[-1]:.0%} off-node ({sizes})")
    return Finding("reproduced" if shares == [1, 0] else "refuted", "; ".join(parts))


def page_states() -> Finding:
    """mom-4: the pages of a block that hosts its struct pages, before it goes online and after."""
    parts, good = [], True
    for name in KERNELS:
        k = evidence.kernel({"preset": "x86-vm", "memory": "2G", "profile": name, "boot": {"memmap_on_memory": "Y"}})
        session = Session(k)
        plug(session, Plug(size=k.memory_block_size))
        start = session.plugged[0].start >> k.config.page_shift
        end, own = start + k.pages_per_block, next(iter(k.altmaps.values())).free
        seen = [pfn_to_online_page(k, start)]
        online(session, Online(zone="movable"))
        seen.append(pfn_to_online_page(k, start))
        zone = k.zone_of(start)
        assert zone is not None
        walked = walk(k.hw.memory, k.hw.fmt, k.init_mm.frame, k.layout.pfn_to_page(start)).pa
        good = good and all(
            (
                list(k.hw.memory.owners.runs(start, end))
                == [(start, start + own, SELF_HOSTED), (start + own, end, Owner(Use.FREE))],
                PageFlags.VMEMMAP_SELF_HOSTED in (k.page_flags.get(start) or PageFlags(0)),
                (zone.present, zone.managed) == (end - start, end - start - own),
                walked == start << k.config.page_shift,
                seen == [False, True],
            )
        )
        parts.append(f"{name}: {own} pages reserved, {zone.managed} to the buddy")
    figure = "; ".join(parts)
    walk_text = "the walker finds the block's struct pages at its own start"
    return Finding(
        "reproduced" if good else "refuted",
        f"{figure}; {walk_text}; pfn_to_online_page() of them is NULL until the block is online, then no more",
    )


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
    return Finding("reproduced" if all(agree.values()) and why else "refuted", figure)


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
            "boot": {"memmap_on_memory": mode, "rodata_full": False},
        },
        {"do": "plug", "size": max(128 * MiB, 512 * MiB * (page_size // (64 * KiB)))},
    )
    return "the added memory itself" in run.steps[0].memmap_from
