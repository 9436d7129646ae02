"""How the claims of the RISC-V series are decided."""
# SPDX-License-Identifier: GPL-2.0-or-later

from typing import Any

from memhp.claims import evidence
from memhp.claims.claim import Finding
from memhp.claims.device_records import Held, held, records
from memhp.explore.case import Case
from memhp.explore.cases.free_before_flush import CASE as FREE_BEFORE_FLUSH
from memhp.explore.cases.pgd_sync_existing_process import CASE as EXISTING
from memhp.explore.cases.pgd_sync_new_process import CASE as NEW
from memhp.explore.cases.ptdump_vs_hot_remove import CASE as PTDUMP
from memhp.explore.cases.split_vs_remove import CASE as SPLIT
from memhp.explore.cases.vmalloc_vs_hot_remove import CASE as VMALLOC
from memhp.linux.profiles import MAINLINE
from memhp.units import GiB, MiB, TiB, format_size

V1 = "riscv-hotplug-v1"
SV39 = "riscv64-4K-39-linux-6.12"
PLUG_512M = {"do": "plug", "size": "512M", "driver": "virtio_mem"}


def life_cycle() -> Finding:
    """rv-1: add, online, offline and remove under Sv39, Sv48 and Sv57, page tables as before afterwards."""
    posted, mainline = evidence.rows("riscv64", V1), evidence.rows("riscv64", *MAINLINE)
    good = sum(row.ok for row in mainline)
    broken = ", ".join(f"Sv{row.va_bits}" for row in posted if not row.ok)
    as_posted = f"as posted {sum(row.ok for row in posted)} of {len(posted)}" + (
        f" ({broken} broken)" if broken else ""
    )
    figure = f"{good} of {len(mainline)} mainline configurations keep every law; {as_posted}"
    return Finding("reproduced" if good == len(mainline) else "refuted", figure)


def root_entries() -> Finding:
    """rv-2: who faults on memory whose root entry is newer than the process, under each policy.

    As a rehearsal, one step after the other, and explored under Sv39: every order of hot-add with an older process that
    comes upon the memory, and with a fork.
    """
    faults = {name: _faults(choices) for name, choices in POLICIES.items()}
    figure = "; ".join(f"{name}: {' and '.join(who) or 'nobody'} faults" for name, who in faults.items())
    as_claimed = faults == {"none": ["older process"], "sync": [], "preallocate": []}
    for race, who in ((EXISTING, "older process"), (NEW, "fork")):
        words = []
        for variant in race.variants:
            if SV39 not in [one.name for one in variant.configurations]:
                continue
            verdict = evidence.explored(race, variant.name, SV39)
            as_claimed = as_claimed and verdict.word == ("broken" if variant.stands_for == "broken" else "safe")
            classes = f" ({verdict.classes} classes)" if verdict.failure is None else ""
            words.append(f"{variant.name} {verdict.word}{classes}")
        figure += f"; explored, {who}: {', '.join(words)}"
    return Finding("reproduced" if as_claimed else "refuted", figure)


POLICIES: dict[str, dict[str, Any]] = {
    "none": {"pgd_policy": "none", "pgd_preallocated": []},
    "sync": {"pgd_policy": "sync", "pgd_preallocated": []},
    "preallocate": {},
}


def _faults(choices: dict[str, Any]) -> list[str]:
    """Which of an older and a younger process faults on 2 GiB added to a Sv39 machine, direct map or struct pages."""
    at = 4 * GiB
    touches = [
        {"do": "touch", "process": process, "at": at, "what": what, "name": f"{process} process"}
        for process in ("older", "younger")
        for what in ("direct-map", "struct-page")
    ]
    who = []
    for touch in touches:
        run = evidence.run(
            {"preset": "riscv-vm-sv39", "memory": "1G", "choices": choices},
            {"do": "new-process", "process": "older"},
            {"do": "plug", "size": 2 * GiB, "at": at},
            {"do": "new-process", "process": "younger"},
            touch,
        )
        if run.steps[-1].outcome.result == "BUG" and touch["name"] not in who:
            who.append(str(touch["name"]))
    return who


def preallocation() -> Finding:
    """rv-3: table pages that the posted series allocates ahead, and how many of them 4 GiB of RAM use."""
    parts, near = [], True
    for row in evidence.sizes("riscv64", V1):
        areas = {area.area: area for area in row.preallocated}
        first = [areas[name] for name in ("direct map", "vmemmap")]
        tables, used = sum(area.tables for area in first), sum(area.used or 0 for area in first)
        near = near and 100 <= tables <= 160
        parts.append(f"Sv{row.va_bits}: {tables} pages, {used} used, {areas['vmalloc'].tables} more with patch 7")
    return Finding("reproduced" if near else "refuted", "; ".join(parts))


def vmemmap_leaves() -> Finding:
    """rv-4: what struct pages of 512 MiB cost in entries and tables with either kind of leaf."""
    cost = {}
    for leaves in ("base", "huge"):
        step = evidence.run({"preset": "riscv-vm", "choices": {"vmemmap_leaves": leaves}}, PLUG_512M).steps[0]
        cost[leaves] = (step.entries_written, evidence.table_count(step.tables_allocated))
    (base, base_tables), (huge, huge_tables) = cost["base"], cost["huge"]
    figure = f"512 MiB: base pages {base} entries, {base_tables} new tables; PMD leaves {huge} and {huge_tables}"
    return Finding("reproduced" if base > huge and base_tables > huge_tables else "refuted", figure)


def frames_conserved() -> Finding:
    """rv-5: one teardown for both areas, and no frame lost or freed twice."""
    runs = [
        evidence.run(
            {"preset": "riscv-vm-sv57", "profile": name, "memory": "1G"},
            PLUG_512M,
            {"do": "online", "zone": "movable"},
            {"do": "offline"},
            {"do": "remove"},
        )
        for name in (V1, *MAINLINE)
    ]
    broken = sorted({law for run in runs for law in evidence.broken_laws(run)})
    back = [run.steps[0].memory_before.free - run.steps[-1].memory_after.free for run in runs]
    figure = f"free memory before minus after: {', '.join(format_size(size) for size in back)} in {len(runs)} kernels"
    if broken:
        figure += f"; broken: {', '.join(broken)}"
    return Finding("reproduced" if not broken and not any(back) else "refuted", figure)


def flushes() -> Finding:
    """rv-6: flushes on removal, frames given back before the flush that covers them, and whether that is safe."""
    parts = []
    chosen = {
        "posted": evidence.rows("riscv64", V1)[-1],
        "riscv": evidence.rows("riscv64", "linux-7.2")[-1],
        "arm64": evidence.rows("arm64", "linux-7.2")[0],
        "x86": evidence.rows("x86_64", "linux-7.2")[0],
    }
    for name, row in chosen.items():
        times = sum(flush.times for flush in row.flushes_remove)
        parts.append(f"{name} {times} flushes, {row.freed_before_flush} frames freed before theirs")
    verdicts = [
        f"{variant} {evidence.explored(FREE_BEFORE_FLUSH, variant, where).word}"
        for variant, where in FLUSH_ORDERS.items()
    ]
    figure = f"removing {format_size(chosen['riscv'].added)}: {'; '.join(parts)}; explored: {', '.join(verdicts)}"
    return Finding("answered", figure)


FLUSH_ORDERS = {
    "riscv-posted": "riscv64-4K-57-riscv-hotplug-v1",
    "riscv-order": "riscv64-4K-48-linux-7.2",
    "x86-order": "x86_64-4K-48-linux-7.2",
    "arm64-order": "arm64-4K-39-linux-7.2",
    "flush-then-free": "riscv64-4K-48-linux-6.12",
    "flush-each": "x86_64-4K-48-linux-6.12",
}
"""Orders of clearing, flushing and freeing as the race free-before-flush has them, and a machine for each."""


def discarded_code() -> Finding:
    """rv-7: hot-add with the page-table code left in __init memory, and without."""
    results = [
        evidence.run({"preset": "riscv-vm", "choices": {"page_table_section": section}}, PLUG_512M).steps[0].outcome
        for section in ("__init", "__meminit")
    ]
    figure = f"__init: {results[0].result} ({results[0].reason}); __meminit: {results[1].result}"
    reproduced = results[0].result == "BUG" and results[1].result == "ok"
    return Finding("reproduced" if reproduced else "refuted", figure)


def granularity() -> Finding:
    """rv-8: section, memory block, pageblock and virtio-mem's unit on riscv64."""
    row = evidence.sizes("riscv64", "linux-7.2")[0]
    device = row.virtio_mem
    assert device is not None
    figure = (
        f"section {format_size(row.section_size)}, smallest DIMM {format_size(row.smallest_dimm)}, "
        f"pageblock {format_size(row.pageblock_size)} (order {row.pageblock_order}, not {row.max_page_order}), "
        f"virtio-mem {device.mode} of {format_size(device.unit)}"
    )
    return Finding("answered", figure)


def pluggable_range() -> Finding:
    """rv-9: what a plug beyond the direct map does, and whether knowing a maximum changes the layout."""
    known = evidence.sizes("riscv64", "linux-7.2", max_possible=64 * TiB)
    unknown = evidence.sizes("riscv64", "linux-7.2")
    same = all(a.pluggable_end == b.pluggable_end for a, b in zip(known, unknown, strict=True))
    row = unknown[0]
    assert row.pluggable_end is not None
    step = {"do": "plug", "size": 128 * MiB, "at": row.pluggable_end, "expect": "E2BIG"}
    outcome = evidence.run({"preset": "riscv-vm-sv39", "profile": "linux-7.2"}, step).steps[0].outcome
    ends = ", ".join(f"Sv{each.va_bits} {each.pluggable_end:#x}" for each in unknown if each.pluggable_end is not None)
    figure = (
        f"{'no' if same else 'yes'}: the layout is {'the same' if same else 'another'} with a known maximum; "
        f"memory may be plugged below {ends}; beyond: {outcome.result}"
    )
    return Finding("answered", figure)


def virtio_mem() -> Finding:
    """rv-11: a device grows and shrinks by the requests of its driver, in both modes, and did so in real guests."""
    mainline = [_resized(kernel, preset, mode) for kernel in MAINLINE for preset in PRESETS for mode in MODES]
    posted = [_resized(V1, preset, "sub-blocks") for preset in PRESETS]
    real = [held(record) for record in records() if record.arch == "riscv64"]
    figure = (
        f"in the model {sum(mainline)} of {len(mainline)} devices of mainline kernels (Sv39, Sv48, Sv57; "
        f"{', '.join(MODES)}) grow and shrink with every law kept; as posted {sum(posted)} of {len(posted)}; "
        f"{'; '.join(map(_told, real))}"
    )
    fine = all(mainline) and len(real) > 0 and all(each.equal == each.steps for each in real)
    return Finding("reproduced" if fine else "refuted", figure)


def _told(each: Held) -> str:
    """How a real guest's driver and the modelled one agree."""
    return (
        f"the driver of {each.release} in a guest with this device: {each.equal} of {each.steps} steps as the "
        f"modelled driver, request by request ({each.requests})"
    )


PRESETS = ("riscv-vm-sv39", "riscv-vm", "riscv-vm-sv57")
MODES = {"sub-blocks": False, "big blocks": True}
"""The modes of the virtio-mem driver, by whether it is made to use big blocks."""


def _resized(kernel: str, preset: str, mode: str) -> bool:
    """Whether a virtio-mem device gets every size that is requested, and every law is kept."""
    boot = {"memhp_default_state": "online_movable"}
    device = {"do": "virtio-mem", "size": "8G", "requested": "1G", "big_blocks": MODES[mode]}
    sizes = ("1280M", "128M", 0)
    steps = [{"do": "resize", "to": size} for size in sizes]
    run = evidence.run({"preset": preset, "profile": kernel, "boot": boot}, device, *steps)
    reached = [each.plugged == each.requested for step in run.steps for each in step.devices]
    return run.ok and len(reached) == len(run.steps) and all(reached)


RULES: tuple[tuple[str, Case, str, str, str], ...] = (
    ("mem_hotplug_lock keeps the dump out", PTDUMP, "no-lock", "hotplug-lock", "arm64-4K-48-linux-6.12"),
    ("tables shared with vmalloc stay", VMALLOC, "V5", "floor-ceiling", "arm64-4K-48-linux-6.12"),
    ("boot memory stays", SPLIT, "boot-memory-removable", "bootmem-notifier", "arm64-4K-48-linux-7.2"),
    ("no leaf is removed in part", SPLIT, "partial-removal", "split-refused", "arm64-4K-48-linux-7.2"),
)
"""What arm64 relies on instead of page-table locks: the rule, the race that it decides, the variants without it and
with it, and where."""


def neighbours() -> Finding:
    """rv-10: hot-remove against those whom no page-table lock keeps out, with each of arm64's rules off and on."""
    parts, good = [], True
    for rule, race, off, on, name in RULES:
        without, held = (evidence.explored(race, variant, name) for variant in (off, on))
        good = good and (without.word, held.word) == ("broken", "safe")
        kind = without.failure.reason.split(":")[0] if without.failure is not None else ""
        met = f"{held.classes} classes" if held.coverage.executions > 1 else "they never meet"
        parts.append(f"{rule}: off {without.word} ({kind}), on {held.word} ({met})")
    return Finding("answered" if good else "refuted", "; ".join(parts))
