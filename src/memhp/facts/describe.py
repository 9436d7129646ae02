"""What a model needs to know to boot the machine that was observed."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from memhp.errors import BadInput
from memhp.facts import iomem
from memhp.facts.cpuinfo import Cpuinfo
from memhp.facts.dmesg import Dmesg, NodeRange, VirtioMem
from memhp.facts.iomem import Resource
from memhp.facts.observed import Facts
from memhp.facts.paging import from_vmalloc_total, usual_va_bits
from memhp.facts.params import HotplugParams
from memhp.facts.zoneinfo import ZoneInfo
from memhp.linux.arch.registry import ARCHES, Arch, port, ports
from memhp.linux.port import Paging
from memhp.spans import Span, SpanMap
from memhp.units import parse_size

Origin = Literal["boot", "dimm", "virtio_mem", "kmem", "hotplug"]
"""How memory came: at boot, with a DIMM, from one of two drivers, or in a way that nothing tells."""


@dataclass(frozen=True)
class Ram:
    """System RAM of one node in one resource of /proc/iomem: bytes, and how it came."""

    span: Span
    nid: int | None
    origin: Origin
    resource: str


@dataclass(frozen=True)
class MachineFacts:
    """A machine as a model boots it. What could not be told is None; `evidence` says what told the rest.

    Sizes are bytes. `va_bits` is the width that the kernel was built for, `va_bits_actual` the one in use: they differ
    on arm64 only. `memory` is what /proc/iomem shows as System RAM at this moment, `boot_memory` what memblock held at
    boot, firmware's own included. `options` are the command line's options that matter for hotplug.
    """

    name: str
    arch: Arch
    release: str | None
    series: str | None
    page_size: int
    va_bits: int | None
    va_bits_actual: int | None
    paging: str | None
    memory: tuple[Ram, ...]
    boot_memory: tuple[NodeRange, ...]
    block_size: int
    auto_online: str | None
    zones: tuple[ZoneInfo, ...]
    nodes: tuple[int, ...]
    possible_nodes: tuple[int, ...]
    cpus: int | None
    params: HotplugParams
    options: Mapping[str, str]
    mem_limit: int | None
    movable_node: bool
    nokaslr: bool
    max_order: int | None
    """The largest order of the buddy, inclusive: ``MAX_PAGE_ORDER``."""
    pageblock_order: int | None
    gbpages: bool | None
    """x86: whether the direct map may have leaves of 1 GiB."""
    large_leaves: bool
    """x86: whether the direct map is known to have leaves larger than a page."""
    hypervisor: str | None
    """x86: the hypervisor that the kernel detected (``Hypervisor detected: KVM``)."""
    cpu_features: frozenset[str]
    """arm64: the CPU features in use, in the kernel's words; of every architecture the `flags` of /proc/cpuinfo."""
    midrs: frozenset[int]
    """arm64: the CPUs' identities (MIDR_EL1)."""
    cxl_windows: tuple[Span, ...]
    """Where CXL memory may be (bytes), as firmware says: ``CXL Window N`` of /proc/iomem."""
    memmap_pages: Mapping[str, int]
    """Pages of struct page: nr_memmap_pages and nr_memmap_boot_pages of /proc/vmstat."""
    virtio_mem: tuple[VirtioMem, ...]
    """The virtio-mem devices that are there at this moment."""
    evidence: Mapping[str, str] = field(default_factory=dict)
    assumed: frozenset[str] = frozenset()
    """What was not told of a machine of which only a part was read (:attr:`Facts.assumed`)."""

    @property
    def zone_names(self) -> tuple[str, ...]:
        """The zones that this kernel was built with, lowest first."""
        return tuple(dict.fromkeys(zone.name for zone in self.zones))

    @property
    def reserved(self) -> int:
        """Bytes that zones have and the buddy never got: present minus managed, of all zones."""
        return sum(zone.reserved for zone in self.zones) * self.page_size

    def memory_of(self, *origins: Origin) -> tuple[Span, ...]:
        """The System RAM that came in one of these ways."""
        return tuple(ram.span for ram in self.memory if ram.origin in origins)


def describe(facts: Facts, *, name: str) -> MachineFacts:
    """The machine behind some facts.

    Raises :class:`BadInput` for a machine whose architecture or page size nothing tells.
    """
    evidence: dict[str, str] = {}
    log = facts.boot_log or Dmesg(())
    arch, paging = _paging(facts, evidence)
    page_size = facts.page_size
    if page_size is None:
        raise BadInput("no online zone tells the page size", where=facts.source, fix="capture a machine that is up")
    if facts.release is not None:
        evidence["release"] = "the kernel itself" if log.release or facts.qemu is None else "the image QEMU was given"
    memory, boot_memory = _memory(facts, log, page_size, port(arch).struct_page_size, evidence)
    options = facts.cmdline.hotplug() if facts.cmdline is not None else {}
    cpus = {pageset.cpu for zone in facts.zones for pageset in zone.pagesets}
    states, nodes = (facts.nodes.states, facts.nodes.nodes) if facts.nodes is not None else ({}, ())
    nids = tuple(dict.fromkeys(zone.node for zone in facts.zones))
    cpuinfo = facts.cpuinfo or Cpuinfo()
    return MachineFacts(
        name=name,
        arch=arch,
        release=facts.release,
        series=".".join(facts.release.split(".")[:2]) if facts.release else None,
        page_size=page_size,
        va_bits=paging.va_bits if paging else usual_va_bits(arch, page_size) if facts.assumed else None,
        va_bits_actual=paging.va_bits_actual if paging else None,
        paging=paging.name if paging else None,
        memory=memory,
        boot_memory=boot_memory,
        block_size=facts.memory.block_size,
        auto_online=facts.memory.auto_online,
        zones=facts.zones,
        nodes=states.get("online", nids),
        possible_nodes=states.get("possible", nids),
        cpus=len(cpus) or sum(len(node.cpulist or ()) for node in nodes) or log.cpus,
        params=facts.params,
        options=options,
        mem_limit=_mem_limit(facts, options),
        movable_node="movable_node" in options,
        nokaslr="nokaslr" in options,
        max_order=len(facts.buddyinfo[0].free) - 1 if facts.buddyinfo else None,
        pageblock_order=facts.pagetypeinfo[0].pageblock_order if facts.pagetypeinfo else None,
        gbpages="DirectMap1G" in facts.meminfo if "DirectMap4k" in facts.meminfo else None,
        large_leaves=any(facts.meminfo.get(name) for name in ("DirectMap2M", "DirectMap4M", "DirectMap1G")),
        hypervisor=log.after("Hypervisor detected: "),
        cpu_features=log.cpu_features | cpuinfo.flags,
        midrs=log.midrs | cpuinfo.midrs,
        cxl_windows=tuple(each.span for _, each in iomem.walk(facts.iomem) if CXL_WINDOW.fullmatch(each.name)),
        memmap_pages={name: pages for name, pages in facts.vmstat.items() if name.startswith("nr_memmap")},
        virtio_mem=tuple(device for device in log.virtio_mem if _is_there(device, facts)),
        evidence=evidence,
        assumed=facts.assumed,
    )


CXL_WINDOW = re.compile(r"CXL Window \d+")

WITHOUT_PORT = {"s390x": "s390x", "powerpc64": "ppc64le", "ppc64": "ppc64le"}
"""Words in the names of releases, compilers and emulators of architectures whose machines can be read and not
rehearsed, unless a port has the word too."""


def architecture(facts: Facts) -> tuple[str, str]:
    """The architecture of a machine, with a port or without, and what told it. Raises :class:`BadInput` where nothing
    does.
    """
    if facts.arch is not None:
        return facts.arch, "what is left of the machine"
    total = facts.meminfo.get("VmallocTotal")
    log = facts.boot_log or Dmesg(())
    texts = {
        "the name of the kernel's release": facts.release or "",
        "the compiler named in the kernel log": next(
            (line.text for line in log.lines if "Linux version" in line.text), ""
        ),
        "the QEMU binary": facts.qemu.args[0] if facts.qemu and facts.qemu.args else "",
    }
    words = [*((word, each.name) for each in ports() for word in each.uname_words), *WITHOUT_PORT.items()]
    for what, text in texts.items():
        for word, arch in words:
            if word in text:
                return arch, what
    modes = from_vmalloc_total(total) if total is not None else ()
    if modes:
        return modes[0].arch, f"VmallocTotal {total} kB in /proc/meminfo"
    raise BadInput(
        f"nothing tells that this machine is {', '.join(ARCHES[:-1])} or {ARCHES[-1]}",
        where=facts.source,
        fix="add /proc/meminfo or the kernel log",
    )


def ported(facts: Facts, name: str) -> Arch:
    """An architecture that has a port. Raises :class:`BadInput` for one that has none."""
    arch = next((each for each in ARCHES if each == name), None)
    if arch is None:
        raise BadInput(
            f"{name} has no port: its facts can be read, and nothing rehearsed",
            where=facts.source,
            fix=f"take a machine that is {', '.join(ARCHES[:-1])} or {ARCHES[-1]}",
        )
    return arch


def _paging(facts: Facts, evidence: dict[str, str]) -> tuple[Arch, Paging | None]:
    found, told = architecture(facts)
    arch = ported(facts, found)
    evidence["arch"] = told
    total = facts.meminfo.get("VmallocTotal")
    known = [mode for mode in from_vmalloc_total(total) if mode.arch == arch] if total is not None else []
    modes = [mode for mode in known if facts.page_size in {None, mode.page_size}]
    if not modes:
        return arch, None
    evidence["va_bits_actual"] = f"VmallocTotal {total} kB in /proc/meminfo"
    evidence["va_bits"] = evidence["va_bits_actual"]
    if len(modes) > 1:
        other, default = modes[-1].va_bits, modes[0].va_bits
        evidence["va_bits"] += f", which a build for {other} bits has too; {default} is the default"
    return arch, modes[0]


def _mem_limit(facts: Facts, options: Mapping[str, str]) -> int | None:
    """The limit that ``mem=`` sets, in bytes; ``mem=nopentium`` and the like set none."""
    text = options.get("mem", "").upper().replace("0X", "0x")
    return parse_size(text, where=f"{facts.source}: mem=") if text[:1].isdigit() else None


def _is_there(device: VirtioMem, facts: Facts) -> bool:
    """Whether the driver holds the device's region now (``virtio_mem_create_resource()``)."""
    return any(resource.name == device.name and resource.span == device.span for _, resource in iomem.walk(facts.iomem))


def _memory(
    facts: Facts, log: Dmesg, page_size: int, struct_page: int, evidence: dict[str, str]
) -> tuple[tuple[Ram, ...], tuple[NodeRange, ...]]:
    """System RAM by node and origin, and what memblock held at boot."""
    owner: SpanMap[int] = SpanMap()
    for block in facts.memory.blocks:
        if block.nodes:
            owner.set(*facts.memory.span(block), block.nodes[0])
    for boot in log.early_node_ranges or facts.boot_memory:
        owner.set(*boot.span, boot.nid)
    plain = [ram for ram in iomem.system_ram(facts.iomem) if not iomem.ram_driver(ram)]
    plugged = _plugged(facts, log, plain, page_size * page_size // struct_page, evidence)
    memory = tuple(
        Ram(part, nid, _origin(ram, plugged), ram.name)
        for ram in iomem.system_ram(facts.iomem)
        for part, nid in _by_node(ram.span, owner)
    )
    if log.early_node_ranges:
        evidence["boot_memory"] = "'Early memory node ranges' in the kernel log"
        return memory, log.early_node_ranges
    if facts.boot_memory:
        evidence["boot_memory"] = "what else is known of the machine"
        return memory, facts.boot_memory
    evidence["boot_memory"] = "System RAM in /proc/iomem: memory that firmware keeps is not in it"
    return memory, tuple(NodeRange(ram.nid or 0, ram.span) for ram in memory if ram.origin == "boot")


def _by_node(span: Span, owner: SpanMap[int]) -> Iterator[tuple[Span, int | None]]:
    """A span cut where its node changes."""
    parts = [(Span(start, end), nid) for start, end, nid in owner.runs(*span)]
    unknown = [(gap, None) for gap in owner.gaps(*span)]
    yield from sorted([*parts, *unknown], key=lambda part: part[0])


def _origin(ram: Resource, plugged: Mapping[Span, Origin]) -> Origin:
    driver = iomem.ram_driver(ram)
    if driver == "kmem":
        return "kmem"
    if driver == "virtio_mem":
        return "virtio_mem"
    return "hotplug" if driver else plugged.get(ram.span, "boot")


def _plugged(
    facts: Facts, log: Dmesg, plain: list[Resource], per_page: int, evidence: dict[str, str]
) -> dict[Span, Origin]:
    """Which resources named plain "System RAM" were plugged later: their names do not tell.

    The kernel log tells what was there at boot. Without it, QEMU tells its DIMMs; and the struct pages that boot made
    tell how many blocks it had: what goes beyond, at the top, was plugged. `per_page` are the bytes whose struct pages
    fill a page.
    """
    dimms = [each.span for each in facts.qemu.devices if each.type in ("dimm", "nvdimm")] if facts.qemu else []
    found: dict[Span, Origin] = {}
    boot = [each.span for each in log.early_node_ranges]
    for ram in plain:
        if any(span.covers(ram.span) for span in facts.late):
            found[ram.span] = "hotplug"
    budget = facts.vmstat.get("nr_memmap_boot_pages", 0) * per_page
    blocks: set[int] = set()
    evidence["origin"] = "the kernel log" if boot else "QEMU's devices"
    for ram in (each for each in plain if each.span not in found):
        size = facts.memory.block_size
        blocks.update(range(ram.start // size, ram.end // size + 1))
        late = not any(ram.span.overlaps(span) for span in boot) if boot else False
        if not boot and budget and len(blocks) * size > budget:
            late, evidence["origin"] = True, "nr_memmap_boot_pages in /proc/vmstat"
        if any(span.covers(ram.span) for span in dimms):
            found[ram.span] = "dimm"
        elif late:
            found[ram.span] = "hotplug"
    return found
