"""What may happen next in a random life of a machine: a smaller life is drawn from fewer, smaller numbers.

Kinds of steps are in a fixed order and targets are numbers, taken modulo what the machine has: a life keeps its meaning
when a shrinker leaves out a step before. What the machine has is asked of the model, which has seen the same life.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Sequence
from typing import Literal, Protocol, TypeVar

import msgspec

from memhp.facts.memory_blocks import ONLINE_TYPES
from memhp.hw.memory import Use
from memhp.scenario import schema
from memhp.spans import Span
from memhp.target.model.target import ModelTarget
from memhp.units import GiB, MiB

T = TypeVar("T")

MOST_DIMMS = 6
DIMM_BLOCKS = (1, 2, 3, 4, 8)
"""Sizes of DIMMs, memory blocks."""
ZONES: tuple[schema.Zone, ...] = ("auto", "kernel", "movable")
DEVICE = "vm0"
DEVICE_SIZE = 2048 * MiB
DEVICE_UNIT = 2 * MiB
"""The virtio-mem device that lives have where the platform has such devices."""
ANSWERS: tuple[Literal["BUSY", "NACK", "ERROR"] | None, ...] = ("BUSY", "NACK", None, "BUSY", "NACK", None, "ERROR")
"""What a device that makes faults says; None does as it should, late. After an ERROR the driver asks for no more."""
REQUESTS: tuple[Literal["PLUG", "UNPLUG"], ...] = ("PLUG", "UNPLUG")
DELAY = 0.25
"""Seconds."""
REGION = schema.Dax(at=4 * GiB, size=GiB, mode="raw")
"""The persistent memory that lives have where a guest can: a block device at first."""
DRIVERS: tuple[schema.DaxMode, ...] = ("kmem", "devdax", "raw", "none")
MAPS: tuple[Literal["mem", "dev"], ...] = ("mem", "dev")
MOST_IN_USE = 96 * MiB
USE_UNIT = 8 * MiB
POOL = "use-pool"
MOST_IN_POOL = 16 * MiB
"""Huge pages in the pool: where they lie is told by nothing, and those of a block that goes offline leave the pool, so
that so much free memory may differ.
"""
VALUES: dict[schema.ParameterName, tuple[str | int | bool, ...]] = {
    "auto_online_blocks": ONLINE_TYPES,
    "online_policy": ("contig-zones", "auto-movable"),
    "auto_movable_ratio": (0, 50, 100, 301, 1000),
    "auto_movable_numa_aware": (True, False),
}


class Choices(Protocol):
    """Where numbers come from."""

    def pick(self, values: Sequence[T]) -> T:
        """One of these; the first is the smallest."""
        ...

    def number(self, most: int) -> int:
        """A number from 0 to `most`."""
        ...


def plug(choices: Choices, model: ModelTarget) -> schema.StepKind | None:
    """A DIMM, which nobody, or somebody at once, brings online."""
    blocks, zone = choices.pick(DIMM_BLOCKS), choices.pick((None, *ZONES))
    if len(model.session.dimms) >= MOST_DIMMS:
        return None
    return schema.Plug(size=blocks * model.session.k.memory_block_size, online=zone)


def eject(choices: Choices, model: ModelTarget) -> schema.StepKind | None:
    """A DIMM is asked for.

    None with a page that is pinned: the task that looks for ACPI's devices would try for as long as the page is
    (``mm/memory_hotplug.c:offline_pages``), and no signal reaches it.
    """
    which = choices.number(MOST_DIMMS - 1)
    dimms = [each for each in model.session.dimms if not _has_pinned(model, each.crs[0])]
    return schema.Eject(at=dimms[which % len(dimms)].crs[0].start) if dimms else None


def online(choices: Choices, model: ModelTarget) -> schema.StepKind | None:
    """Some offline blocks in a row."""
    zone = choices.pick(ZONES)
    blocks = _some(choices, _in_state(model, "offline"))
    return schema.Online(blocks=blocks, zone=zone) if blocks else None


def offline(choices: Choices, model: ModelTarget) -> schema.StepKind | None:
    """Some online blocks in a row: added ones come first, then boot memory from its end on."""
    blocks = _some(choices, _in_state(model, "online")[::-1])
    return schema.Offline(blocks=blocks) if blocks else None


def resize(choices: Choices, model: ModelTarget) -> schema.Resize:
    """Another size of the virtio-mem device."""
    del model
    return schema.Resize(to=choices.number(DEVICE_SIZE // DEVICE_UNIT) * DEVICE_UNIT, device=DEVICE)


def fault(choices: Choices, model: ModelTarget) -> schema.StepKind:
    """Another size of a device that refuses some request, or answers late."""
    answer = choices.pick(ANSWERS)
    fault = schema.Fault(
        request=choices.pick(REQUESTS),
        first=1 + choices.number(3),
        count=1 + choices.number(1),
        answer=answer,
        delay=0 if answer else DELAY,
    )
    return msgspec.structs.replace(resize(choices, model), faults=[fault])


def set_parameter(choices: Choices, model: ModelTarget) -> schema.StepKind | None:
    """A parameter changes."""
    name = choices.pick(tuple(VALUES))
    value = VALUES[name][choices.number(max(map(len, VALUES.values())) - 1) % len(VALUES[name])]
    known = name == "auto_online_blocks" or model.session.k.config.profile.auto_movable
    return schema.Set(parameter=name, to=value) if known else None


def allocate(choices: Choices, model: ModelTarget) -> schema.StepKind | None:
    """Memory comes into use that can be moved."""
    size = (1 + choices.number(7)) * USE_UNIT
    used = in_use(model)
    tag = next(name for name in map("use{}".format, range(len(used) + 1)) if name not in used)
    return schema.Allocate(size=size, tag=tag) if sum(used.values()) + size <= MOST_IN_USE else None


def fill_pool(choices: Choices, model: ModelTarget) -> schema.StepKind | None:
    """Huge pages of the default size come into the pool, unless there are some."""
    unit = model.session.k.config.pmd_size
    count = 1 + choices.number(MOST_IN_POOL // (2 * MiB) - 1)
    fits = count * unit <= MOST_IN_POOL and POOL not in in_use(model)
    return schema.Allocate(size=count * unit, kind="hugetlb-free", tag=POOL) if fits else None


def pin(choices: Choices, model: ModelTarget) -> schema.StepKind | None:
    """Memory comes into use that stays where it is, for a device's DMA."""
    size = (1 + choices.number(3)) * USE_UNIT
    used = in_use(model)
    tag = next(name for name in map("use-pin{}".format, range(len(used) + 1)) if name not in used)
    fits = sum(used.values()) + size <= MOST_IN_USE
    return schema.Allocate(size=size, kind="pinned", tag=tag) if fits else None


def use(choices: Choices, model: ModelTarget) -> schema.StepKind | None:
    """Somebody uses memory, as files, as huge pages, or for DMA."""
    return choices.pick((allocate, fill_pool, pin))(choices, model)


def bind(choices: Choices, model: ModelTarget) -> schema.StepKind | None:
    """Persistent memory changes its driver; as its block device gives it up, where its struct pages are is chosen.

    Once some of it stays RAM nobody gets it any more, and its info block cannot be taken away.
    """
    mode, where, own = choices.pick(DRIVERS), choices.pick(MAPS), choices.pick((None, True, False))
    region = model.session.regions.get(REGION.device)
    if region is None or region.stays or (mode == "raw" and _has_online(model, region.span)):
        return None
    new = region.mode == "raw" and mode != "raw"
    return schema.Dax(mode=mode, map=where if new else None, memmap_on_memory=own if mode == "kmem" else None)


def free(choices: Choices, model: ModelTarget) -> schema.StepKind | None:
    """Such memory is free again."""
    which, used = choices.number(3), sorted(in_use(model))
    return schema.Free(tag=used[which % len(used)]) if used else None


def in_use(model: ModelTarget) -> dict[str, int]:
    """What lives allocated: bytes by tag."""
    k = model.session.k
    found: dict[str, int] = {}
    for start, end, owner in k.hw.memory.owners:
        if owner.tag.startswith("use"):
            found[owner.tag] = found.get(owner.tag, 0) + ((end - start) << k.config.page_shift)
    return found


KINDS: dict[str, Callable[[Choices, ModelTarget], schema.StepKind | None]] = {
    "plug": plug,
    "offline": offline,
    "online": online,
    "resize": resize,
    "eject": eject,
    "set": set_parameter,
    "use": use,
    "free": free,
    "bind": bind,
    "fault": fault,
}
"""How a step of each kind is drawn; a drawing that comes to nothing on this machine is None."""

SAMPLES: dict[str, schema.StepKind] = {
    "plug": schema.Plug(size=1024 * MiB),
    "offline": schema.Offline(),
    "online": schema.Online(),
    "resize": schema.Resize(to=0),
    "eject": schema.Eject(),
    "set": schema.Set(parameter="auto_online_blocks", to="offline"),
    "use": schema.Allocate(size=USE_UNIT),
    "free": schema.Free(),
    "bind": REGION,
    "fault": schema.Resize(to=0, faults=[schema.Fault(answer="BUSY")]),
}
"""A step of each kind, to ask a machine whether it can do such steps at all."""


def _in_state(model: ModelTarget, state: str) -> list[int]:
    return [i for first, end, block in model.session.k.memory_blocks if block.state == state for i in range(first, end)]


def _has_online(model: ModelTarget, span: Span) -> bool:
    """Whether a block of a physical range (bytes) is online."""
    size = model.session.k.memory_block_size
    return any(span.start <= block * size < span.end for block in _in_state(model, "online"))


def _has_pinned(model: ModelTarget, span: Span) -> bool:
    """Whether a page of a physical range (bytes) is pinned."""
    runs = model.session.k.hw.memory.owners.runs(*model.session.frames(span))
    return any(owner.use is Use.PINNED for _, _, owner in runs)


def _some(choices: Choices, blocks: list[int]) -> list[int]:
    first, count = choices.number(63), 1 + choices.number(3)
    at = first % len(blocks) if blocks else 0
    return sorted(blocks[at : at + count])
