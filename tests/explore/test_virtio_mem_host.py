"""The host, which resizes a virtio-mem device, meets the work of its driver: drivers/virtio/virtio_mem.c."""
# SPDX-License-Identifier: GPL-2.0-or-later

from itertools import permutations

import pytest

from memhp.explore.case import Configuration, Variant
from memhp.explore.cases.actors import laws_hold
from memhp.explore.cases.online_vs_unplug import attach, the_device, work
from memhp.explore.doors.run import Actor, KernelProgram
from memhp.explore.engine.search import search
from memhp.hw.devices.virtio_mem_wire import ResponseType
from memhp.linux.drivers.virtio.virtio_mem import virtio_mem_refresh_config
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.state import Kernel
from memhp.units import GiB, KiB

MACHINE = Configuration("arm64", 64 * KiB, 48, "linux-7.2")


def attached() -> Kernel:
    config = Variant("as it is", "", "repaired", (MACHINE,)).config(MACHINE)
    k = start_kernel(MachineSpec("explored", config, (Ram(config.port.ram_start, GiB),)))
    attach(k, big_blocks=False)
    return k


def resizes(blocks: int) -> Actor:
    return lambda k: the_device(k).device.resize(blocks * k.memory_block_size)


def reads_the_size(k: Kernel) -> None:
    virtio_mem_refresh_config(k, the_device(k))


def seen(k: Kernel) -> str | None:
    return "seen: the new size" if the_device(k).requested_size else None


def denied(k: Kernel) -> str | None:
    answers = [exchange.response.type for exchange in the_device(k).device.log]
    return None if all(answer is ResponseType.ACK for answer in answers) else "denied: a request"


@pytest.mark.parametrize("reduce", [True, False])
def test_a_driver_reads_the_size_before_or_after_the_host_changes_it(reduce: bool) -> None:
    k = attached()
    the_device(k).device.config_changed.clear()
    for actors in permutations((resizes(1), reads_the_size)):
        run = KernelProgram(k, actors, ("A", "B"), check=seen).run()
        if reduce:
            run.tell_apart(frozenset())
        assert search(run, reduce=reduce).word == "broken"


def test_the_device_denies_what_was_wanted_until_the_host_wanted_less() -> None:
    """virtio_mem_send_plug_request() asks as the configuration was when it was read last."""
    k = attached()
    resizes(1)(k)
    for actors in permutations((resizes(0), work)):
        run = KernelProgram(k, actors, ("A", "B"), check=denied).run()
        run.tell_apart(frozenset())
        failure = search(run).failure
        assert failure is not None and failure.reason == "denied: a request"


def test_work_that_asks_again_at_once_ends_with_the_interrupt_that_is_on_its_way() -> None:
    """virtio_mem_run_wq() goes round on EAGAIN, which is what a NACK is, until the configuration has changed."""
    k = attached()
    k.hw.advance(0)
    resizes(1)(k)
    for actors in permutations((resizes(0), work)):
        run = KernelProgram(k, actors, ("A", "B"), check=laws_hold).run()
        run.tell_apart(frozenset())
        assert search(run).word == "safe"
