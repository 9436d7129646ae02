"""The virtio memory device: a region of memory that the driver plugs and unplugs block by block.

Virtio specification, section Memory Device: what the device must do is here, each sentence of it a test. However the
device is served, it takes requests and gives configuration space as bytes. Where the specification leaves a choice, it
does as QEMU's (``hw/virtio/virtio-mem.c``): the usable region reaches a fixed extent beyond the requested size, and
plugging more than requested is denied with NACK.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from memhp.errors import BadInput
from memhp.hw.devices.virtio_mem_rules import Rule
from memhp.hw.devices.virtio_mem_wire import BlockState, Config, Feature, Request, RequestType, Response, ResponseType
from memhp.hw.shared import marked
from memhp.spans import Span, SpanSet
from memhp.units import MiB, align_up, is_aligned

USABLE_EXTENT = 2 * 128 * MiB
"""How far QEMU lets the usable region reach beyond the requested size: ``VIRTIO_MEM_USABLE_EXTENT``, two of the largest
sections that Linux may have, which here are of 128 MiB."""


class Backing(Protocol):
    """Where the memory of the blocks comes from. Spans are bytes of guest physical address space."""

    def plug(self, span: Span) -> None:
        """Memory appears; its content is undefined."""

    def unplug(self, span: Span) -> None:
        """Memory disappears, whoever may still use it."""

    def access(self, name: str, *, changes: bool) -> None:
        """A CPU or the host has the device, which goes by `name`, to itself until something else is accessed."""


class NoBacking:
    """No memory behind the blocks: the device keeps its books only."""

    def plug(self, span: Span) -> None:
        """Nothing appears."""

    def unplug(self, span: Span) -> None:
        """Nothing disappears."""

    def access(self, name: str, *, changes: bool) -> None:
        """Nobody else is there."""


@dataclass(frozen=True)
class Geometry:
    """What never changes in the life of a device, in bytes. Raises :class:`BadInput` for what no device may be."""

    addr: int
    region_size: int
    block_size: int = 2 * MiB
    node_id: int = 0
    features: Feature = Feature.ACPI_PXM | Feature.UNPLUGGED_INACCESSIBLE
    usable_extent: int = USABLE_EXTENT

    def __post_init__(self) -> None:
        if self.block_size <= 0 or self.block_size & (self.block_size - 1):
            raise BadInput(f"{self.block_size:#x} is no power of two", where="block_size", fix='such as "2M"')
        for name, value in (("addr", self.addr), ("region_size", self.region_size)):
            if value < 0 or not is_aligned(value, self.block_size):
                fix = f"a multiple of block_size, {self.block_size:#x}"
                raise BadInput(f"{value:#x} is not made of device blocks", where=name, fix=fix)
        if self.addr + self.region_size > 1 << 64:
            raise BadInput(f"{self.region_size:#x} bytes from {self.addr:#x} on end beyond 2^64", where="addr")

    @property
    def region(self) -> Span:
        """The addresses that the device manages."""
        return Span(self.addr, self.addr + self.region_size)


class Exchange(NamedTuple):
    """One request as the device saw it, with its answer."""

    request: Request
    response: Response
    delay: int = 0
    """Nanoseconds that the answer took."""

    def __str__(self) -> str:
        return f"{self.request} {self.response.type.name} {self.response.state}"


STATE = marked(lambda device: device.name)
"""The device does one thing after the other, whoever asks for it."""


@dataclass
class VirtioMemDevice:
    """One device. Sizes and addresses are bytes of guest physical address space."""

    geometry: Geometry
    backing: Backing = field(default_factory=NoBacking)
    usable_region_size: int = field(default=0, metadata=STATE)
    requested_size: int = field(default=0, metadata=STATE)
    plugged: SpanSet = field(default_factory=SpanSet, metadata=STATE)
    """The plugged blocks: what stands for the bitmap."""
    negotiated: Feature = field(default=Feature.NONE, metadata=STATE)
    rules: list[Rule] = field(default_factory=list, metadata=STATE)
    log: list[Exchange] = field(default_factory=list, metadata=STATE)
    """Every request that was answered, in order, but for `unlogged` ones that were the same over and over."""
    unlogged: int = field(default=0, metadata=STATE)
    config_changed: list[Callable[[], None]] = field(default_factory=list, metadata=STATE)
    """Who is to be told of a configuration change: the driver's interrupt handler."""
    matched: dict[int, int] = field(default_factory=dict, metadata=STATE)
    """How many requests each rule, by its place, has matched."""

    @property
    def name(self) -> str:
        """What the device goes by where CPUs share it."""
        return f"virtio-mem device at {self.geometry.addr:#x}"

    @property
    def plugged_size(self) -> int:
        """Bytes that are plugged."""
        return self.plugged.size

    @property
    def config(self) -> Config:
        """The configuration as it stands."""
        self._access(changes=False)
        shape = self.geometry
        node_id = shape.node_id if Feature.ACPI_PXM in shape.features else 0
        return Config(
            shape.block_size,
            node_id,
            shape.addr,
            shape.region_size,
            self.usable_region_size,
            self.plugged_size,
            self.requested_size,
        )

    def read_config(self) -> bytes:
        """The configuration space."""
        return self.config.pack()

    # What the platform does ----------------------------------------------------------------------------------

    def check_size(self, requested_size: int) -> None:
        """Raise :class:`BadInput` for a size that the device cannot be asked to have."""
        shape = self.geometry
        if requested_size < 0 or not is_aligned(requested_size, shape.block_size):
            fix = f"a multiple of {shape.block_size:#x}"
            raise BadInput(f"{requested_size:#x} is not made of device blocks", where="requested_size", fix=fix)
        if requested_size > shape.region_size:
            fix = f"at most region_size, {shape.region_size:#x}"
            raise BadInput(f"{requested_size:#x} is more than the device has", where="requested_size", fix=fix)

    def resize(self, requested_size: int) -> None:
        """Ask the driver for another size. Raises :class:`BadInput` for one that the device cannot have.

        The usable region grows to hold it, and never shrinks; the driver is notified.
        """
        self.check_size(requested_size)
        self._access()
        usable = max(self.usable_region_size, self._usable_for(requested_size))
        changed = (usable, requested_size) != (self.usable_region_size, self.requested_size)
        self.usable_region_size, self.requested_size = usable, requested_size
        if changed:
            self._notify()

    def negotiate(self, supported: Feature) -> Feature:
        """The features that hold between device and driver: those that both have. The device insists on none."""
        self._access()
        self.negotiated = self.geometry.features & supported
        return self.negotiated

    def readable(self, span: Span) -> bool:
        """Whether the driver may read memory: what is plugged and, unless it agreed not to, the whole usable region."""
        self._access(changes=False)
        usable = Span(self.geometry.addr, self.geometry.addr + self.usable_region_size)
        agreed = Feature.UNPLUGGED_INACCESSIBLE in self.negotiated
        return self.plugged.covers(*span) or (not agreed and usable.covers(span))

    def system_reset(self, *, resume: bool = False) -> None:
        """The system starts anew: all blocks are unplugged, the usable region is as large as it needs to be.

        `resume` is waking up from suspend to RAM, which plugged memory outlives if the device says so.
        """
        if not (resume and Feature.PERSISTENT_SUSPEND in self.geometry.features):
            self._unplug_all()

    def driver_ok(self, tell: Callable[[], None]) -> None:
        """The driver is ready, and is told of configuration changes from now on."""
        self._access()
        self.config_changed.append(tell)

    def device_reset(self) -> None:
        """The driver resets the device: nothing changes for the blocks, nor for the memory in them."""
        self._access()
        self.config_changed.clear()
        self.negotiated = Feature.NONE

    def _access(self, *, changes: bool = True) -> None:
        self.backing.access(self.name, changes=changes)

    def _usable_for(self, requested_size: int) -> int:
        if not requested_size:
            return 0
        wanted = align_up(requested_size + self.geometry.usable_extent, self.geometry.block_size)
        return min(self.geometry.region_size, wanted)

    def _notify(self) -> None:
        for tell in list(self.config_changed):
            tell()

    # What the driver asks for --------------------------------------------------------------------------------

    def handle(self, data: bytes) -> tuple[bytes, int]:
        """Answer one request of the queue: the response, and how many nanoseconds it took.

        Raises struct.error for a buffer that is not as long as a request, which no transport passes on.
        """
        request = Request.unpack(data)
        self._access()
        rules = [rule for place, rule in enumerate(self.rules) if self._is_about(place, rule, request)]
        for rule in rules:
            if rule.requested_before is not None:
                self.resize(rule.requested_before)
        told = next((rule.answer for rule in rules if rule.answer is not None), None)
        response = self._answer(request) if told is None else Response(told)
        delay = sum(rule.delay for rule in rules)
        self._access()
        self.log.append(Exchange(request, response, delay))
        for rule in rules:
            if rule.requested_after is not None:
                self.resize(rule.requested_after)
            if rule.usable_after is not None:
                self._access()
                self.usable_region_size = rule.usable_after
                self._notify()
        return response.pack(), delay

    def _is_about(self, place: int, rule: Rule, request: Request) -> bool:
        if not rule.matches(request, self.geometry.block_size):
            return False
        self.matched[place] = self.matched.get(place, 0) + 1
        return rule.applies(self.matched[place])

    def _answer(self, request: Request) -> Response:
        if request.type == RequestType.UNPLUG_ALL:
            self._unplug_all()
            return Response(ResponseType.ACK)
        if request.type not in set(RequestType) or not self._valid(request):
            return Response(ResponseType.ERROR)
        span = request.span(self.geometry.block_size)
        if request.type == RequestType.STATE:
            return Response(ResponseType.ACK, self.state_of(span))
        if request.type == RequestType.PLUG:
            return Response(self._plug(span))
        return Response(self._unplug(span))

    def _valid(self, request: Request) -> bool:
        """Whether a request names whole blocks, at least one, all in the usable region."""
        usable = Span(self.geometry.addr, self.geometry.addr + self.usable_region_size)
        return (
            request.nb_blocks > 0
            and is_aligned(request.addr, self.geometry.block_size)
            and usable.covers(request.span(self.geometry.block_size))
        )

    def state_of(self, span: Span) -> BlockState:
        """Whether all blocks of a range are plugged, none, or some."""
        plugged = self.plugged.covered(*span)
        if plugged == span.size:
            return BlockState.PLUGGED
        return BlockState.MIXED if plugged else BlockState.UNPLUGGED

    def _plug(self, span: Span) -> ResponseType:
        if self.state_of(span) is not BlockState.UNPLUGGED:
            return ResponseType.ERROR
        if self.plugged_size + span.size > self.requested_size:
            return ResponseType.NACK
        self.plugged.add(*span)
        self.backing.plug(span)
        return ResponseType.ACK

    def _unplug(self, span: Span) -> ResponseType:
        if self.state_of(span) is not BlockState.PLUGGED:
            return ResponseType.ERROR
        self.plugged.remove(*span)
        self.backing.unplug(span)
        return ResponseType.ACK

    def _unplug_all(self) -> None:
        self._access()
        plugged = list(self.plugged)
        for span in plugged:
            self.plugged.remove(*span)
        for span in plugged:
            self.backing.unplug(span)
        self._access()
        self.usable_region_size = self._usable_for(self.requested_size)
