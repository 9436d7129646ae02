"""A machine under rehearsal, and the sizes that steps name, as its pages allow."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable
from dataclasses import dataclass, field

from memhp.errors import BadInput
from memhp.linux.drivers.acpi.device import AcpiDevice
from memhp.linux.drivers.virtio.virtio_mem_state import VirtioMem
from memhp.linux.state import Kernel
from memhp.scenario import schema
from memhp.scenario.dax import Region
from memhp.scenario.usage import Placed
from memhp.spans import Span
from memhp.units import format_size, is_aligned, parse_size


@dataclass
class Session:
    """A machine under rehearsal and what the platform has plugged into it."""

    k: Kernel
    plugged: list[Span] = field(default_factory=list)
    """Ranges in bytes, in the order they were plugged."""
    groups: dict[int, int] = field(default_factory=dict)
    """Memory groups of kmem devices, which come and go whole, by the address they were plugged at."""
    dimms: list[AcpiDevice] = field(default_factory=list)
    """DIMMs with memory that is in, in the order they were plugged."""
    unit_groups: dict[int, int] = field(default_factory=dict)
    """Memory groups of virtio-mem devices, of which each node has one, by node."""
    regions: dict[str, Region] = field(default_factory=dict)
    """Regions of dax devices, by name."""
    devices: dict[str, VirtioMem] = field(default_factory=dict)
    """Virtio-mem devices with their drivers, by name."""
    seen: set[str] = field(default_factory=set)
    """Those of them that the machine was seen with."""
    placed: Placed | None = None
    """The memory in use that the machine was seen with; None for one that nobody saw."""
    notes: list[str] = field(default_factory=list)
    """Remarks on the step that runs now."""
    tried: Callable[[int], None] | None = None
    """Called with the size of each step that is tried on a copy of the machine, before it is."""

    def frames(self, span: Span) -> Span:
        """A range of bytes as PFNs."""
        return Span(span.start >> self.k.config.page_shift, span.end >> self.k.config.page_shift)


def size_of(session: Session, text: schema.Size, key: str) -> int:
    """Bytes of a size in a step, made of whole pages. Raises :class:`BadInput`."""
    size = bytes_of(text, key)
    page = session.k.config.page_size
    if not is_aligned(size, page):
        raise BadInput(f"{size:#x} is not a multiple of the page size", where=key, fix=f"pages are {format_size(page)}")
    return size


def bytes_of(text: schema.Size, key: str) -> int:
    """Bytes of a size or address in a step, whole pages or not. Raises :class:`BadInput`."""
    size = parse_size(text, where=key)
    if size >> 64:
        raise BadInput(f"{size:#x} does not fit into 64 bits", where=key, fix="write less")
    return size
