"""Memory of a device as frames of the machine: they come and go as the device's blocks do."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass

from memhp.hw.ledger import Violation
from memhp.hw.machine import Machine
from memhp.hw.memory import Owner, Use
from memhp.spans import Span

IDLE = frozenset({Use.DEVICE, Use.OFFLINE})
"""Uses of frames that a driver may ask to be unplugged: not taken into use, or kept from everybody by the driver."""


@dataclass(frozen=True)
class MachineBacking:
    """Frames of a machine, owned by a device of that name until the kernel takes them into use."""

    machine: Machine
    name: str

    def plug(self, span: Span) -> None:
        """Frames appear. Spans are bytes, made of whole pages."""
        self.machine.plug(self._frames(span), Owner(Use.DEVICE, self.name))

    def unplug(self, span: Span) -> None:
        """Frames disappear. If somebody uses one, the driver has broken the specification and a law is broken here."""
        frames = self._frames(span)
        for start, end, owner in self.machine.owners.runs(*frames):
            if owner.use not in IDLE:
                text = f"PFN {start:#x}-{end:#x} is taken back by {self.name}, but is {owner}"
                self.machine.violations.append(Violation("one-owner", text, "device"))
        self.machine.unplug(frames, "device")

    def access(self, name: str, *, changes: bool) -> None:
        """The machine's CPUs and the host come one after the other."""
        if changes:
            self.machine.atomic(name)
        else:
            self.machine.reads(name)

    def _frames(self, span: Span) -> Span:
        shift = self.machine.fmt.page_shift
        return Span(span.start >> shift, span.end >> shift)
