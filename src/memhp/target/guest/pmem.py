"""Regions that firmware keeps from a guest's kernel: RAM of the machine that the command line calls persistent.

On x86 ``memmap=SIZE!ADDRESS`` makes such a region (``arch/x86/kernel/e820.c:parse_memmap_one``), for which
``drivers/nvdimm/e820.c`` makes a namespace without labels. The RAM of the guest's own ends where QEMU's hole begins, so
that the regions lie behind the hole; what lies there between them is reserved.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator, Sequence
from dataclasses import replace

from memhp.errors import BadInput
from memhp.scenario import schema
from memhp.spans import Span
from memhp.target.guest.qemu import GuestSpec
from memhp.units import GiB, MiB, is_aligned, parse_size

HOLE_END = 4 * GiB
"""Where RAM goes on behind the hole of QEMU's q35."""


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
    if len(spec.nodes) != 1:
        raise BadInput("regions of dax devices want one node of RAM", where="memory")
    (own,) = spec.nodes
    spans = sorted(found.values())
    if [found[f"dax{number}.0"] for number in range(len(found)) if f"dax{number}.0" in found] != spans:
        raise BadInput("devices are numbered by their place", where="device", fix="dax0.0 is the lowest, then dax1.0")
    if spans[0].start < HOLE_END or not all(is_aligned(at, MiB) for span in spans for at in span):
        raise BadInput("a guest has such regions behind its hole", where="at", fix=f"whole MiB from {HOLE_END:#x} on")
    options = " ".join(_options(spans))
    machine = ("-machine", f"max-ram-below-4g={own >> 20}M")
    return replace(
        spec,
        nodes=(own + spans[-1].end - HOLE_END,),
        append=f"{spec.append} {options}".strip(),
        extra=(*spec.extra, *machine),
    )


def _options(spans: Sequence[Span]) -> Iterator[str]:
    at = HOLE_END
    for span in spans:
        if span.start < at:
            raise BadInput("two regions overlap", where="at")
        if span.start > at:
            yield f"memmap={(span.start - at) >> 20}M${at >> 20}M"
        yield f"memmap={span.size >> 20}M!{span.start >> 20}M"
        at = span.end
