"""A guest for the steps of a scenario: its virtio-mem device is QEMU's, or served by memhp.

It is served where QEMU has none (riscv64), and where it is to misbehave, which QEMU's never does.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from memhp.errors import BadInput
from memhp.hw.devices.virtio_mem import Geometry
from memhp.hw.devices.virtio_mem_wire import Feature
from memhp.linux.arch.registry import port
from memhp.scenario import schema
from memhp.target.device.attach import attached, region_at
from memhp.target.device.server import Server
from memhp.target.guest.cache import Cache
from memhp.target.guest.guest import Guest, running
from memhp.target.guest.machines import MACHINES
from memhp.target.guest.qemu import GuestSpec, Qemu
from memhp.target.guest.served import Served
from memhp.target.guest.target import GuestTarget, refusal, spec_for
from memhp.target.model.virtio_mem import FEATURES
from memhp.target.target import check_each
from memhp.units import parse_size


def is_served(arch: str, steps: Sequence[schema.StepKind]) -> bool:
    """Whether the device of these steps, if they have one, is one that memhp serves."""
    devices = [step for step in steps if isinstance(step, schema.VirtioMem | schema.Resize)]
    return bool(devices) and (not MACHINES[arch].virtio_mem or any(step.faults for step in devices))


def check_scenario(spec: GuestSpec, scenario: schema.Scenario, *, where: str) -> None:
    """Refuse what the guest will not be able to do. Raises :class:`BadInput` before anything starts."""
    served = is_served(spec.kernel.arch, scenario.steps)
    check_each("a guest", partial(refusal, spec.kernel, served=served), scenario.steps, where=where)


@contextmanager
def target_for(cache: Cache, qemu: Qemu, base: GuestSpec, scenario: schema.Scenario) -> Iterator[GuestTarget]:
    """A guest for a scenario, as a target, for as long as the block runs. Raises :class:`BadInput`."""
    spec = spec_for(base, scenario)
    if is_served(base.kernel.arch, scenario.steps):
        with served_target(cache, qemu, spec, scenario.steps) as target:
            yield target
        return
    with running(cache, qemu, spec) as guest:
        yield GuestTarget(guest)


@contextmanager
def served_target(
    cache: Cache, qemu: Qemu, spec: GuestSpec, steps: Sequence[schema.StepKind]
) -> Iterator[GuestTarget]:
    """A guest with the device that the first of these steps, or another, lets appear, served from here."""
    devices = [step for step in steps if isinstance(step, schema.VirtioMem)]
    if len(devices) != 1 or spec.regions:
        raise BadInput("a guest has one served device, and no persistent memory beside it", where="virtio-mem")
    (device,) = devices
    arch = spec.kernel.arch
    size, at = parse_size(device.size, where="size"), region_at(arch, spec.nodes[0])
    if device.at is not None and parse_size(device.at) != at:
        raise BadInput("a served device is elsewhere", where="at", fix=f"{at:#x}, or leave it out")
    features = Feature.NONE
    for feature in device.features:
        features |= FEATURES[feature]
    geometry = Geometry(at, size, parse_size(device.block_size), device.node, features, port(arch).virtio_mem_extent)
    with serving(cache, qemu, replace(spec, virtio_mem=()), device.device, geometry) as (guest, control):
        yield GuestTarget(guest, Served(device.device, control, at))


@contextmanager
def serving(
    cache: Cache, qemu: Qemu, spec: GuestSpec, name: str, geometry: Geometry
) -> Iterator[tuple[Guest, Path]]:
    """A guest with a served device, its driver loaded, and the socket that controls the device.

    The sockets lose their names at once and are reached by descriptors of this process: no file is left, whatever
    ends it.
    """
    with tempfile.TemporaryDirectory() as folder:
        named = Path(folder) / "s", Path(folder) / "c"
        server = Server(geometry, *named, say=lambda _: None)
        files = [os.open(path, os.O_PATH | os.O_CLOEXEC) for path in named]
    path, control = (Path(f"/proc/{os.getpid()}/fd/{file}") for file in files)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        with running(cache, qemu, attached(spec, name, path, geometry.region_size)) as guest:
            guest.load("virtio_mem")
            yield guest, control
    finally:
        server.stop()
        thread.join()
        server.close()
        for file in files:
            os.close(file)
