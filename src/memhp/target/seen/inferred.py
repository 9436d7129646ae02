"""A machine of which only a part was read: what a bug report leaves out is computed from what it has, and named.

RAM is taken from the best that tells of it: memblock's ranges of the kernel log, E820 with SRAT, System RAM of
``/proc/iomem``, whole memory blocks. A kernel is booted on it, and brought to the block states that were told; what
Linux would show of it then stands for the files that are missing (:attr:`memhp.facts.observed.Facts.assumed`).
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Collection, Iterator
from dataclasses import replace
from itertools import pairwise

from memhp.errors import BadInput, KernelError
from memhp.facts import iomem
from memhp.facts.boot_memory import memblock, system_ram
from memhp.facts.derive import derive
from memhp.facts.describe import architecture, ported
from memhp.facts.dmesg import Dmesg, NodeRange
from memhp.facts.iomem import Resource
from memhp.facts.memory_blocks import MemoryBlock, MemoryBlocks
from memhp.facts.nodes import Nodes
from memhp.facts.observed import IOMEM, ZONEINFO, Facts, link_nodes, observe
from memhp.facts.paging import usual_va_bits
from memhp.facts.source import SYS_MEMORY, SYS_NODE, Source
from memhp.facts.zoneinfo import ZoneInfo
from memhp.linux.arch.registry import Arch, port, ports
from memhp.linux.config import Config
from memhp.linux.init import MachineSpec, start_kernel
from memhp.scenario.boot_options import boot_options
from memhp.scenario.kernel import profile_of
from memhp.scenario.machine import machine_spec
from memhp.scenario.presets import USUAL_ARCH
from memhp.scenario.schema import MachineText, Memory
from memhp.spans import Span, SpanMap, SpanSet
from memhp.target.model.replay import replay
from memhp.target.model.session import Session
from memhp.target.seen.boot_facts import image_size, mirrored, told_cma
from memhp.units import KiB, align_down, align_up, parse_size

ARCH, PAGE_SIZE = "arch", "page_size"

AS_AT_BOOT = "as at boot"
"""What is assumed of a machine of which only a log tells: that nothing was plugged since."""


def read_facts(source: Source, text: MachineText | None = None, *, only: Collection[int] | None = None) -> Facts:
    """Everything that a source shows, and where it is a report the rest as it is computed: see :func:`complete`."""
    return complete(observe(source, only=only), text or MachineText())


def complete(facts: Facts, text: MachineText) -> Facts:
    """The same facts with what is missing among memory blocks, zones, resources and nodes, as far as a kernel on that
    memory would show it. `text` may say architecture, page size and profile, where nothing else does.

    Raises :class:`BadInput` for a machine whose memory nothing tells, and for states that no boot leads to.
    """
    log = facts.boot_log or Dmesg(())
    if facts.iomem and facts.zones and facts.memory.blocks:
        return replace(facts, nodes=_with_lists(facts.nodes, facts.zones, log))
    arch, page, guessed = _kind(facts, log, text)
    early = [block for block in facts.memory.blocks if block.state != "offline" and block.zone != "Movable"]
    ram = _ram(facts, log, arch, page, early)
    if not ram:
        raise BadInput("tells of no memory", where=facts.source, fix="add a kernel log from its first line, or lsmem")
    spec = _spec(facts, log, text, arch, page, ram)
    if not (log.early_node_ranges or facts.iomem) and (as_booted := _as_booted(spec, early)):
        spec = _spec(facts, log, text, arch, page, _ram(facts, log, arch, page, as_booted))
    resources, late = (facts.iomem, ()) if facts.iomem else _resources(facts, log, spec)
    try:
        model = _brought_to(spec, facts, resources)
    except KernelError as error:
        message = f"the state of its memory blocks cannot be reached: {error.reason}"
        raise BadInput(message, where=facts.source) from error
    missing = {
        IOMEM: not facts.iomem,
        ZONEINFO: not facts.zones,
        SYS_MEMORY: not facts.memory.blocks,
        SYS_NODE: facts.nodes is None,
        AS_AT_BOOT: not facts.memory.blocks and not facts.iomem,
    }
    found = replace(
        facts,
        arch=arch,
        iomem=resources,
        boot_memory=tuple(NodeRange(each.nid, each.span) for each in spec.ram),
        late=late,
        zones=facts.zones or tuple(_zones(facts, log, model, page)),
        memory=_blocks(facts.memory, model.memory),
        nodes=_with_lists(facts.nodes, facts.zones or model.zones, log) or model.nodes,
        log=facts.log if facts.iomem else None,
        assumed=frozenset({name for name, is_missing in missing.items() if is_missing} | guessed),
    )
    return found if any(block.nodes for block in found.memory.blocks) else replace(found, memory=link_nodes(found))


def _kind(facts: Facts, log: Dmesg, text: MachineText) -> tuple[Arch, int, set[str]]:
    """Architecture and bytes of a page, and which of them nothing told."""
    guessed = set()
    try:
        arch = ported(facts, architecture(facts)[0])
    except BadInput:
        if facts.release is not None and facts.boot_log is not None:
            raise
        guessed.add(ARCH)
        arch = text.arch or _arch_with_ram_at(min((facts.memory.span(b).start for b in facts.memory.blocks), default=0))
        arch = ported(facts, arch)
    told = facts.page_size or log.page_size
    sizes = sorted(port(arch).va_bits)
    if told in sizes:
        return arch, told, guessed
    words = [size for size in sizes if f"-{size // KiB}k" in (facts.release or "")]
    sizes = [size for size in sizes if _section_size(arch, size) == facts.memory.block_size] or sizes
    if not words and len(sizes) > 1:
        guessed.add(PAGE_SIZE)
    if text.page_size is not None and PAGE_SIZE in guessed:
        return arch, parse_size(text.page_size, where="machine.page_size"), guessed
    return arch, (words or sizes)[0], guessed


def _section_size(arch: Arch, page: int) -> int:
    """Bytes of a section, which is the smallest memory block, with pages of a size."""
    return Config(arch, profile_of(None, ""), page, usual_va_bits(arch, page)).section_size


def _arch_with_ram_at(start: int) -> Arch:
    """The architecture whose RAM usually starts there; the one with the most machines where none does."""
    found = [each.name for each in ports() if each.ram_start == start]
    return USUAL_ARCH if USUAL_ARCH in found or not found else found[0]


def _as_booted(spec: MachineSpec, early: list[MemoryBlock]) -> list[MemoryBlock]:
    """Of some blocks those below the first that is in another zone than boot would put it in: what is plugged lies
    above. None if all are as booted.
    """
    model = derive(start_kernel(spec)).memory.by_index
    odd = (each.index for each in early if each.zone and each.index in model and model[each.index].zone != each.zone)
    first = min(odd, default=None)
    return [] if first is None else [each for each in early if each.index < first]


def _ram(facts: Facts, log: Dmesg, arch: Arch, page: int, early: list[MemoryBlock]) -> tuple[NodeRange, ...]:
    """What memblock had, or what comes nearest to it: the blocks that seem to be from boot. One that spans zones where
    another node begins behind it has memory of both, to equal parts.
    """
    if told := memblock(log, page):
        return told
    nodes: SpanMap[int] = SpanMap()
    for block in facts.memory.blocks:
        nodes.set(*facts.memory.span(block), block.nodes[0] if block.nodes else 0)
    for block, following in pairwise(facts.memory.blocks):
        if block.valid_zones == ("none",) and len(block.nodes) == 1 and following.nodes != block.nodes:
            start, end = facts.memory.span(block)
            nodes.set((start + end) // 2, end, following.nodes[0] if following.nodes else 0)
    if facts.iomem:
        plain = [res.span for res in iomem.system_ram(facts.iomem) if not iomem.ram_driver(res)]
        spans = SpanSet(Span(align_up(span.start, page), align_down(span.end, page)) for span in plain)
    else:
        spans = SpanSet(facts.memory.span(block) for block in early or facts.memory.blocks)
        for kept in port(arch).bios_ranges:
            spans.remove(*kept)
    found: list[NodeRange] = []
    for span in spans:
        found += [NodeRange(nid, Span(start, end)) for start, end, nid in nodes.runs(*span)]
        found += [NodeRange(0, gap) for gap in nodes.gaps(*span)]
    return tuple(sorted(found, key=lambda each: each.span))


def _spec(
    facts: Facts, log: Dmesg, text: MachineText, arch: Arch, page: int, ram: tuple[NodeRange, ...]
) -> MachineSpec:
    """The machine as a scenario would describe it, with memory blocks of the size that was told: the kernel was under
    no hypervisor, or RAM ended within its last block, where those would be the only ways to it.
    """
    told = facts.memory.block_size or log.memory_block_size
    ends = (max(each.span.end for each in ram), max(each.span.end for each in ram) - page)
    for hypervisor in (True, False):
        for end in ends:
            spec = _described(facts, log, text, arch, page, [_cut(each, end) for each in ram], hypervisor)
            if told in (0, None, port(arch).memory_block_size_bytes(spec.config, end)):
                return spec
    return _described(facts, log, text, arch, page, list(ram), hypervisor=True)


def _cut(each: NodeRange, end: int) -> NodeRange:
    return NodeRange(each.nid, Span(each.span.start, min(each.span.end, end)))


def _described(
    facts: Facts, log: Dmesg, text: MachineText, arch: Arch, page: int, ram: list[NodeRange], hypervisor: bool
) -> MachineSpec:
    nids = {each.nid for each in ram} | {each.nid for each in log.srat}
    nids |= {nid for block in facts.memory.blocks for nid in block.nodes}
    nids |= {node.nid for node in facts.nodes.nodes} if facts.nodes is not None else set()
    domains = tuple(dict.fromkeys(each.pxm for each in sorted(log.srat, key=lambda each: each.nid)))
    told = MachineText(
        arch=arch,
        page_size=page,
        va_bits=text.va_bits,
        profile=text.profile or profile_of(facts.release, facts.source).name,
        memory=[Memory(size=each.span.size, start=each.span.start, node=each.nid) for each in ram],
        cpus=text.cpus or log.cpus,
        nodes=max(nids) + 1,
        hypervisor=hypervisor if "hypervisor" in port(arch).own_options else None,
        proximity=list(domains) or None,
        boot=boot_options(facts.cmdline).boot if facts.cmdline is not None else None,
    )
    spec = machine_spec(told, where=facts.source)
    size = image_size(facts) or spec.image_size
    spec = replace(spec, config=_with_zones(spec.config, facts, log), image_size=size, mirrored=mirrored(facts))
    cma = told_cma(facts)
    return spec if cma is None else replace(spec, cma=cma.places, config=replace(spec.config, cma=cma.size))


def _with_zones(config: Config, facts: Facts, log: Dmesg) -> Config:
    """The zones that the kernel was built with: as its log has them, or as the lowest memory block does."""
    names = {zone.name for zone in log.zone_ranges}
    if names:
        dma, dma32, device = (name in names for name in ("DMA", "DMA32", "Device"))
        return replace(config, zone_dma=dma, zone_dma32=dma32, zone_device=device)
    lowest = facts.memory.blocks[0].zone if facts.memory.blocks else None
    if lowest in ("DMA32", "Normal"):
        config = replace(config, zone_dma=False, zone_dma32=lowest == "DMA32")
    return config


def _resources(facts: Facts, log: Dmesg, spec: MachineSpec) -> tuple[tuple[Resource, ...], tuple[Span, ...]]:
    """System RAM: as the log tells of boot, or as the RAM lies; then blocks that came later, and virtio-mem devices.
    With the spans of what came later.
    """
    boot = system_ram(log, spec.config.page_size) or tuple(
        Resource(start, end - 1, "System RAM") for start, end in SpanSet(each.span for each in spec.ram)
    )
    size = facts.memory.block_size or 1
    ours = SpanSet(Span(align_down(res.start, size), align_up(res.end + 1, size)) for res in boot)
    came: SpanMap[tuple[int, ...]] = SpanMap()
    for block in facts.memory.blocks:
        if not ours.covered(*facts.memory.span(block)):
            came.set(*facts.memory.span(block), block.nodes)
    late = tuple(Span(start, end) for start, end, _ in came)
    devices = [each for each in log.virtio_mem if not came.covered(*each.span)]
    found = (
        *boot,
        *(Resource(start, end - 1, "System RAM") for start, end in late),
        *(Resource(each.span.start, each.span.end - 1, each.name) for each in devices),
    )
    return tuple(sorted(found, key=lambda res: res.start)), late


def _brought_to(spec: MachineSpec, facts: Facts, resources: tuple[Resource, ...]) -> Facts:
    """What Linux shows of the machine when its blocks are in the states that were told."""
    k = start_kernel(spec)
    before = derive(k)
    if not facts.memory.blocks:
        return before
    moved = tuple(_moved(facts.memory, before.memory))
    if moved:
        k = start_kernel(replace(spec, untouched=tuple(facts.memory.span(block) for block in moved)))
        before = derive(k)
    late = [block for block in facts.memory.blocks if block.index not in before.memory.by_index]
    after = before.memory.by_index | {block.index: block for block in (*moved, *late)}
    k.auto_online_blocks = "offline"
    memory = replace(
        before.memory, blocks=tuple(after[index] for index in sorted(after.keys() & facts.memory.by_index))
    )
    replay(Session(k), before, replace(before, memory=memory, iomem=resources if late else before.iomem))
    return derive(k)


def _moved(told: MemoryBlocks, model: MemoryBlocks) -> Iterator[MemoryBlock]:
    """The blocks of boot that are offline, or in ZONE_MOVABLE though boot would not have it so."""
    for block in model.blocks:
        now = told.by_index.get(block.index)
        if now is not None and (now.state == "offline" or (now.zone == "Movable" != block.zone)):
            yield replace(now, nodes=now.nodes or block.nodes)


def _blocks(told: MemoryBlocks, model: MemoryBlocks) -> MemoryBlocks:
    """The blocks as told, with what is not told of them as the model has it; all of the model's where none is.

    Older kernels show ``none`` of a block that has a hole: nothing tells where.
    """
    if not told.blocks:
        return model
    return replace(told, blocks=tuple(_filled(block, model.by_index.get(block.index)) for block in told.blocks))


def _filled(block: MemoryBlock, model: MemoryBlock | None) -> MemoryBlock:
    if model is None:
        return block
    untold = block.valid_zones is None or (block.state == "online" and block.zone is None)
    zones = model.valid_zones if untold else block.valid_zones
    return replace(block, valid_zones=zones, nodes=block.nodes or model.nodes)


def _zones(facts: Facts, log: Dmesg, model: Facts, page: int) -> Iterator[ZoneInfo]:
    """The zones of the model with as many managed pages together as were told, the highest zone having fewer first;
    all of them free, as nobody said what is in use.
    """
    total = facts.meminfo.get("MemTotal", 0) * KiB // page
    if not total and not facts.memory.blocks and log.available is not None:
        total = (log.available.present - log.available.parts.get("reserved", 0) + log.freed_later) // page
    surplus = sum(zone.managed for zone in model.zones) - total if total else 0
    found = []
    for zone in reversed(model.zones):
        managed = max(min(zone.managed - surplus, max(zone.managed, zone.present)), 0)
        surplus -= zone.managed - managed
        found.append(replace(zone, managed=managed, free=managed))
    return reversed(found)


def _with_lists(nodes: Nodes | None, zones: tuple[ZoneInfo, ...], log: Dmesg) -> Nodes | None:
    """The nodes with the lists of them, which a sosreport does not have."""
    if nodes is None or nodes.states:
        return nodes
    online = tuple(node.nid for node in nodes.nodes)
    states = {
        "possible": tuple(sorted({*online, *(each.nid for each in log.srat)})),
        "online": online,
        "has_memory": tuple(sorted({zone.node for zone in zones if zone.present})),
        "has_cpu": tuple(node.nid for node in nodes.nodes if node.cpulist),
    }
    return replace(nodes, states=states)
