"""Xen's balloon grows while the block that it grows by goes online: drivers/xen/balloon.c under ``balloon_mutex``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from copy import deepcopy
from functools import cache, partial

import pytest

from kernels import kernel
from memhp.errors import KernelError
from memhp.explore.doors.run import KernelProgram
from memhp.explore.engine.search import search
from memhp.explore.engine.verdict import Verdict
from memhp.explore.lock_removal import removed, sites
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.drivers.xen.balloon import BalloonStats, balloon_init, balloon_set_new_target
from memhp.linux.state import Kernel

BALLOON = "drivers/xen/balloon.py"


@cache
def program() -> KernelProgram:
    """A domain gets a section more than it ever had, and user space sets that online as soon as it is there."""
    k = kernel("riscv64")
    balloon_init(k)
    target = k.statics(BalloonStats).current_pages + k.config.pages_per_section
    grow = partial(balloon_set_new_target, target=target)
    grown = deepcopy(k)
    grow(grown)
    added = next(first for first, _, _ in grown.memory_blocks if k.memory_blocks.get(first) is None)

    def online(k: Kernel) -> str:
        try:
            state_store(k, added, "online_movable")
        except KernelError as error:
            return error.reason
        return "online"

    return KernelProgram(k, (grow, online), ("balloon", "user space"))


def decided() -> Verdict:
    run = program().run()
    run.tell_apart(frozenset())
    return search(run)


def test_the_balloon_fills_under_its_mutex_whenever_the_block_goes_online() -> None:
    """balloon_thread() holds it, lets go of it while memory is added, and xen_online_page() takes it."""
    assert decided().word == "safe"


@pytest.mark.parametrize(
    ("place", "noticed"),
    [
        ("xen_online_page BALLOON_MUTEX", "data race: read of ballooned_pages by balloon"),
        ("_reserve_additional_memory BALLOON_MUTEX", "data race: read of ballooned_pages by balloon"),
        ("_reserve_additional_memory 'device_hotplug_lock'", "user space: KernelBug: BUG: memory"),
    ],
)
def test_without_a_lock_that_is_noticed(place: str, noticed: str) -> None:
    (site,) = (one for one in sites() if str(one) == f"{BALLOON}:{place}")
    with removed(site):
        failure = decided().failure
    assert failure is not None and failure.reason.startswith(noticed)
