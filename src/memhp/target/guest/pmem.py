"""Regions that firmware keeps from a guest's kernel: RAM of the machine that is called persistent.

On x86 ``memmap=SIZE!ADDRESS`` makes such a region (``arch/x86/kernel/e820.c:parse_memmap_one``), for which
``drivers/nvdimm/e820.c`` makes a namespace without labels. The RAM of the guest's own ends where QEMU's hole begins, so
that the regions lie behind the hole; what lies there between them is reserved.

Elsewhere a node of the device tree, ``pmem-region``, is taken by ``drivers/nvdimm/of_pmem.c``; that the regions and all
above the guest's own RAM are no RAM is told by ``mem=``.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from memhp.errors import BadInput
from memhp.linux.arch.registry import port
from memhp.scenario import schema
from memhp.spans import Span
from memhp.target.guest.fdt import with_node
from memhp.target.guest.machines import MACHINES
from memhp.target.guest.qemu import GuestSpec
from memhp.units import GiB, MiB, is_aligned, parse_size

HOLE_END = 4 * GiB
"""Where RAM goes on behind the hole of QEMU's q35."""
TREE = 128 * MiB
"""RAM above the regions, where QEMU keeps the device tree."""


def regions(steps: Sequence[schema.StepKind]) -> dict[str, Span]:
    """The regions (bytes) of dax devices that steps let appear, by name. Raises :class:`BadInput`."""
    found: dict[str, Span] = {}
    for step in steps:
        if isinstance(step, schema.Dax) and step.at is not None and step.size is not None:
            start = parse_size(step.at, where="at")
            found[step.device] = Span(start, start + parse_size(step.size, where="size"))
    return found


def with_regions(spec: GuestSpec, found: dict[str, Span]) -> GuestSpec:
    """A guest that has these regions from the start. Raises :class:`BadInput` for places that they cannot have."""
    if not found:
        return spec
    machine = MACHINES[spec.kernel.arch]
    if len(spec.nodes) != 1:
        raise BadInput("regions of dax devices want one node of RAM", where="memory")
    (own,) = spec.nodes
    spans = tuple(sorted(found.values()))
    if [found[f"dax{number}.0"] for number in range(len(found)) if f"dax{number}.0" in found] != list(spans):
        raise BadInput("devices are numbered by their place", where="device", fix="dax0.0 is the lowest, then dax1.0")
    if any(after.start < before.end for before, after in pairwise(spans)):
        raise BadInput("two regions overlap", where="at")
    low = HOLE_END if machine.pmem == "memmap" else port(spec.kernel.arch).ram_start + own
    if spans[0].start < low or not all(is_aligned(at, MiB) for span in spans for at in span):
        raise BadInput("a guest has no such region there", where="at", fix=f"whole MiB from {low:#x} on")
    if machine.pmem == "memmap":
        return replace(
            spec,
            nodes=(own + spans[-1].end - HOLE_END,),
            append=f"{spec.append} {' '.join(_memmap(spans))}".strip(),
            extra=(*spec.extra, "-machine", f"max-ram-below-4g={own >> 20}M"),
        )
    if spec.dimms and machine.dimm_needs_firmware:
        raise BadInput("DIMMs want ACPI, such regions a device tree", where="steps", fix="leave one of them out")
    return replace(
        spec,
        nodes=(spans[-1].end + TREE - port(spec.kernel.arch).ram_start,),
        append=f"{spec.append} mem={own >> 20}M".strip(),
        regions=spans,
    )


def _memmap(spans: Sequence[Span]) -> Iterator[str]:
    at = HOLE_END
    for span in spans:
        if span.start > at:
            yield f"memmap={(span.start - at) >> 20}M${at >> 20}M"
        yield f"memmap={span.size >> 20}M!{span.start >> 20}M"
        at = span.end


def device_tree(blob: bytes, spans: Sequence[Span]) -> bytes:
    """The machine's device tree with a node for each region."""
    for span in spans:
        properties = {
            "compatible": b"pmem-region\0",
            "reg": struct.pack(">2Q", span.start, span.size),
            "numa-node-id": bytes(4),
        }
        blob = with_node(blob, f"pmem@{span.start:x}", properties)
    return blob
