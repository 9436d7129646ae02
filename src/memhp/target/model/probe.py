"""The step `probe`: somebody tells the kernel of memory that no device announced."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.errors import BadInput
from memhp.hw.memory import Owner, Use
from memhp.linux.drivers.base.memory_probe import probe_store
from memhp.scenario import schema
from memhp.spans import Span
from memhp.target.model.session import Session, bytes_of
from memhp.units import is_aligned


def probe(session: Session, step: schema.Probe) -> None:
    """Write an address to the file; the memory behind it is there.

    Raises :class:`BadInput` where there is no such file, and what the kernel refuses with.
    """
    k = session.k
    if not k.port.has_memory_probe:
        raise BadInput(f"{k.config.arch} has no such file", where="do", fix="plug a DIMM instead")
    at = bytes_of(step.at, "at")
    span = Span(at, at + k.memory_block_size)
    new = is_aligned(at, k.memory_block_size) and not any(k.hw.memory.owners.runs(*session.frames(span)))
    if new:
        k.hw.plug(session.frames(span), Owner(Use.DEVICE, "probe"))
    probe_store(k, at)
    if new:
        session.plugged.append(span)
