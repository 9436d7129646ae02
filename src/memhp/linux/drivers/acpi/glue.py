"""Memory blocks bound to the device of firmware's namespace that they belong to: ``drivers/acpi/glue.c``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass, field
from errno import EINVAL, ENOMEM

from memhp.errors import KernelError
from memhp.linux.drivers.acpi.device import AcpiDevice, PhysicalNode
from memhp.linux.place import here
from memhp.linux.state import Kernel

KERNEL_FILE = "drivers/acpi/glue.c"


@dataclass
class Companions:
    """``ACPI_COMPANION()`` of memory blocks."""

    by_block: dict[int, AcpiDevice] = field(default_factory=dict)
    """Block id → the device of ACPI's namespace that it is bound to."""


def acpi_bind_one(k: Kernel, block_id: int, adev: AcpiDevice) -> None:
    """Make a device the companion of a memory block. Raises EINVAL for a block that has one, and ENOMEM."""
    companions = k.statics(Companions).by_block
    if block_id in companions:
        k.hw.log(f"memory memory{block_id}: ACPI companion already set", "warn")
        text = f"memory{block_id} belongs to {companions[block_id].name}"
        raise KernelError(EINVAL, text, place=here())
    if k.hw.may_fail(here()):
        raise KernelError(ENOMEM, "no memory to bind a memory block to its device", place=here())
    node_id = _free_node_id(adev)
    adev.physical_node_list.insert(node_id, PhysicalNode(node_id, block_id))
    companions[block_id] = adev


def _free_node_id(adev: AcpiDevice) -> int:
    """The lowest number that none of a device's nodes has: its place in the list, too."""
    nodes = adev.physical_node_list
    if not nodes or nodes[-1].node_id == len(nodes) - 1:
        return len(nodes)
    return next(i for i, node in enumerate(nodes) if node.node_id != i)


def acpi_unbind_one(k: Kernel, block_id: int) -> None:
    """Part a memory block from its companion, whichever device that is; nothing for a block without."""
    adev = k.statics(Companions).by_block.pop(block_id, None)
    if adev is not None:
        del adev.physical_node_list[
            next(i for i, node in enumerate(adev.physical_node_list) if node.block_id == block_id)
        ]
