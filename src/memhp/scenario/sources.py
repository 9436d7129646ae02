"""From facts of a real machine, captured or live, to a description that boots as it did."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from memhp.errors import BadInput
from memhp.facts import iomem
from memhp.facts.describe import MachineFacts, Origin, describe
from memhp.facts.observed import Facts, observe
from memhp.facts.source import open_source
from memhp.facts.virtio_mem import virtio_mem_devices
from memhp.linux.config import Config
from memhp.linux.init import IomemEntry, MachineSpec, Ram
from memhp.linux.mmzone import ZoneType
from memhp.linux.profiles import PROFILES, Profile, profile
from memhp.linux.release import LAST, Release, known_release, parse_release, series
from memhp.scenario.boot import with_boot
from memhp.scenario.choices import with_choices
from memhp.scenario.dax_facts import REGION
from memhp.scenario.keys import machine_keys, source_key
from memhp.scenario.schema import MachineText
from memhp.spans import Span, SpanSet
from memhp.units import MiB, align_down, align_up, parse_size

ZONE_OF = {kind.title: kind for kind in ZoneType}

HOT: tuple[Origin, ...] = ("dimm", "virtio_mem", "kmem", "hotplug")
"""How memory can have come after boot."""

_HOSTS_MEMORY = re.compile(r"virtio\d+|dax\d+\.\d+|Persistent Memory.*|Soft Reserved|CXL Window \d+")


TOLD = ("preset", "arch", "page_size", "memory", "nodes", "reserved")
"""Keys of ``[machine]`` that say what a source of facts says."""


def source_facts(text: MachineText, *, where: str = "scenario") -> Facts:
    """What ``machine.source`` shows of a machine. Raises :class:`BadInput` when it is missing or damaged."""
    assert text.source is not None
    for key in TOLD:
        if getattr(text, key) is not None:
            raise BadInput(
                f"{text.source} tells this already", where=f"{where}: machine.{key}", fix=f"leave out {key}, or source"
            )
    with source_key(where):
        return observe(open_source(text.source, step=text.step))


def facts_spec(facts: Facts, text: MachineText, *, where: str = "machine") -> MachineSpec:
    """The machine that some facts show, with what the scenario says to be different or what facts leave open."""
    with source_key(where):
        machine = describe(facts, name=facts.source or "captured machine")
    with machine_keys(where):
        config = _config(machine, text, where)
    image = _image(facts, config.page_size)
    spec = MachineSpec(
        name=_name(machine, config),
        config=config,
        ram=tuple(_ram(machine, config.page_size)),
        managed=_managed(facts, machine),
        cma=facts.boot_log.cma if facts.boot_log is not None else (),
        iomem=tuple(_boot_iomem(facts, machine)),
        max_memory=None
        if text.max_memory is None
        else parse_size(text.max_memory, where=f"{where}: machine.max_memory"),
        nodes=machine.possible_nodes or machine.nodes,
        srat=_srat(facts) if text.proximity is None else tuple(text.proximity),
    )
    if image is not None:
        spec = replace(spec, image_start=image.start, image_size=image.size)
    with machine_keys(where):
        return spec.validate()


def _config(machine: MachineFacts, text: MachineText, where: str) -> Config:
    """Build and boot options of the observed kernel."""
    kernel = profile(text.profile) if text.profile else profile_of(machine, where)
    va_bits = text.va_bits or machine.va_bits
    if va_bits is None:
        raise BadInput("nothing tells the width of addresses", where=f"{where}: machine.va_bits", fix="write va_bits")
    params = machine.params
    config = Config(
        arch=machine.arch,
        profile=with_choices(kernel, machine.arch, text.choices, where=f"{where}: machine.choices"),
        page_size=machine.page_size,
        va_bits=va_bits,
        lva=machine.va_bits_actual in {None, va_bits},
        nr_cpus=text.cpus or machine.cpus or 1,
        nr_nodes=len(machine.possible_nodes) or 1,
        movable_node=machine.movable_node,
        hypervisor=True if text.hypervisor is None else text.hypervisor,
        gbpages=True if machine.gbpages is None else machine.gbpages,
        zone_dma=ZoneType.DMA.title in machine.zone_names,
        zone_dma32=ZoneType.DMA32.title in machine.zone_names,
    )
    observed: dict[str, Any] = {
        "memmap_on_memory": params.memmap_on_memory,
        "online_policy": params.online_policy,
        "auto_movable_ratio": params.auto_movable_ratio,
        "auto_movable_numa_aware": params.auto_movable_numa_aware,
        "memhp_default_state": machine.auto_online,
    }
    config = replace(config, **{name: value for name, value in observed.items() if value is not None})
    if machine.pageblock_order is not None and machine.pageblock_order < config.pageblock_order:
        config = replace(config, page_block_max_order=machine.pageblock_order)
    return with_boot(config, text.boot)


def _name(machine: MachineFacts, config: Config) -> str:
    """The machine's name, with its kernel's release where the profile is that of another one."""
    same = config.profile.name.startswith(f"linux-{machine.series}")
    return machine.name if same else f"{machine.name} (Linux {machine.release})"


def profile_of(machine: MachineFacts, where: str) -> Profile:
    """The machine's own kernel, or the newest that is known if it is newer.

    Raises :class:`BadInput` for a kernel older than all of them, or one that does not tell its release.
    """
    release = parse_release(machine.release or "")
    if release is not None and release.series > series(LAST):
        release = Release(*series(LAST))
    if release is None or not known_release(release):
        raise BadInput(
            f"kernel {machine.release or 'of unknown release'} is older than any that is modelled",
            where=f"{where}: machine.profile",
            fix=f"write one of {', '.join(PROFILES)}",
        )
    return profile(str(release))


def _ram(machine: MachineFacts, page_size: int) -> Iterator[Ram]:
    """Boot RAM as memblock had it, in whole pages: what firmware kept for itself is in it, without a direct map."""
    visible = SpanSet(machine.memory_of("boot"))
    for nid, span in machine.boot_memory:
        start, end = align_up(span.start, page_size), align_down(span.end, page_size)
        if start < end:
            yield Ram(start, end - start, nid, nomap=not visible.covered(start, end))


def _srat(facts: Facts) -> tuple[int, ...] | None:
    """The proximity domains by node, where the kernel log has them."""
    ranges = facts.boot_log.srat if facts.boot_log is not None else ()
    return tuple(dict.fromkeys(each.pxm for each in sorted(ranges, key=lambda each: each.nid))) or None


def _image(facts: Facts, page_size: int) -> Span | None:
    """Where the kernel image lies: from the 2 MiB boundary that its code starts behind to the end of its data."""
    parts = [res.span for _, res in iomem.walk(facts.iomem) if res.name.startswith("Kernel ")]
    if not parts:
        return None
    start = min(part.start for part in parts)
    return Span(align_down(start, 2 * MiB), align_up(max(part.end for part in parts), page_size))


def _managed(facts: Facts, machine: MachineFacts) -> dict[tuple[int, ZoneType], int]:
    """Managed pages by zone, less the hot-plugged blocks that are online there: exact unless part of them is unused."""
    hot = SpanSet(machine.memory_of(*HOT))
    devices = virtio_mem_devices(facts)
    plugged: Counter[tuple[int, str]] = Counter()
    for block in facts.memory.blocks:
        span = facts.memory.span(block)
        if block.state == "online" and block.zone is not None and hot.covers(*span):
            online = span.size - sum(device.unplugged.covered(*span) for device in devices)
            plugged[block.nodes[0] if block.nodes else 0, block.zone] += online // machine.page_size
    left = {(zone.node, zone.name): zone.managed - plugged[zone.node, zone.name] for zone in machine.zones}
    return {(nid, ZONE_OF[name]): pages for (nid, name), pages in left.items() if pages > 0}


def _boot_iomem(facts: Facts, machine: MachineFacts) -> Iterator[IomemEntry]:
    """The lines of ``/proc/iomem`` but for hot-plugged memory, and for what drivers of dax regions claim."""
    hot = set(machine.memory_of(*HOT))
    skip: Span | None = None
    for depth, res in iomem.walk(facts.iomem):
        if skip is not None and skip.covers(res.span):
            continue
        skip = None
        if iomem.is_system_ram(res) and res.span in hot:
            skip = res.span
            continue
        if REGION.fullmatch(res.name):
            continue
        yield IomemEntry(res.span.start, res.span.end, res.name, depth, busy=not hosts_memory(res.name))


def hosts_memory(name: str) -> bool:
    """Whether a driver may add memory inside the resource of that name, which is not IORESOURCE_BUSY for that.

    Virtio-mem devices (``virtio_mem_create_resource()``), dax devices under kmem (``dev_dax_kmem_probe()``), and what
    firmware sets aside for drivers (``arch/x86/kernel/e820.c:do_mark_busy``, ``drivers/cxl/acpi.c``).
    """
    return _HOSTS_MEMORY.fullmatch(name) is not None
