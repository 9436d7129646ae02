"""What a kernel keeps apart, by a lock or in an atomic, is no data race here."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable
from functools import partial

import pytest

from memhp.explore.case import Configuration, Variant
from memhp.explore.cases.actors import boot, hot_add, hot_remove
from memhp.explore.cases.near_dimm import add_near, boot_near
from memhp.explore.cases.zonelists_vs_allocation import write_online_movable
from memhp.explore.doors.run import KernelProgram
from memhp.explore.engine.limits import Limits
from memhp.explore.engine.search import search
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.drivers.base.power.sysfs import control_show, control_store
from memhp.linux.lib.kobject_uevent import Uevents, kobject_synth_uevent
from memhp.linux.mm.oom_kill import out_of_memory
from memhp.linux.mm.show_mem import si_mem_available
from memhp.linux.state import Kernel

MACHINES = (Configuration("x86_64", 4096, 48, "linux-6.12"), Configuration("riscv64", 4096, 48, "linux-7.2"))


def booted(machine: Configuration) -> Kernel:
    return boot(Variant("", "", "repaired", (machine,)).config(machine))


def race(k: Kernel, *actors: Callable[[Kernel], object], executions: int = 500) -> str:
    program = KernelProgram(k, tuple(actors), ("one", "other"))
    return search(program.run(), Limits(executions=executions)).word


def changes(k: Kernel, block: int) -> None:
    kobject_synth_uevent(k, f"/devices/system/memory/memory{block}", "memory", "change")


def online(k: Kernel) -> None:
    state_store(k, (8 << 30) // k.memory_block_size, "online")


@pytest.mark.parametrize("machine", MACHINES, ids=str)
@pytest.mark.parametrize("other", [partial(changes, block=2), online])
def test_events_are_counted_in_one_go(machine: Configuration, other: Callable[[Kernel], None]) -> None:
    """lib/kobject_uevent.c: uevent_seqnum, of which each event has its own."""
    k = booted(machine)
    hot_add(k)
    heard: list[int] = []
    k.statics(Uevents).listeners.append(lambda event: heard.append(event.seqnum))
    assert race(k, partial(changes, block=1), other) == "safe"


def control(block: int, word: str) -> Callable[[Kernel], None]:
    return lambda k: control_store(k, f"memory{block}", word)


@pytest.mark.parametrize("machine", MACHINES, ids=str)
@pytest.mark.parametrize("other", [control(2, "on"), control(1, "auto"), hot_remove])
def test_each_devices_control_is_written_under_its_lock(
    machine: Configuration, other: Callable[[Kernel], None]
) -> None:
    """drivers/base/power/sysfs.c:control_store."""
    k = booted(machine)
    hot_add(k)
    control_store(k, "memory0", "on")
    assert race(k, control(1, "on"), other) == "safe"
    assert control_show(k, "memory0") == "on\n"


@pytest.mark.parametrize("asks", [si_mem_available, out_of_memory])
def test_who_asks_how_much_memory_there_is_reads_no_present_pages(asks: Callable[[Kernel], object]) -> None:
    """mm/page_alloc.c:calculate_totalreserve_pages goes by managed pages, which are atomic, watermarks by free ones."""
    machine = Configuration("arm64", 65536, 42, "linux-7.2")
    k = boot_near(Variant("", "", "repaired", (machine,)).config(machine))
    add_near(k)
    assert race(k, asks, write_online_movable, executions=200) != "broken"
