"""What a rehearsal rests on: facts that were told, those that were computed, and what is assumed as nobody said.

Each assumption names what would settle it. A step whose outcome could be another one if an assumption is wrong names
that assumption: :func:`rests_on`.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator

from memhp.facts.kpageflags import KPAGEFLAGS
from memhp.facts.observed import IOMEM, ZONEINFO, Facts
from memhp.facts.source import SYS_NODE
from memhp.facts.usage import LRU
from memhp.linux.choice import Choices, hints, history
from memhp.linux.choices import Profile
from memhp.linux.config import Config
from memhp.linux.init import MachineSpec
from memhp.linux.profiles import profile, unsettled
from memhp.linux.release import FIRST, LAST, Release, known_release, parse_release, same_series
from memhp.scenario import schema
from memhp.scenario.machine_text import MachineText
from memhp.scenario.result import Assumption
from memhp.target.seen.boot_facts import told_cma
from memhp.target.seen.inferred import ARCH, AS_AT_BOOT, PAGE_SIZE
from memhp.target.seen.usage import Placed
from memhp.units import format_size

IN_USE = "memory in use"
PLACES = "places of memory in use"
KINDS = "kinds of memory in use"
CACHE = "page cache"
NODES = "nodes"
PARAMETERS = "parameters"
COMMAND_LINE = "command line"
BOOT = "boot memory"
MIRRORED = "mirrored memory"
CMA = "contiguous memory"
DOMAINS = "proximity domains"
KERNEL = "kernel"
CHOICES = "choices of the kernel"
ADDRESSES = "addresses"
BLOCKS = "memory blocks"
MACHINE = "architecture and page size"
HARDWARE = "machine"

TAKES_AWAY = (schema.Offline, schema.Unplug, schema.Remove, schema.Eject, schema.Resize)
ADDS = (schema.Plug, schema.Resize, schema.Online, schema.Dax)
PUTS_ONLINE = (schema.Plug, schema.Online, schema.Resize)

DEPENDS: tuple[tuple[str, tuple[type, ...]], ...] = (
    (IN_USE, (*TAKES_AWAY, *ADDS)),
    (PLACES, TAKES_AWAY),
    (KINDS, TAKES_AWAY),
    (CACHE, ADDS),
    (NODES, PUTS_ONLINE),
    (PARAMETERS, ADDS),
    (COMMAND_LINE, ADDS),
    (DOMAINS, ADDS),
    (BLOCKS, (*TAKES_AWAY, *ADDS)),
    (BOOT, TAKES_AWAY),
    (MIRRORED, (*TAKES_AWAY, *ADDS)),
    (CMA, TAKES_AWAY),
    (MACHINE, (*TAKES_AWAY, *ADDS)),
)
"""The steps that could end otherwise were an assumption wrong; those not here change addresses and costs only."""


def rests_on(step: schema.StepKind, assumptions: list[Assumption], placed: Placed | None = None) -> list[str]:
    """The assumptions that the outcome of a step depends on, by their names; where memory in use lies is none of them
    for memory blocks whose pages were looked at.
    """
    assumed = {each.what for each in assumptions if each.basis == "assumed"}
    if placed is not None and isinstance(step, schema.Offline) and step.blocks and placed.seen.issuperset(step.blocks):
        assumed.discard(PLACES)
    return [what for what, steps in DEPENDS if what in assumed and isinstance(step, steps)]


def of_description(machine: MachineText | None, spec: MachineSpec) -> list[Assumption]:
    """What the rehearsal of a described machine rests on besides its description."""
    in_use = Assumption(
        what=IN_USE,
        basis="assumed",
        text="none but what boot keeps",
        settle="write what is in use as `allocate` steps, or take a captured machine",
    )
    return [in_use] if machine is None or machine.qemu is None else [*_of_command_line(machine, spec), in_use]


def _of_command_line(machine: MachineText, spec: MachineSpec) -> Iterator[Assumption]:
    """What QEMU's command line tells of its guest, and what it says nothing of."""
    yield Assumption(what=HARDWARE, basis="told", text="RAM, nodes, slots and devices", by="the command line of QEMU")
    if machine.profile is None:
        text, settle = f"{spec.config.profile.name}, as Debian builds it", "give --profile, or machine.profile"
        yield Assumption(what=KERNEL, basis="assumed", text=text, settle=settle)
    if machine.reserved is None:
        yield Assumption(
            what=BOOT,
            basis="assumed",
            text=f"the kernel keeps {format_size(spec.reserved)} of it besides its image and struct pages",
            settle="write machine.reserved, or take a captured machine",
        )


def of_machine(facts: Facts, config: Config, placed: Placed) -> list[Assumption]:
    """What the rehearsal of a machine that was read rests on."""
    return [
        *(_no_use(facts) if ZONEINFO in facts.assumed else _use(facts, placed)),
        *_kernel(facts, config),
        *_left_out(facts, config),
        *_memory(facts),
        *_mirrored(facts, config),
        *_cma(facts, config),
        *_settings(facts),
        Assumption(
            what=ADDRESSES,
            basis="foretold",
            text="virtual addresses are those of a kernel without KASLR; sizes of tables do not depend on them",
        ),
    ]


def _use(facts: Facts, placed: Placed) -> Iterator[Assumption]:
    page = facts.page_size or 4096
    used = [
        f"{format_size(use.used * page)} in {use.zone}" + (f" of node {use.node}" if use.node else "")
        for use in placed.zones
        if use.used
    ]
    yield Assumption(
        what=IN_USE,
        basis="told",
        text=", ".join(used) or "none",
        by="/proc/zoneinfo: managed less free pages and per-CPU lists",
    )
    if placed.unmatched:
        yield Assumption(
            what=IN_USE,
            basis="foretold",
            text=f"{format_size(placed.unmatched * page)} more than that: boot of the model keeps more",
        )
    kinds = {
        "movable": sum(use.movable for use in placed.zones),
        "huge pages": sum(use.hugetlb + use.hugetlb_free for use in placed.zones),
        "the kernel's": sum(use.kernel + use.reclaimable for use in placed.zones),
    }
    text = ", ".join(f"{format_size(pages * page)} {name}" for name, pages in kinds.items() if pages)
    if any(name in zone.stats for zone in facts.zones for name in LRU):
        by = "counters of zones and nodes; what is left is the kernel's"
        yield Assumption(what=KINDS, basis="told", text=text or "none", by=by)
    else:
        settle = f"give {ZONEINFO} with the counters of zones, such as {LRU[0]}"
        yield Assumption(what=KINDS, basis="assumed", text=text or "none", settle=settle)
    if placed.seen >= placed.online:
        yield Assumption(what=PLACES, basis="told", text="where each kind lies in its block", by=KPAGEFLAGS)
    elif placed.seen:
        yield Assumption(
            what=PLACES,
            basis="assumed",
            text=f"the lowest pages of each zone, outside the {len(placed.seen & placed.online)} of "
            f"{len(placed.online)} memory blocks whose pages were looked at",
            settle=f"take a capture: memhp capture --pages reads all of {KPAGEFLAGS}",
        )
    else:
        yield Assumption(
            what=PLACES,
            basis="assumed",
            text="the lowest pages of each zone, and what the kernel uses cannot move",
            settle=f"run as root, or give {KPAGEFLAGS} (memhp capture keeps a summary)",
        )
    cache = sum(use.cache for use in placed.zones)
    if cache:
        yield Assumption(
            what=CACHE,
            basis="assumed",
            text=f"{format_size(cache * page)} of files stay: nothing is reclaimed",
            settle="drop caches, then read the machine again",
        )


def _no_use(facts: Facts) -> Iterator[Assumption]:
    """What a report without /proc/zoneinfo says: which memory blocks there are, if that; of memory in use nothing."""
    if facts.memory.blocks and AS_AT_BOOT not in facts.assumed:
        offline = sum(block.state == "offline" for block in facts.memory.blocks)
        text = f"{len(facts.memory.blocks)} of {format_size(facts.memory.block_size)}, {offline or 'none'} offline"
        yield Assumption(what=BLOCKS, basis="told", text=text, by=facts.source)
    yield Assumption(
        what=IN_USE,
        basis="assumed",
        text="none but what boot keeps" + (", as much as the kernel log says" if facts.boot_log is not None else ""),
        settle=f"give {ZONEINFO}, or a sosreport",
    )


def _left_out(facts: Facts, config: Config) -> Iterator[Assumption]:
    """What a report left out, and what stands for it."""
    guessed = {ARCH: config.arch, PAGE_SIZE: f"pages of {format_size(config.page_size)}"}
    if named := [text for key, text in guessed.items() if key in facts.assumed]:
        keys = " and ".join(f"machine.{key}" for key in guessed if key in facts.assumed)
        yield Assumption(
            what=MACHINE, basis="assumed", text=", ".join(named), settle=f"write {keys}, or give the kernel log"
        )
    if AS_AT_BOOT in facts.assumed:
        yield Assumption(
            what=BLOCKS,
            basis="assumed",
            text="those of boot, all online: what was plugged or taken offline since is not seen",
            settle="give what lsmem --all --output-all prints, or a sosreport",
        )
    if facts.late:
        yield Assumption(
            what=BLOCKS,
            basis="assumed",
            text="those that are offline, Movable or in no zone of boot were plugged later, neighbours together",
            settle=f"give {IOMEM}, and the kernel log from its first line",
        )


def _kernel(facts: Facts, config: Config) -> Iterator[Assumption]:
    release = facts.release
    if release is None:
        yield Assumption(
            what=KERNEL,
            basis="assumed",
            text=config.profile.name,
            settle="give /proc/sys/kernel/osrelease or the kernel log, or write machine.profile",
        )
    elif (own := parse_release(release)) is None or not same_series(own, config.profile.name):
        yield Assumption(
            what=KERNEL,
            basis="assumed",
            text=f"Linux {release} does what {config.profile.name} does; {_known_to_differ(own, config)}",
            settle="write machine.profile, or single choices",
        )
    else:
        yield Assumption(what=KERNEL, basis="told", text=f"Linux {release}", by="the kernel's release")
        if names := dict.fromkeys(
            each.choice for each in unsettled(own) if each.record in (Profile, type(config.choices))
        ):
            yield Assumption(
                what=CHOICES,
                basis="assumed",
                text=f"{', '.join(names)} as when it came out: what its stable series took was not read",
                settle="see memhp choices NAME, and write machine.choices where you know",
            )


def _known_to_differ(own: Release | None, config: Config) -> str:
    """In which choices a kernel is known not to be what stands in for it."""
    if own is None or not known_release(own):
        return f"in what else they differ is not known, for tables go from {FIRST} to {LAST}"
    told = profile(str(own))
    pairs: list[tuple[Choices, Choices]] = [(told, config.profile)]
    if any(type(record) is type(config.choices) for record in told.records):
        pairs.append((told.arch(config.arch), config.choices))
    names = [
        name
        for mine, other in pairs
        for name in hints(type(mine))
        if history(type(mine), name) and getattr(mine, name) != getattr(other, name)
    ]
    return f"known to differ: {', '.join(names) or 'nothing'}"


def _memory(facts: Facts) -> Iterator[Assumption]:
    log = facts.boot_log
    if facts.hidden:
        yield Assumption(
            what=BOOT,
            basis="assumed",
            text="what zones and memory blocks have, all of it there at boot; no device is in the way",
            settle="read /proc/iomem as root",
        )
    elif log is not None and log.early_node_ranges:
        yield Assumption(what=BOOT, basis="told", text="as memblock had it", by="the kernel log")
    elif IOMEM in facts.assumed:
        yield Assumption(
            what=BOOT,
            basis="assumed",
            text="all of each memory block: what firmware keeps of it is not seen; no device is in the way",
            settle=f"give {IOMEM}, or the kernel log from its first line",
        )
    else:
        yield Assumption(
            what=BOOT,
            basis="assumed",
            text="System RAM of /proc/iomem that no device brought was there at boot",
            settle="give the kernel log from its first line",
        )
    zones_tell = facts.nodes is None and any(zone.node for zone in facts.zones)
    several = zones_tell or (facts.nodes is not None and len(facts.nodes.states.get("possible", (0,))) > 1)
    if several and not (log is not None and log.srat):
        yield Assumption(
            what=DOMAINS,
            basis="assumed",
            text="each proximity domain is the node of its number",
            settle="give the kernel log with its SRAT lines",
        )
    if facts.nodes is None or SYS_NODE in facts.assumed:
        text = "all CPUs are on node 0" if several else "all memory and CPUs are on node 0"
        if zones_tell:
            text = f"all CPUs and what is plugged next are on node 0; zones are where {ZONEINFO} has them"
        yield Assumption(
            what=NODES,
            basis="assumed",
            text=text,
            settle="give /sys/devices/system/node" + ("" if zones_tell else ", unless the kernel has no NUMA"),
        )


def _mirrored(facts: Facts, config: Config) -> Iterator[Assumption]:
    """What firmware mirrors, where the kernel's memory is to be no other."""
    log = facts.boot_log
    if not config.mirrored_kernelcore:
        return
    if log is not None and (log.mirrored or (log.early_node_ranges and not log.some_mirrored)):
        text = "as firmware lists it" if log.mirrored else "none"
        yield Assumption(what=MIRRORED, basis="told", text=text, by="the kernel log")
        return
    text = "none" if log is None or not log.some_mirrored else "all of each node below its ZONE_MOVABLE"
    settle = "give the kernel log from its first line, of a boot with efi=debug"
    yield Assumption(what=MIRRORED, basis="assumed", text=text, settle=settle)


def _cma(facts: Facts, config: Config) -> Iterator[Assumption]:
    """How much memory the contiguous memory allocator has, and where, if the kernel log does not tell."""
    if config.cma is None or not config.cma.size:
        return
    told = told_cma(facts)
    by = "as Debian builds such kernels" if told is None else "as was told"
    yield Assumption(
        what=CMA,
        basis="assumed",
        text=f"{format_size(config.cma.size)}, {by}; where it lies is where boot of the model puts it",
        settle="give the kernel log from its first line",
    )


def _settings(facts: Facts) -> Iterator[Assumption]:
    if not facts.params.files():
        yield Assumption(
            what=PARAMETERS,
            basis="assumed",
            text="memory_hotplug has its defaults: no memmap_on_memory, contig-zones",
            settle="give /sys/module/memory_hotplug/parameters",
        )
    if facts.cmdline is None:
        yield Assumption(
            what=COMMAND_LINE,
            basis="assumed",
            text="no option of the command line matters",
            settle="give /proc/cmdline",
        )
