"""``struct acpi_device``: a device of firmware's namespace, and the devices of the kernel that stand for it.

include/acpi/acpi_bus.h. Those are memory blocks here, each by its id.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass, field

from memhp.linux.config import OnlineType
from memhp.spans import Span


@dataclass
class PhysicalNode:
    """``struct acpi_device_physical_node``: a memory block that belongs to the device."""

    node_id: int
    block_id: int
    put_online: bool = False
    """Whether an eject took it offline, and would put it online again if it came to nothing."""
    online_type: OnlineType = "offline"
    """How it would; no kernel keeps that, and leaves it to the block."""


@dataclass
class AcpiMemoryInfo:
    """``struct acpi_memory_info``: a range (bytes), and whether its memory is in."""

    span: Span
    enabled: bool = False


@dataclass
class AcpiMemoryDevice:
    """``struct acpi_memory_device``: what the driver knows of a device that it has taken over."""

    res_list: list[AcpiMemoryInfo]
    mgid: int | None = None
    """The memory group."""


@dataclass
class AcpiDevice:
    """A memory device (``PNP0C80``): its name, the ranges that its ``_CRS`` names (bytes), the node of its ``_PXM``."""

    name: str
    crs: tuple[Span, ...]
    nid: int = -1
    """-1 where firmware names none."""
    hotplug_enabled: bool = True
    """What ``/sys/firmware/acpi/hotplug/memory/enabled`` says: whether it may be ejected."""
    physical_node_list: list[PhysicalNode] = field(default_factory=list)
    """By node id."""
    driver_data: AcpiMemoryDevice | None = None
