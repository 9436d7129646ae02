"""What a served device tells of itself: its configuration, its faults, and the requests that it answered."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Literal

import msgspec

from memhp.hw.devices.virtio_mem import Exchange, VirtioMemDevice
from memhp.hw.devices.virtio_mem_wire import RequestType
from memhp.scenario.schema import Fault

MOST_KEPT = 1 << 16
"""Requests that are remembered; older ones are forgotten, though numbered."""
MOST_TOLD = 1 << 10
"""Requests that one answer tells."""
SECOND = 1_000_000_000
"""Nanoseconds."""


class RequestRow(msgspec.Struct, frozen=True, kw_only=True, rename={"delay": "delay_seconds"}):
    """One request with its answer. `state` means something where a STATE request was acknowledged."""

    number: int
    """Counted from 0 since the device is served."""
    request: str
    addr: int
    nb_blocks: int
    answer: str
    state: int
    delay: float
    """Seconds that the answer was held back."""

    def __str__(self) -> str:
        named = self.request if self.request == "UNPLUG_ALL" else f"{self.request} {self.addr:#x} {self.nb_blocks}"
        return f"{named} {self.answer} {self.state}"


class FaultRow(msgspec.Struct, frozen=True, kw_only=True):
    """A fault that is in force, and how many requests it was about so far, whether or not it did anything to them."""

    fault: Fault
    matched: int


class DeviceDocument(msgspec.Struct, frozen=True, kw_only=True):
    """``memhp device … --json``: a served virtio-mem device. Sizes and addresses are bytes."""

    schema: Literal[1] = 1
    verdict: Literal["connected", "waiting"]
    """Whether a front end is there."""
    addr: int
    region_size: int
    block_size: int
    node: int
    usable_region_size: int
    plugged_size: int
    requested_size: int
    faults: list[FaultRow]
    answered: int
    """Requests answered since the device is served."""
    requests: list[RequestRow]
    """Some of them: see ``since``."""


class Journal:
    """The last requests that a device answered; `heard` is called for each."""

    def __init__(self, heard: Callable[[RequestRow], None] | None = None) -> None:
        self.count = 0
        self._rows: deque[RequestRow] = deque(maxlen=MOST_KEPT)
        self._heard = heard

    def take(self, exchanges: list[Exchange]) -> None:
        """Take requests over from the device's own log, which would grow for ever."""
        for exchange in exchanges:
            row = row_of(self.count, exchange)
            self.count += 1
            self._rows.append(row)
            if self._heard is not None:
                self._heard(row)
        exchanges.clear()

    def since(self, number: int) -> list[RequestRow]:
        """The requests from that number on that are remembered, so many as one answer holds."""
        first = max(0, number - (self.count - len(self._rows)))
        return list(islice(self._rows, first, first + MOST_TOLD))


def row_of(number: int, exchange: Exchange) -> RequestRow:
    """A request as the device saw it, for people and programs."""
    kind, addr, nb_blocks = exchange.request
    name = RequestType(kind).name if kind in set(RequestType) else str(kind)
    return RequestRow(
        number=number,
        request=name,
        addr=addr,
        nb_blocks=nb_blocks,
        answer=exchange.response.type.name,
        state=exchange.response.state,
        delay=exchange.delay / SECOND,
    )


def document(
    device: VirtioMemDevice, faults: list[Fault], requests: list[RequestRow], *, answered: int, connected: bool
) -> DeviceDocument:
    """The device as it stands."""
    config = device.config
    return DeviceDocument(
        verdict="connected" if connected else "waiting",
        addr=config.addr,
        region_size=config.region_size,
        block_size=config.block_size,
        node=config.node_id,
        usable_region_size=config.usable_region_size,
        plugged_size=config.plugged_size,
        requested_size=config.requested_size,
        faults=[FaultRow(fault=fault, matched=device.matched.get(place, 0)) for place, fault in enumerate(faults)],
        answered=answered,
        requests=requests,
    )
