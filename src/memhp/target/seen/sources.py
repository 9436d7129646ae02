"""From facts of a real machine, captured or live, to a description that boots as it did."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from memhp.errors import BadInput
from memhp.facts import iomem
from memhp.facts.describe import MachineFacts, describe
from memhp.facts.dmesg import SratRange
from memhp.facts.observed import Facts
from memhp.facts.open_source import open_source
from memhp.linux.config import Config
from memhp.linux.init import IomemEntry, MachineSpec, Ram
from memhp.linux.lib.kstrtox import kstrtobool
from memhp.linux.mmzone import ZoneType
from memhp.linux.profiles import PROFILES, profile
from memhp.linux.release import parse_release, same_series
from memhp.scenario.boot import (
    CORES,
    check_read,
    core,
    mirrors,
    with_boot,
    with_build,
    with_cpu,
    with_cxl,
    with_usual_cma,
)
from memhp.scenario.choices import with_choices
from memhp.scenario.error_keys import machine_keys, source_key
from memhp.scenario.kernel import profile_of
from memhp.scenario.schema import MachineText
from memhp.spans import Span, SpanSet
from memhp.target.seen.boot_facts import (
    HOT,
    boot_zones,
    given_back,
    image_size,
    kernel_image,
    managed_at_boot,
    mirrored,
    moved_blocks,
    told_cma,
)
from memhp.target.seen.dax_facts import REGION
from memhp.target.seen.inferred import read_facts
from memhp.units import align_down, align_up, is_aligned, parse_size

_HOSTS_MEMORY = re.compile(r"virtio\d+|dax\d+\.\d+|Persistent Memory.*|Soft Reserved|CXL Window \d+")


TOLD = ("preset", "memory", "nodes", "reserved")
"""Keys of ``[machine]`` that say what a source of facts says."""
MAY_BE_TOLD = ("arch", "page_size")
"""Keys that say what some reports do not."""


def source_facts(text: MachineText, *, where: str = "scenario") -> Facts:
    """What ``machine.source`` shows of a machine. Raises :class:`BadInput` when it is missing or damaged."""
    assert text.source is not None
    _refuse(text, TOLD, where)
    with source_key(where):
        facts = read_facts(open_source(text.source, step=text.step), text)
    _refuse(text, [key for key in MAY_BE_TOLD if key not in facts.assumed], where)
    return facts


def _refuse(text: MachineText, keys: Iterable[str], where: str) -> None:
    for key in keys:
        if getattr(text, key) is not None:
            raise BadInput(
                f"{text.source} tells this already", where=f"{where}: machine.{key}", fix=f"leave out {key}, or source"
            )


def facts_spec(facts: Facts, text: MachineText, *, where: str = "machine") -> MachineSpec:
    """The machine that some facts show, with what the scenario says to be different or what facts leave open."""
    with source_key(where):
        machine = describe(facts, name=facts.source or "captured machine")
    with machine_keys(where):
        config = _config(machine, text, where)
    cma = told_cma(facts)
    if config.cma is None:
        config = with_usual_cma(config) if cma is None else replace(config, cma=cma.size)
    zones = boot_zones(machine, config)
    image, init = kernel_image(facts, config.page_size)
    spec = MachineSpec(
        name=_name(machine, config),
        config=config,
        ram=tuple(_ram(machine, config.page_size)),
        managed={} if config.mirrored_kernelcore else managed_at_boot(facts, machine, zones),
        given_back=given_back(facts, zones, config.page_size),
        init=init,
        untouched=tuple(moved_blocks(facts, machine, zones)),
        hotpluggable=tuple(each.span for each in _affinities(facts) if each.hotplug),
        mirrored=mirrored(facts),
        cma=() if cma is None else cma.places,
        iomem=tuple(_boot_iomem(facts, machine)),
        max_memory=None
        if text.max_memory is None
        else parse_size(text.max_memory, where=f"{where}: machine.max_memory"),
        nodes=machine.possible_nodes or machine.nodes,
        cpus=_cpus(facts),
        srat=_srat(facts) if text.proximity is None else tuple(text.proximity),
    )
    if image is not None:
        spec = replace(spec, image_start=image.start, image_size=image.size)
    elif size := image_size(facts):
        spec = replace(spec, image_size=size)
    with machine_keys(where):
        return spec.validate()


def _config(machine: MachineFacts, text: MachineText, where: str) -> Config:
    """Build and boot options of the observed kernel."""
    kernel = profile(text.profile) if text.profile else profile_of(_release(machine, where), where)
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
        movable_node=machine.movable_node,
        hypervisor=True if text.hypervisor is None else text.hypervisor,
        gbpages=True if machine.gbpages is None else machine.gbpages,
        zone_dma=ZoneType.DMA.title in machine.zone_names,
        zone_dma32=ZoneType.DMA32.title in machine.zone_names,
        zone_device=ZoneType.DEVICE.title in machine.zone_names,
    )
    observed: dict[str, Any] = {
        "memmap_on_memory": params.memmap_on_memory,
        "online_policy": params.online_policy,
        "auto_movable_ratio": params.auto_movable_ratio,
        "auto_movable_numa_aware": params.auto_movable_numa_aware,
        "memhp_default_state": machine.auto_online,
    }
    config = replace(config, **{name: value for name, value in observed.items() if value is not None})
    cores: dict[str, Any] = {
        name: core(machine.options[name], where=f"{name}=") for name in CORES if _amount(machine, name)
    }
    config = replace(config, **cores, mirrored_kernelcore=mirrors(CORES[0], machine.options.get(CORES[0])))
    if machine.pageblock_order is not None and machine.pageblock_order < config.pageblock_order:
        config = replace(config, page_block_max_order=machine.pageblock_order)
    if text.hypervisor is None and _on_bare_metal(machine, config):
        config = replace(config, hypervisor=False)
    config = config.port.told_config(config, machine.midrs, machine.cpu_features, machine.options.get("rodata"))
    config = replace(config, debug_pagealloc=_debug_pagealloc(machine))
    check_read(config, text)
    config = with_build(config, text.build, where)
    return with_cxl(with_boot(with_cpu(config, text.cpu), text.boot), text.cxl_windows, machine.cxl_windows, where)


def _release(machine: MachineFacts, where: str) -> str | None:
    """The kernel's release; None where a report does not tell it. Raises :class:`BadInput` for other machines."""
    if machine.release is None and not machine.assumed:
        fix = f"write one of {', '.join(PROFILES)}"
        raise BadInput("nothing tells the kernel's release", where=f"{where}: machine.profile", fix=fix)
    return machine.release


def _debug_pagealloc(machine: MachineFacts) -> bool:
    """Whether ``debug_pagealloc=`` is in effect: kernels that were not built for it pass over it.

    Large leaves of the direct map, which x86 counts in /proc/meminfo, tell that it is not.
    """
    return kstrtobool(machine.options.get("debug_pagealloc", "")) is True and not machine.large_leaves


def _amount(machine: MachineFacts, name: str) -> bool:
    """Whether an option of the command line names an amount."""
    return machine.options.get(name, "")[:1].isdigit()


def _on_bare_metal(machine: MachineFacts, config: Config) -> bool:
    """Whether memory blocks are larger than x86 has them under a hypervisor, where boot memory ends with one
    (``arch/x86/mm/init_64.c:probe_memory_block_size``).
    """
    end = max((each.span.end for each in machine.boot_memory), default=0)
    return machine.block_size > config.section_size and not is_aligned(end, machine.block_size)


def _name(machine: MachineFacts, config: Config) -> str:
    """The machine's name, with its kernel's release where the profile is that of another one."""
    own = parse_release(machine.release or "")
    same = own is not None and same_series(own, config.profile.name)
    return machine.name if same or machine.release is None else f"{machine.name} (Linux {machine.release})"


def _ram(machine: MachineFacts, page_size: int) -> Iterator[Ram]:
    """Boot RAM as memblock had it, in whole pages: what firmware kept for itself is in it, without a direct map."""
    visible = SpanSet(machine.memory_of("boot"))
    for nid, span in machine.boot_memory:
        start, end = align_up(span.start, page_size), align_down(span.end, page_size)
        if start < end:
            yield Ram(start, end - start, nid, nomap=not visible.covered(start, end))


def _cpus(facts: Facts) -> dict[int, tuple[int, ...]]:
    """The CPUs of each node that has some; nothing where the machine does not tell."""
    if facts.nodes is None:
        return {}
    lists = {node.nid: node.cpulist or () for node in facts.nodes.nodes}
    return {nid: lists.get(nid, ()) for nid in facts.nodes.states.get("has_cpu", ())}


def _srat(facts: Facts) -> tuple[int, ...] | None:
    """The proximity domains by node, where the kernel log has them."""
    ranges = sorted(_affinities(facts), key=lambda each: each.nid)
    return tuple(dict.fromkeys(each.pxm for each in ranges)) or None


def _affinities(facts: Facts) -> tuple[SratRange, ...]:
    return facts.boot_log.srat if facts.boot_log is not None else ()


def _boot_iomem(facts: Facts, machine: MachineFacts) -> Iterator[IomemEntry]:
    """The lines of ``/proc/iomem`` but for hot-plugged memory, and for what drivers of dax regions claim.

    A range that an add left behind when it failed has no memory blocks: nothing will add it, and it stays.
    """
    blocks = SpanSet(facts.memory.span(block) for block in facts.memory.blocks)
    hot = {span for span in machine.memory_of(*HOT) if blocks.covered(*span)}
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
