"""Virtio-mem devices in machines of the model: attached anew, or as a recorded guest had them."""
# SPDX-License-Identifier: GPL-2.0-or-later

import lzma
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache

from captures import DATA, captures, facts, guests, open_capture
from kernels import kernel
from memhp.check import Snapshot, check_all, snapshot
from memhp.facts import dmesg
from memhp.facts.derive import derive
from memhp.facts.dmesg import Dmesg
from memhp.facts.dmesg import VirtioMem as Said
from memhp.hw.devices.backing import MachineBacking
from memhp.hw.devices.virtio_mem import Geometry, VirtioMemDevice
from memhp.hw.devices.virtio_mem_rules import Rule
from memhp.linux.choices import Arch
from memhp.linux.config import OnlineType
from memhp.linux.drivers.virtio.virtio_mem import virtio_mem_probe
from memhp.linux.drivers.virtio.virtio_mem_state import MbState, Params, VirtioMem
from memhp.linux.init import start_kernel
from memhp.linux.kernel.resource import iter_resources, remove_resource
from memhp.linux.state import Kernel
from memhp.scenario.schema import MachineText
from memhp.target.model.replay import replay
from memhp.target.model.session import Session
from memhp.target.seen.sources import facts_spec
from memhp.units import GiB, MiB
from replay.diary import log_text

SECOND = 1_000_000_000
"""Nanoseconds."""

AT = 8 * GiB

_REQUEST = re.compile(
    r"^\(?'?(PLUG|UNPLUG|UNPLUG_ALL|STATE)'?,? '?(0x[0-9a-f]+)'?,? (\d+),? '?(\w+)'?,? (\d)"
    r"|^virtio_mem_(plug|unplug)_request addr=(0x[0-9a-f]+)\s?nb_blocks=(\d+)",
    re.M,
)


def attach(
    k: Kernel, size: int = 2 * GiB, *rules: Rule, at: int = AT, block_size: int = 2 * MiB, params: Params | None = None
) -> VirtioMem:
    """A device with memory behind it, probed; nothing is requested yet."""
    device = VirtioMemDevice(Geometry(at, size, block_size), MachineBacking(k.hw, "vm0"), rules=list(rules))
    vm = virtio_mem_probe(k, device, "virtio1", params)
    k.hw.advance(0)
    return vm


def resize(k: Kernel, vm: VirtioMem, size: int, duration: int = SECOND) -> list[str]:
    """Request a size and let time pass: the requests that the device saw meanwhile, with its answers."""
    seen = len(vm.device.log)
    vm.device.resize(size)
    k.hw.advance(duration)
    return [str(exchange) for exchange in vm.device.log[seen:]]


def guest(auto_online: OnlineType = "online_movable", arch: Arch = "x86_64") -> Kernel:
    """A small machine that onlines what is added at once, or leaves that to the user."""
    k = kernel(arch)
    k.auto_online_blocks = auto_online
    return k


@contextmanager
def lawful(k: Kernel, vm: VirtioMem | None = None) -> Iterator[Snapshot]:
    """All laws hold at the end, and driver and device agree on what is plugged."""
    before = snapshot(k)
    yield before
    assert check_all(k, before) == []
    assert k.hw.violations == []
    if vm is not None:
        agree(vm)


def agree(vm: VirtioMem) -> None:
    """Driver and device have the same blocks plugged."""
    assert vm.plugged_size == vm.device.plugged_size
    if vm.in_sbm:
        size = vm.sbm.sb_size
        assert list(vm.device.plugged) == [(lo * size, hi * size) for lo, hi in vm.sbm.plugged]


def states(vm: VirtioMem) -> list[str]:
    """The states of the memory blocks that the driver tracks."""
    return [MbState(state).name for state in map(vm.sbm.blocks.get, vm.sbm.blocks.ids)]


# Recorded guests ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Request:
    """A request that a real device saw, with its answer."""

    kind: str
    addr: int
    nb_blocks: int

    def __str__(self) -> str:
        return f"{self.kind} {self.addr:#x} {self.nb_blocks} ACK 0"


def named(word: str) -> list[str]:
    """The captures and guests with a virtio-mem device whose name contains a word."""
    return [name for name in (*captures(), *guests()) if "virtio-mem" in name and word in name]


@cache
def guest_log(name: str) -> str:
    """What was noted while a guest with kept page tables ran."""
    return lzma.decompress((DATA / "ptcores" / name / "log.txt.xz").read_bytes()).decode()


def requests(text: str) -> list[Request]:
    """The requests in a log, in order, whether QEMU traced them or the lab's own device did."""
    found = _REQUEST.findall(text)
    return [
        Request(kind or traced.upper(), int(addr or traced_addr, 16), int(count or traced_count))
        for kind, addr, count, _, _, traced, traced_addr, traced_count in found
    ]


def plugged_sizes(name: str) -> Iterator[tuple[str, int, int]]:
    """The steps of a capture at which the device was resized: step, size requested, size reached in the end."""
    text = log_text(name) if name in captures() else guest_log(name)
    reached = re.findall(r"^requested (\d+)M (?:->|plugged) (?:size )?(\d+)M", text, re.M)
    steps = [step for step in open_capture(name) if "plug" in step]
    for step, (wanted, got) in zip(steps, reached, strict=True):
        yield step, int(wanted) * MiB, int(got) * MiB


def recorded(name: str) -> tuple[Session, VirtioMem]:
    """The machine of a capture or guest before anything was plugged, its device probed."""
    observed = facts(name, next(iter(open_capture(name))))
    spec = facts_spec(observed, MachineText(source=name))
    order = observed.pagetypeinfo[0].pageblock_order
    if order != spec.config.pageblock_order:
        spec = replace(spec, config=replace(spec.config, page_block_max_order=order))
    session = Session(start_kernel(spec))
    replay(session, derive(session.k), observed)
    log = log_of(name)
    for _, res in list(iter_resources(session.k.iomem_resource)):
        if res.name == log.name:
            remove_resource(res)
    return session, attach(session.k, log.region_size, at=log.start, block_size=log.device_block_size)


def log_of(name: str) -> Said:
    """What the driver of a recorded guest said of its device."""
    (device,) = whole_log(name).virtio_mem
    return device


def whole_log(name: str) -> Dmesg:
    """The kernel log of a recorded guest, as far as it was kept."""
    return dmesg.parse(log_text(name) if name in captures() else guest_log(name))
