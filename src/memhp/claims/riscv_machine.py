"""How the claims of the RISC-V series about the machine around page tables are decided: drivers, limits, locks."""
# SPDX-License-Identifier: GPL-2.0-or-later

from typing import NamedTuple

from memhp.claims import evidence
from memhp.claims.claim import Finding, VerdictName, answered, judged, on, over_releases, together
from memhp.claims.device_records import Held, held, records
from memhp.claims.riscv_hotplug import KERNELS, PLUG_512M, V1
from memhp.claims.riscv_hotplug import MODES as PAGING
from memhp.explore.case import Case
from memhp.explore.cases.ptdump_vs_hot_remove import CASE as PTDUMP
from memhp.explore.cases.split_vs_remove import CASE as SPLIT
from memhp.explore.cases.vmalloc_vs_hot_remove import CASE as VMALLOC
from memhp.linux.profiles import MAINLINE
from memhp.units import GiB, MiB, TiB, format_count, format_size


def discarded_code() -> Finding:
    """rv-7: hot-add with the page-table code left in __init memory, and without."""
    results = [
        evidence.run({"preset": "riscv-vm", "choices": {"page_table_section": section}}, PLUG_512M).steps[0].outcome
        for section in ("__init", "__meminit")
    ]
    figure = f"__init: {results[0].result} ({results[0].reason}); __meminit: {results[1].result}"
    return on(("linux-6.12",), results[0].result == "BUG" and results[1].result == "ok", figure)


SECTION_SAID, PAGEBLOCK_SAID = 128 * MiB, 4 * MiB
"""What the reply says: 27 bits of section, and a pageblock of 1024 pages, the buddy's largest then."""


def granularity() -> Finding:
    """rv-8: section, memory block, pageblock and virtio-mem's unit on riscv64, beside what the reply says of them."""
    parts, verdicts = [], dict[str, VerdictName]()
    for name in (V1, *MAINLINE):
        row = evidence.sizes("riscv64", name)[0]
        device = row.virtio_mem
        assert device is not None
        said = (row.section_size == SECTION_SAID, row.pageblock_size == PAGEBLOCK_SAID)
        verdicts[name] = together(map(judged, said))
        parts.append(
            f"{name}: section {format_size(row.section_size)}, smallest DIMM {format_size(row.smallest_dimm)}, "
            f"pageblock {format_size(row.pageblock_size)} (order {row.pageblock_order}, not {row.max_page_order}), "
            f"virtio-mem {device.mode} of {format_size(device.unit)}"
        )
    return over_releases("; ".join(parts), verdicts)


FAR = 0x1F80000000
"""Where the direct map of Sv39 ends as v1 has it: its physical address stands for KASAN_SHADOW_START."""

DMA32 = 4 * GiB
"""What 32-bit DMA reaches: ``dma32_phys_limit``."""


def pluggable_range() -> Finding:
    """rv-9: what knowing a maximum would change: the layout, a plug beyond the direct map, bounce buffers.

    ``swiotlb_init(max_pfn > dma32)`` is asked once, at boot, of boot RAM: a guest that ends below 4 GiB and grows above
    it has no bounce buffers for memory that 32-bit devices cannot reach.
    """
    parts, verdicts = [], dict[str, VerdictName]()
    for name in (V1, *MAINLINE):
        known = evidence.sizes("riscv64", name, max_possible=64 * TiB)
        unknown = evidence.sizes("riscv64", name)
        same = all(a.pluggable_end == b.pluggable_end for a, b in zip(known, unknown, strict=True))
        machine = {"preset": "riscv-vm-sv39", "profile": name, "memory": "1G"}
        checked = name != V1
        at = unknown[0].pluggable_end if checked else FAR
        run = evidence.run(machine, {"do": "plug", "size": 128 * MiB, "at": at})
        k, outcome = evidence.kernel(machine), run.steps[0].outcome
        beyond = f"a plug at {at:#x} beyond the direct map: {outcome.result}"
        if outcome.result == "ok":
            beyond += f", mapped at {k.layout.phys_to_virt(at or 0):#x}"
        end = k.max_pfn << k.config.page_shift
        no_buffers = end <= DMA32 < unknown[0].boot_limit
        needs = [not same, outcome.result == "ok", no_buffers]
        verdicts[name] = together(map(judged, needs))
        parts.append(
            f"{name}: the layout is {'the same' if same else 'another'} with a known maximum; {beyond}; "
            f"a guest that boots up to {end:#x} and grows above 4 GiB has {'no ' if no_buffers else ''}bounce buffers"
        )
    return over_releases("; ".join(parts), verdicts)


def virtio_mem() -> Finding:
    """rv-11: a device gets every size that is requested of its driver, in both modes, and did so in real guests.

    What a kernel leaves mapped of memory that went is for rv-1 and rv-5: here it is told and not judged.
    """
    parts, verdicts = [], dict[str, VerdictName]()
    for kernel in KERNELS:
        modes = MODES if kernel != V1 else {"sub-blocks": False}
        found = {(preset, mode): _resized(kernel, preset, mode) for preset in PRESETS for mode in modes}
        verdicts[kernel] = judged(all(each.reached for each in found.values()))
        bad = ", ".join(dict.fromkeys(PAGING[preset] for (preset, _), each in found.items() if not each.lawful))
        parts.append(
            f"{kernel}: {sum(each.reached for each in found.values())} of {len(found)} devices got every size"
            + (f" (under {bad} what went stays mapped: rv-1)" if bad else ", every law kept")
        )
    real = [held(record) for record in records() if record.arch == "riscv64"]
    for each in real:
        series = f"linux-{'.'.join(each.release.split('.')[:2])}"
        if each.equal < each.steps:
            verdicts[series] = "refuted"
    figure = f"(Sv39, Sv48, Sv57; {', '.join(MODES)}) {'; '.join([*parts, *map(_told, real)])}"
    return over_releases(figure, verdicts)


def _told(each: Held) -> str:
    """How a real guest's driver and the modelled one agree."""
    return (
        f"the driver of {each.release} in a guest with this device: {each.equal} of {each.steps} steps as the "
        f"modelled driver, request by request ({each.requests})"
    )


PRESETS = tuple(PAGING)
MODES = {"sub-blocks": False, "big blocks": True}
"""The modes of the virtio-mem driver, by whether it is made to use big blocks."""


class Resized(NamedTuple):
    """What became of a device's sizes, and of memhp's laws meanwhile."""

    reached: bool
    lawful: bool


def _resized(kernel: str, preset: str, mode: str) -> Resized:
    """Whether a virtio-mem device gets every size that is requested, and every law is kept."""
    boot = {"memhp_default_state": "online_movable"}
    device = {"do": "virtio-mem", "size": "8G", "requested": "1G", "big_blocks": MODES[mode]}
    sizes = ("1280M", "128M", 0, "1G", 0)
    steps = [{"do": "resize", "to": size} for size in sizes]
    run = evidence.run({"preset": preset, "profile": kernel, "boot": boot}, device, *steps)
    ends = [each.plugged == each.requested for step in run.steps for each in step.devices]
    ended = len(ends) == len(run.steps) == len(steps) + 1 and all(step.outcome.result == "ok" for step in run.steps)
    return Resized(ended and all(ends), run.ok)


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
    for rule, race, off, upheld, name in RULES:
        without, held = (evidence.explored(race, variant, name) for variant in (off, upheld))
        good = good and (without.word, held.word) == ("broken", "safe")
        kind = without.failure.reason.split(":")[0] if without.failure is not None else ""
        met = "they never meet" if held.classes in (None, 1) else format_count(held.classes, "class")
        parts.append(f"{rule}: off {without.word} ({kind}), on {held.word} ({met})")
    return answered(MAINLINE, good, "; ".join(parts))
