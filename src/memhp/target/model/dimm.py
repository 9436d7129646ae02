"""DIMMs in scenarios: what the platform makes known to the kernel of a slot, and asks of it."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter
from errno import EINVAL
from heapq import heappop, heappush

from memhp.errors import BadInput, KernelBug, KernelError
from memhp.facts.source import ACPI_MEMORY
from memhp.linux.drivers.acpi.acpi_memhotplug import acpi_memory_device_free
from memhp.linux.drivers.acpi.device import AcpiDevice
from memhp.linux.drivers.acpi.numa.srat import pxm_to_node
from memhp.linux.drivers.acpi.scan import acpi_device_hotplug
from memhp.linux.mmzone import ZoneType
from memhp.linux.state import Kernel
from memhp.scenario import schema
from memhp.spans import Span
from memhp.target.model.session import Session, size_of
from memhp.units import format_count


def add(session: Session, step: schema.Plug, span: Span) -> None:
    """A DIMM (bytes) has been put into the next free slot, and its driver adds it.

    One that the kernel refuses keeps slot and address. Raises what refused the driver: firmware hears of no errno, and
    the driver's own, EINVAL, would say nothing.
    """
    k = session.k
    slot = heappop(session.freed_slots) if session.freed_slots else len(session.dimms)
    adev = AcpiDevice(f"{ACPI_MEMORY}:{slot:02x}", (span,), pxm_to_node(k, step.node))
    others = [*session.refused]
    session.dimms.append(adev)
    try:
        acpi_device_hotplug(k, adev, "ACPI_NOTIFY_DEVICE_CHECK", memmap_on_memory=step.memmap_on_memory, bus=others)
    except KernelError as error:
        session.notes.append("the DIMM keeps slot and address until it is ejected: the next one comes behind it")
        if error.errno == EINVAL and isinstance(error.__cause__, KernelError):
            raise error.__cause__ from None
        raise
    finally:
        session.refused = [each for each in (*others, adev) if each.driver_data is None]
        for each in others:
            if each.driver_data is not None:
                session.plugged.extend(each.crs)
                session.notes.append(f"the DIMM at {each.crs[0].start:#x} was tried again: {_came(k, each)}")
    if not _blocks_of(k, adev):
        session.notes.append(_came(k, adev))


def _gone(session: Session, adev: AcpiDevice) -> None:
    """A DIMM has left its slot, which the next one may have."""
    session.dimms.remove(adev)
    session.refused = [each for each in session.refused if each is not adev]
    heappush(session.freed_slots, int(adev.name.rpartition(":")[2], 16))


def _came(k: Kernel, adev: AcpiDevice) -> str:
    """What came of a DIMM whose driver says that it is configured."""
    if _blocks_of(k, adev):
        return "it is in"
    return (
        "nothing was added, as add_memory() answers EEXIST where an add that failed left something behind, "
        "and the driver takes that for well; eject the DIMM"
    )


def eject(session: Session, step: schema.Eject) -> list[Span]:
    """Have a DIMM's driver give it up: the memory (bytes) that the platform may take now.

    Raises :class:`BadInput` where no DIMM begins, or is in no more as a whole; and what the kernel refuses with.
    """
    adev = _dimm(session, step)
    missing = next((gap for span in adev.crs for gap in session.k.hw.memory.owners.gaps(*session.frames(span))), None)
    if missing is not None:
        at = missing.start << session.k.config.page_shift
        raise BadInput(f"{at:#x} of the DIMM is gone already", where="at", fix="take the rest away as that was")
    if adev.driver_data is None and _blocks_of(session.k, adev):
        text = "the memory is unplugged though the kernel goes on using it: no driver has the DIMM"
        raise KernelBug(text, place="drivers/acpi/scan.c:acpi_scan_hot_remove")
    before = _zones(session.k, adev)
    adev.hotplug_enabled = step.enabled
    try:
        acpi_device_hotplug(session.k, adev, "ACPI_NOTIFY_EJECT_REQUEST")
    except KernelError:
        session.notes.extend(_moved(before, _zones(session.k, adev)))
        raise
    _gone(session, adev)
    return list(adev.crs)


def _blocks_of(k: Kernel, adev: AcpiDevice) -> bool:
    """Whether any memory block lies in a DIMM."""
    size = k.memory_block_size
    return any(k.memory_blocks.covered(span.start // size, -(-span.end // size)) for span in adev.crs)


def _dimm(session: Session, step: schema.Eject) -> AcpiDevice:
    if not session.dimms:
        raise BadInput("there is no DIMM", where="do", fix='plug one with driver = "dimm"')
    if step.at is None:
        return session.dimms[-1]
    at = size_of(session, step.at, "at")
    found = [adev for adev in session.dimms if adev.crs[0].start == at]
    if not found:
        have = ", ".join(f"{adev.crs[0].start:#x}" for adev in session.dimms)
        raise BadInput(f"no DIMM begins at {at:#x}", where="at", fix=f"they begin at {have}")
    return found[0]


def _zones(k: Kernel, adev: AcpiDevice) -> dict[int, ZoneType | None]:
    """The zones of a DIMM's blocks that are online."""
    blocks = {node.block_id: k.memory_blocks.get(node.block_id) for node in adev.physical_node_list}
    return {block_id: block.zone for block_id, block in blocks.items() if block is not None and block.state == "online"}


def _moved(before: dict[int, ZoneType | None], after: dict[int, ZoneType | None]) -> list[str]:
    """What an eject that came to nothing changed all the same."""
    stay = [block for block in before if block in after]
    kinds = Counter((_name(before[block]), _name(after[block])) for block in stay if before[block] != after[block])
    notes = [
        f"{format_count(count, 'block')} came back online in {new}, and {'was' if count == 1 else 'were'} "
        f"in {old} before"
        for (old, new), count in kinds.items()
    ]
    lost = len(before.keys() - after.keys())
    return [*notes, f"{format_count(lost, 'block')} did not come back online"] if lost else notes


def _name(zone: ZoneType | None) -> str:
    return "several zones" if zone is None else zone.title


def forget(session: Session) -> None:
    """Let the driver's record of DIMMs go whose memory has all been taken away otherwise."""
    owners = session.k.hw.memory.owners
    for adev in list(session.dimms):
        if not any(owners.covered(*session.frames(span)) for span in adev.crs):
            acpi_memory_device_free(session.k, adev)
            _gone(session, adev)
