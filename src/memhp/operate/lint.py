"""What is wrong with how a machine is set up for hotplug: settings that fight, have no effect, or strand memory."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple

import msgspec

from memhp.facts import devices, iomem
from memhp.facts.hidden_addresses import hides_addresses
from memhp.facts.memory_blocks import ONLINE_TYPES
from memhp.facts.params import DIRECTORY as PARAMETERS
from memhp.facts.source import ACPI_DEVICES, ACPI_MEMORY, Source
from memhp.operate.blocks import BlocksDocument, read_blocks
from memhp.operate.settings import AUTO_ONLINE, Setting, settings
from memhp.units import align_down, align_up, exact_size, format_count

Severity = Literal["error", "warning", "note"]
UNPLUG_ONLINE = "/sys/module/virtio_mem/parameters/unplug_online"
VFIO_LIMIT = "/sys/module/vfio_iommu_type1/parameters/dma_entry_limit"
IOMEM = "/proc/iomem"
ACPI_EJECT = "/sys/firmware/acpi/hotplug/memory/enabled"
ACPI_STA_WORKING = 0b1011
"""Present, enabled, functioning: bits of ``_STA`` (ACPI 6.5, 6.3.7)."""
AGENTS = {
    "qemu-ga": "the QEMU guest agent: guest-set-memory-blocks, when the host asks",
    "kata-agent": "the agent of Kata Containers: onlines what the sandbox was given, with the pods",
    "drmgr": "powerpc-utils: dynamic LPAR, when the HMC or rtas_errd asks",
}
"""Programs that act on memory blocks when they are told to, and who tells them."""
DEFAULT_RATIO = 301
"""``auto_movable_ratio`` unless it is set."""


class Rule(NamedTuple):
    """What is looked for, in a sentence, and how bad it is."""

    severity: Severity
    sentence: str


RULES: dict[str, Rule] = {
    "nobody-onlines": Rule(
        "warning", "Nobody brings added memory online: it stays offline until somebody does by hand."
    ),
    "kernel-first": Rule(
        "warning", "The kernel brings memory online before user space can, in another way than it asks."
    ),
    "rules-differ": Rule("warning", "Two rules bring memory online in different ways: the first of them wins."),
    "wrong-file": Rule("error", "An online type goes to a file that takes 0 and 1 only, or no such value."),
    "boot-overridden": Rule("note", "What the command line asks for was changed since boot."),
    "policy-unused": Rule("warning", "auto-movable decides only where blocks are brought online without a zone."),
    "ratio-unused": Rule("note", "auto_movable_ratio has no effect without online_policy=auto-movable."),
    "memmap-refused": Rule("warning", "memmap_on_memory was asked for, and the kernel did not take it."),
    "memmap-unused": Rule("note", "memmap_on_memory has no effect for the drivers that added memory here."),
    "built-in": Rule("error", "memory_hotplug is built into the kernel: options of modprobe.d never reach it."),
    "unaligned": Rule("warning", "A range for hotplug is not made of whole memory blocks: its ends are lost."),
    "cannot-shrink": Rule("warning", "Memory of a virtio-mem device lies in kernel zones: it may not come back."),
    "unplug-online-off": Rule(
        "warning", "virtio_mem may not take blocks offline itself: only blocks that are offline shrink."
    ),
    "device-pinned": Rule("warning", "Memory of a device lies in kernel zones: the device may not be removable."),
    "too-movable": Rule("warning", "There is more ZONE_MOVABLE than kernel memory can serve."),
    "dimm-idle": Rule("warning", "A DIMM is plugged and works, and no memory block is of it: nothing uses it."),
    "eject-off": Rule("warning", "The kernel will not let go of DIMMs: requests to eject one are refused."),
    "agent": Rule("note", "A program is installed that brings memory online, or takes it offline, when it is told to."),
    "vfio-limit": Rule("warning", "There are more memory blocks than a VFIO container may map ranges."),
}
"""Every finding's id."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something found: where, what, and what to do about it."""

    id: str
    severity: Severity
    file: str
    line: int
    text: str
    remedy: str


class Winner(msgspec.Struct, frozen=True, kw_only=True):
    """Who brings added memory online here, and how; `by` is ``nobody`` where nobody does."""

    by: str
    how: str
    file: str
    line: int


class LintDocument(msgspec.Struct, frozen=True, kw_only=True):
    """``memhp lint --json``; `verdict` is ``found`` if anything worse than a note was."""

    schema: Literal[1] = 1
    verdict: Literal["clean", "found"]
    source: str
    winner: Winner
    findings: list[Finding]


class Seen(NamedTuple):
    """What the rules look at."""

    source: Source
    blocks: BlocksDocument
    settings: list[Setting]

    def of(self, what: str, *actors: str) -> list[Setting]:
        """The settings of one thing, by these actors or all."""
        return [each for each in self.settings if each.what == what and (not actors or each.actor in actors)]

    @property
    def auto_online(self) -> Setting | None:
        """What ``auto_online_blocks`` says now."""
        return next(iter(self.of("online", "kernel")), None)


def lint(source: Source) -> LintDocument:
    """Look at everything. Raises :class:`~memhp.errors.BadInput` for a machine without memory blocks."""
    seen = Seen(source, read_blocks(source), settings(source))
    findings = [finding for check in CHECKS for finding in check(seen)]
    order = ("error", "warning", "note")
    findings.sort(key=lambda each: (order.index(each.severity), list(RULES).index(each.id), each.file, each.line))
    found = any(each.severity != "note" for each in findings)
    return LintDocument(
        verdict="found" if found else "clean", source=source.name, winner=winner(seen), findings=findings
    )


def winner(seen: Seen) -> Winner:
    """Who is first: the kernel, as it adds the block; else the first rule of udev, as it hears of the block."""
    auto = seen.auto_online
    if auto is not None and auto.value != "offline":
        return Winner(by="kernel", how=auto.value, file=auto.file, line=auto.line)
    first = next(iter([*seen.of("online", "udev"), *seen.of("online", "daxctl", "systemd")]), None)
    if first is None:
        return Winner(by="nobody", how="offline", file=AUTO_ONLINE, line=1)
    return Winner(by=first.actor, how=first.value, file=first.file, line=first.line)


def _finding(id: str, file: str, line: int, text: str, remedy: str) -> Finding:
    return Finding(id=id, severity=RULES[id].severity, file=file, line=line, text=text, remedy=remedy)


def _online(seen: Seen) -> Iterator[Finding]:
    first = winner(seen)
    if first.by == "nobody":
        yield _finding(
            "nobody-onlines", AUTO_ONLINE, 1, "auto_online_blocks is offline and no rule of udev brings blocks online",
            "write online_movable to it, or boot with memhp_default_state=online_movable",
        )  # fmt: skip
    rules = seen.of("online", "udev", "daxctl", "systemd")
    for rule in rules:
        if first.by == "kernel" and rule.value not in (first.how, "?"):
            yield _finding(
                "kernel-first", rule.file, rule.line,
                f"asks for {rule.value}, but auto_online_blocks is {first.how}, and the kernel comes first",
                f"write offline to {AUTO_ONLINE} (memhp_default_state=offline), or let both say {rule.value}",
            )  # fmt: skip
    udev = [rule for rule in rules if rule.actor == "udev"]
    for rule in udev[1:]:
        if first.by != "kernel" and rule.value != udev[0].value:
            yield _finding(
                "rules-differ", rule.file, rule.line,
                f"asks for {rule.value}; {udev[0].file}:{udev[0].line} asked for {udev[0].value} before",
                "keep one of the two: a file of the same name in /etc/udev/rules.d masks the other",
            )  # fmt: skip


def _auto_online(seen: Seen) -> Iterator[Finding]:
    writers = seen.of("auto_online_blocks")
    for each in writers[1:]:
        if each.value != writers[0].value:
            yield _finding(
                "rules-differ", each.file, each.line,
                f"writes {each.value} to auto_online_blocks; {writers[0].file}:{writers[0].line} writes "
                f"{writers[0].value}: whoever comes last is right", "keep one of the two",
            )  # fmt: skip


def _wrong(seen: Seen) -> Iterator[Finding]:
    for each in seen.of("online-file"):
        if each.value not in ("0", "1"):
            yield _finding(
                "wrong-file", each.file, each.line,
                f"writes {each.value!r} to a block's `online`, which ignores the zone",
                "write it to the block's `state`",
            )  # fmt: skip
    for each in [*seen.of("online", "udev"), *seen.of("auto_online_blocks"), *seen.of("memhp_default_state")]:
        if each.value not in (*ONLINE_TYPES, "?"):
            yield _finding(
                "wrong-file",
                each.file,
                each.line,
                f"{each.value!r} is no online type",
                f"one of {', '.join(ONLINE_TYPES)}",
            )


def _boot(seen: Seen) -> Iterator[Finding]:
    auto = seen.auto_online
    for asked in seen.of("memhp_default_state", "cmdline"):
        if auto is not None and asked.value != auto.value:
            yield _finding(
                "boot-overridden", AUTO_ONLINE, 1, f"is {auto.value}, the command line asked for {asked.value}",
                "find who wrote to it since boot, or change the command line",
            )  # fmt: skip


def _policy(seen: Seen) -> Iterator[Finding]:
    policy, first = seen.blocks.policy, winner(seen)
    if policy.online_policy == "auto-movable" and first.how in ("online_kernel", "online_movable"):
        yield _finding(
            "policy-unused", first.file, first.line, f"{first.by} brings blocks online as {first.how}, so that "
            "online_policy=auto-movable decides nothing", "bring them online as plain online",
        )  # fmt: skip
    ratio = policy.auto_movable_ratio
    if policy.online_policy == "contig-zones" and ratio not in (None, DEFAULT_RATIO):
        yield _finding(
            "ratio-unused", f"{PARAMETERS}/auto_movable_ratio", 1, f"is {ratio}, but online_policy is contig-zones",
            f"write auto-movable to {PARAMETERS}/online_policy",
        )  # fmt: skip


def _memmap(seen: Seen) -> Iterator[Finding]:
    value = seen.blocks.policy.memmap_on_memory
    for asked in seen.of("memory_hotplug.memmap_on_memory", "cmdline"):
        if value == "N" and asked.value.lower() in ("1", "y", "yes", "on", "true", "force"):
            yield _finding(
                "memmap-refused", asked.file, asked.line, f"asks for {asked.value}, and the parameter is N",
                "the struct pages of a block must fill whole pageblocks: try =force, or see memhp geometry "
                "--memmap-on-memory",
            )  # fmt: skip
    drivers = {each.driver for each in seen.blocks.ranges} - {"", "boot"}
    if value in ("Y", "force") and drivers == {"virtio_mem"}:
        yield _finding(
            "memmap-unused", f"{PARAMETERS}/memmap_on_memory", 1, "is on, and virtio_mem, which added memory here, "
            "never asks for it", "leave it off, or plug DIMMs or kmem devices",
        )  # fmt: skip


def _built_in(seen: Seen) -> Iterator[Finding]:
    for each in seen.settings:
        if each.actor == "modprobe" and each.what.startswith("memory_hotplug."):
            yield _finding(
                "built-in", each.file, each.line, f"{each.what}={each.value} is never read",
                f"put {each.what}={each.value} on the kernel's command line",
            )  # fmt: skip


HOTPLUGGED = ("CXL Window", "virtio", "dax")


def _alignment(seen: Seen) -> Iterator[Finding]:
    block, spans = seen.blocks.block_size, dict[str, tuple[int, int, str]]()
    for dax in devices.read_dax(seen.source):
        if dax.span is not None:
            spans[dax.name] = (dax.span.start, dax.span.end, f"{devices.DAX_DEVICES}/{dax.name}/resource")
    text = seen.source.get(IOMEM)
    if text and not hides_addresses(text):
        for _, res in iomem.walk(iomem.parse(text, where=seen.source.where(IOMEM))):
            device = res.name.startswith(HOTPLUGGED) and "-" not in res.name
            if device and res.size >= block and res.name not in spans:
                spans[res.name] = (res.start, res.end + 1, IOMEM)
    for name, (start, end, file) in spans.items():
        lost = (align_up(start, block) - start) + (end - align_down(end, block))
        if lost:
            yield _finding(
                "unaligned", file, 1, f"{name} at {start:#x}–{end - 1:#x}: {exact_size(min(lost, end - start))} of "
                f"{exact_size(end - start)} lie outside whole memory blocks of {exact_size(block)}",
                "align the device to memory blocks where it is made (namespace, region, guest's memory map)",
            )  # fmt: skip


def _shrink(seen: Seen) -> Iterator[Finding]:
    kernel: dict[str, int] = {}
    for each in seen.blocks.ranges:
        if each.state == "online" and each.driver in ("virtio_mem", "kmem") and each.zones != ["Movable"]:
            kernel[each.added_by or ""] = kernel.get(each.added_by or "", 0) + each.size
    for owner, size in kernel.items():
        driver, _, device = owner.partition(" ")
        rule = "cannot-shrink" if driver == "virtio_mem" else "device-pinned"
        yield _finding(
            rule, AUTO_ONLINE, 1, f"{exact_size(size)} of {device or driver} are online in a kernel zone",
            "bring memory online as online_movable, or as online with online_policy=auto-movable",
        )  # fmt: skip
    if (seen.source.get(UNPLUG_ONLINE) or "").strip() == "N":
        yield _finding(
            "unplug-online-off", UNPLUG_ONLINE, 1, "is N", f"write Y to {UNPLUG_ONLINE}, or take blocks offline first"
        )


def _ratio(seen: Seen) -> Iterator[Finding]:
    ratio, most = seen.blocks.movable_ratio, seen.blocks.policy.auto_movable_ratio or DEFAULT_RATIO
    if ratio is not None and ratio > most:
        yield _finding(
            "too-movable", "/proc/zoneinfo", 1,
            f"ZONE_MOVABLE is {ratio} % of kernel memory, {most} % is what the kernel would allow itself",
            "bring the next blocks online as online_kernel, or use online_policy=auto-movable",
        )  # fmt: skip


def _vfio(seen: Seen) -> Iterator[Finding]:
    limit = seen.source.number(VFIO_LIMIT)
    blocks = sum(each.count for each in seen.blocks.ranges)
    if limit is not None and blocks > limit:
        yield _finding(
            "vfio-limit", VFIO_LIMIT, 1, f"{format_count(blocks, 'memory block')}, {format_count(limit, 'range')}",
            "raise dma_entry_limit, or use larger blocks",
        )  # fmt: skip


def _dimms(seen: Seen) -> Iterator[Finding]:
    for name in sorted(each for each in seen.source.entries(ACPI_DEVICES) if each.startswith(ACPI_MEMORY)):
        folder = f"{ACPI_DEVICES}/{name}"
        there = (seen.source.number(f"{folder}/status") or 0) & ACPI_STA_WORKING == ACPI_STA_WORKING
        if there and not any(each.startswith("physical_node") for each in seen.source.entries(folder)):
            yield _finding(
                "dimm-idle", f"{folder}/status", 1, f"{name} works, and its memory was not added",
                "see the kernel's log of its plugging: no memory for struct pages, a range that is not made of memory "
                "blocks, or beyond what the kernel can map (memhp geometry)",
            )  # fmt: skip
    if seen.source.number(ACPI_EJECT) == 0:
        yield _finding("eject-off", ACPI_EJECT, 1, "is 0", f"write 1 to {ACPI_EJECT}")


def _agents(seen: Seen) -> Iterator[Finding]:
    for folder in ("/usr/sbin", "/usr/bin", "/usr/local/bin"):
        for name in sorted(AGENTS.keys() & set(seen.source.entries(folder))):
            yield _finding(
                "agent", f"{folder}/{name}", 1, AGENTS[name],
                "mind that it may act beside udev's rules and the kernel's policy; remove it where nothing needs it",
            )  # fmt: skip


CHECKS: tuple[Callable[[Seen], Iterable[Finding]], ...] = (
    _online, _auto_online, _wrong, _boot, _policy, _memmap, _built_in, _alignment, _shrink, _ratio, _vfio,
    _dimms, _agents,
)  # fmt: skip
"""Every check."""
