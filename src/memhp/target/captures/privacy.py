"""What a capture leaves out of a real machine's files, since it may be private and no reader of captures needs it.

Of the command line, options that do not matter for hotplug stay out; of the kernel log, all lines but those that tell
of memory, so that no host name, network or hardware address, serial number or user's path is kept; of ``Linux
version``, who built it and where.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re

from memhp.facts.cmdline import parse

LEFT_OUT = ("command line options without meaning for hotplug", "lines of the kernel log that do not tell of memory")

_STAMP = r"(?:<\d+>)?(?:\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? ?)?"
_COMMAND_LINE = re.compile(rf"({_STAMP}(?:Kernel command line|Command line): ).*")
_VERSION = re.compile(rf"({_STAMP}Linux version \S+).*")
_MEMORY = re.compile(
    rf"{_STAMP}(?:"
    r"BIOS-e820:|user:|modified:|e820:|efi: mem|NUMA:|ACPI: SRAT:|SRAT:|"
    r"Zone ranges:|Movable zone start|Early memory node ranges|Initmem setup|On node |Built \d+ zonelists|"
    r"Fallback order|Policy zone|Demotion targets|Memory:|cma: |Hypervisor detected:|CPU features: detected:|"
    r"Virtual kernel memory layout:|mem auto-init|Offlined Pages|memory offlining|altmap_alloc_block_buf|"
    r"virtio_mem |kmem |acpi PNP0C80|memory memory\d+:|removing memory fails|page:|page dumped because|"
    r"HugeTLB:|\S+: Memory block size|"
    r" +(?:DMA|DMA32|Normal|Movable|Device) +(?:\[mem|empty)| +node +\d+: \[mem| +Node \d+: 0x"
    r").*"
)


def public_command_line(text: str) -> str:
    """The options that matter for hotplug, in their order, as one line."""
    words = [name if not value else f"{name}={value}" for name, value in parse(text).hotplug().items()]
    return " ".join(words) + "\n"


def public_log(text: str) -> str:
    """The lines of a kernel log that tell of memory."""
    kept = []
    for line in text.splitlines():
        if match := _VERSION.fullmatch(line):
            kept.append(f"{match[1]} ")
        elif match := _COMMAND_LINE.fullmatch(line):
            kept.append(match[1] + public_command_line(line[match.end(1) :]).rstrip("\n"))
        elif _MEMORY.fullmatch(line):
            kept.append(line)
    return "".join(f"{line}\n" for line in kept)


def public(files: dict[str, str]) -> dict[str, str]:
    """A step's files without what may be private."""
    found = dict(files)
    if "proc_cmdline" in found:
        found["proc_cmdline"] = public_command_line(found["proc_cmdline"])
    if "dmesg" in found:
        found["dmesg"] = public_log(found["dmesg"])
    return found
