"""What was done to a machine between two moments: which memory was added, removed, put online or offline."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from memhp.facts import iomem
from memhp.facts.iomem import Resource
from memhp.facts.memory_blocks import MemoryBlock
from memhp.facts.observed import Facts
from memhp.spans import Span

Kind = Literal["offline", "remove", "add", "online"]
ORDER: tuple[Kind, ...] = ("offline", "remove", "add", "online")
"""The order that these can have happened in, whatever the true one was."""


@dataclass(frozen=True)
class PlugChange:
    """One thing that happened to neighbouring memory blocks: bytes `start` and `size`.

    `driver` is the name of the resource that the memory is or was: ``System RAM``, ``System RAM (kmem)`` ...; `device`
    the resource around it, which the driver reserved (``virtio1``, ``dax0.0``), or "". `zone` is the zone that it went
    online in or offline from, None for one that spans several; `nid` its node.
    """

    kind: Kind
    start: int
    size: int
    driver: str
    device: str
    nid: int | None
    zone: str | None = None
    added_at: int | None = field(default=None, compare=False)
    """Of memory that came or went: where its resource begins, where the ``add_memory()`` that brought it began."""

    @property
    def span(self) -> Span:
        """The physical addresses."""
        return Span(self.start, self.start + self.size)

    @property
    def online_type(self) -> str:
        """What to write to ``state`` for memory to end in this zone: ``online_movable`` or ``online_kernel``."""
        return "online_movable" if self.zone == "Movable" else "online_kernel"


def changes(before: Facts, after: Facts) -> tuple[PlugChange, ...]:
    """What happened between two moments, neighbouring blocks together, in ORDER and then by address.

    A block that is online in another zone than before went offline and online again.
    """
    found = [change for kind in ORDER for change in _merged(_of_kind(kind, before, after))]
    return tuple(found)


def _of_kind(kind: Kind, before: Facts, after: Facts) -> Iterator[PlugChange]:
    past = kind in ("offline", "remove")
    now, then = (before, after) if past else (after, before)
    for block in now.memory.blocks:
        other = then.memory.by_index.get(block.index)
        if kind in ("remove", "add"):
            happened = other is None
        else:
            happened = block.state == "online" and (
                other is None or (other.state, other.zone) != ("online", block.zone)
            )
        if happened:
            yield _change(kind, now, block)


def _change(kind: Kind, facts: Facts, block: MemoryBlock) -> PlugChange:
    span = facts.memory.span(block)
    ram, parent = _resource(facts.iomem, span)
    return PlugChange(
        kind=kind,
        start=span.start,
        size=span.size,
        driver=ram.name if ram is not None else "",
        device=parent.name if parent is not None else "",
        nid=block.nodes[0] if block.nodes else None,
        zone=block.zone if kind in ("online", "offline") else None,
        added_at=ram.start if ram is not None and kind in ("add", "remove") else None,
    )


def _resource(
    resources: tuple[Resource, ...], span: Span, parent: Resource | None = None
) -> tuple[Resource | None, Resource | None]:
    """The first System RAM resource that meets a span, and the resource around it."""
    for resource in resources:
        if not resource.span.overlaps(span):
            continue
        if iomem.is_system_ram(resource):
            return resource, parent
        inside = _resource(resource.children, span, resource)
        if inside[0] is not None:
            return inside
    return None, None


def _merged(found: Iterator[PlugChange]) -> list[PlugChange]:
    """Neighbours that are alike in one change; what several ``add_memory()`` brought, as DIMMs are, stays apart."""
    out: list[PlugChange] = []
    for change in found:
        last = out[-1] if out else None
        if (
            last is not None
            and last.span.end == change.start
            and last.added_at == change.added_at
            and replace(last, start=0, size=0) == replace(change, start=0, size=0)
        ):
            out[-1] = replace(last, size=last.size + change.size)
        else:
            out.append(change)
    return out
