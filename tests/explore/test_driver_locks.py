"""What drivers of memory share with user space and with each other is under the locks that the kernel has there."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter
from dataclasses import replace
from functools import cache

import pytest

from bench.driver_pairs import driver_pairs
from bench.states import KEPT, case_differs
from bench.virtio_mem_pairs import virtio_mem_pairs
from memhp.claims.fix_witnesses import small_machine
from memhp.explore.case import Configuration, Variant
from memhp.explore.cases.actors import laws_hold, refused
from memhp.explore.cases.near_dimm import boot_near
from memhp.explore.doors.run import KernelProgram
from memhp.explore.engine.search import Limits, search
from memhp.explore.engine.shortest import decide
from memhp.explore.engine.verdict import Verdict
from memhp.explore.lock_removal import removed, sites
from memhp.hw.devices.backing import MachineBacking
from memhp.hw.devices.virtio_mem import Geometry, VirtioMemDevice
from memhp.linux.config import Config
from memhp.linux.drivers.dax.bus import DevDax, align_store, devm_create_dev_dax
from memhp.linux.drivers.virtio.virtio_mem import virtio_mem_probe
from memhp.linux.lib import test_hmm as hmm
from memhp.linux.mm import migrate_device, mm_types
from memhp.linux.mm.memory_hotplug_online import generic_online_page, set_online_page_callback
from memhp.linux.mm.migrate_device import do_anonymous_page, do_swap_page
from memhp.linux.mm.mm_types import Mm, Rmap
from memhp.linux.profiles import profile
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, KiB, MiB
from steppers import Recorder

ENOUGH = 4000
"""More executions and states than any of the pairs has."""
NOTICED = (
    ("drivers/hv/hv_balloon.py:_process_hot_add HA_LOCK", "hv: next | online"),
    ("drivers/hv/hv_balloon.py:_pfn_covered HA_LOCK", "hv: end of it | online"),
    ("drivers/hv/hv_balloon.py:_handle_pg_range HA_LOCK", "hv: rest of it | online"),
    ("drivers/hv/hv_balloon.py:_hv_mem_hot_add HA_LOCK", "hv: next in the region | online"),
    ("drivers/hv/hv_balloon.py:_hv_mem_hot_add HA_LOCK #2", "hv: next, which is there | online"),
    ("drivers/hv/hv_balloon.py:hv_online_page HA_LOCK", "hv: next | online"),
    ("drivers/hv/hv_balloon.py:hv_memory_notifier HA_LOCK", "hv: next in the region | offline"),
    ("drivers/xen/unpopulated_alloc.py:xen_alloc_unpopulated_pages 'list_lock'", "xen: unpopulated | unpopulated"),
    ("drivers/base/power/sysfs.py:control_store f'{device}.device_lock'", "power: on | auto"),
    ("drivers/dax/bus.py:_tree_locked 'resource_lock'", "dax: region | region that overlaps"),
    ("drivers/dax/bus.py:_region_locked REGION_RWSEM", "dax: create | delete"),
    ("drivers/dax/bus.py:_region_locked f\"{name.partition('.')[0]}.device_lock\"", "dax, 6.1: create | delete"),
    ("drivers/dax/bus.py:_dev_locked DEV_RWSEM", "dax: no memmap | no memmap"),
    ("lib/test_hmm.py:_allocate_chunk 'resource_lock'", "private memory: load | add"),
    ("lib/test_hmm.py:_allocate_chunk mdevice.lock", "private memory: fault | move, full"),
    ("lib/test_hmm.py:_release_mem_region 'resource_lock'", "private memory: remove | add"),
    ("lib/test_hmm.py:dmirror_devmem_alloc_page mdevice.lock", "private memory: fault | move"),
    ("lib/test_hmm.py:dmirror_devmem_free chunk.mdevice.lock", "private memory: fault | move"),
    ("lib/test_hmm.py:dmirror_device_remove_chunks mdevice.lock", "private memory: remove | there and back"),
    ("mm/migrate_device.py:do_anonymous_page mm.ptl", "private memory: touch | touch"),
    ("mm/migrate_device.py:migrate_vma_setup mm.ptl", "private memory: move | move"),
    ("mm/migrate_device.py:_try_to_migrate mapped.mm.ptl", "private memory: evict | fault"),
    ("mm/migrate_device.py:_remove_migration_ptes source.mm.ptl", "private memory: fault | fault"),
    ("mm/migrate_device.py:do_swap_page mm.ptl", "private memory: fault | fault"),
    ("mm/migrate_device.py:pin_user_pages mm.ptl", "private memory: pin there | move"),
    ("mm/migrate_device.py:hmm_range_fault mm.ptl", "private memory: other device | fault"),
    ("mm/memory_hotplug_online.py:_callback_locked 'online_page_callback_lock'", "hv: bind | xen: bind"),
)
"""A place that takes a lock, as the code has it, and the two paths that race without it."""


LONG = {
    f"private memory: {pair}"
    for pair in (
        "evict | fault", "remove | there and back", "pin there | move", "fault | move", "fault | move, full",
        "touch | touch", "pin | fault", "other device | fault",
    )
}  # fmt: skip
"""Pairs with more schedules, or states, than a test has time for."""


@cache
def programs() -> dict[str, KernelProgram]:
    return {name: make() for name, make in driver_pairs()}


def decided(pair: str) -> Verdict:
    run = programs()[pair].run()
    run.tell_apart(frozenset())
    try:
        return search(run, Limits(executions=60 if pair in LONG else ENOUGH))
    finally:
        run.close()


@pytest.mark.parametrize("pair", [name for name, _ in driver_pairs() if name not in LONG])
def test_what_two_paths_come_to_is_the_same_whichever_search_and_whoever_is_first(pair: str) -> None:
    """They are safe, in both orders; and all states one by one end as the schedules end that the search looks at."""
    assert decided(pair).word == "safe"
    counts: Counter[str] = Counter()
    assert case_differs(programs()[pair], replace(KEPT, executions=ENOUGH), ENOUGH, counts) == []
    assert counts["orders of actors"] == 2


@pytest.mark.parametrize("pair", sorted(LONG))
def test_of_pairs_with_many_schedules_the_first_ones_are_safe(pair: str) -> None:
    assert decided(pair).failure is None


@pytest.mark.parametrize(("place", "pair"), NOTICED, ids=[place for place, _ in NOTICED])
def test_a_lock_that_a_driver_does_not_take_is_a_data_race(place: str, pair: str) -> None:
    (site,) = (one for one in sites() if str(one) == place)
    with removed(site):
        without = decided(pair)
    assert without.failure is not None
    assert without.failure.reason.startswith("data race: ")


# The DAX bus -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("release", "locks"),
    [
        ("linux-6.1", ["lock dax0.device_lock", "lock dax0.0.device_lock"]),
        ("linux-6.12", ["lock dax_region_rwsem", "lock dax_dev_rwsem"]),
        ("linux-7.2", ["lock dax_region_rwsem", "lock dax_dev_rwsem"]),
    ],
)
def test_the_size_of_a_devices_pages_changes_under_the_lock_of_its_region_and_its_own(
    release: str, locks: list[str]
) -> None:
    """drivers/dax/bus.c:align_store."""
    k = small_machine(Config("x86_64", profile(release), 4 * KiB, 48).validate())
    dev = devm_create_dev_dax(k, DevDax("dax0.0", (Span(4 * GiB, 5 * GiB),), 2 * MiB))
    k.hw.stepper = seen = Recorder()
    align_store(k, dev, 4 * KiB, driver=False)
    assert [f"{each.kind} {each.target}" for each in seen.accesses if each.kind == "lock"] == locks


# Private memory of a device ----------------------------------------------------------------------------------------


def faults_at_once(how: str, release: str = "linux-7.2") -> Verdict:
    """Two threads of a process touch one page that is on a device."""
    machine = Configuration("x86_64", 4 * KiB, 48, release)
    variant = Variant("as it is", "", "repaired", (machine,), generic={"device_fault": how} if how else {})
    k = boot_near(variant.config(machine))
    mm = Mm()
    hmm.dmirror_allocate_chunk(k, "gpu")
    do_anonymous_page(k, mm, 0)
    hmm.dmirror_migrate_to_device(k, "gpu", mm, [0])

    def touch(k: Kernel) -> int:
        return do_swap_page(k, k.statics(Rmap).mms[0], 0)

    return decide(KernelProgram(k, (touch, touch), ("one", "other"), check=laws_hold).run())


def test_two_faults_on_one_page_that_each_hold_it_keep_each_other_from_moving_it_for_ever() -> None:
    """mm/memory.c:do_swap_page of 6.12 takes a reference, and mm/migrate.c:folio_migrate_mapping fails if there is one
    that it does not expect; both faults come again.
    """
    failure = faults_at_once("", "linux-6.12").failure
    assert failure is not None
    assert failure.reason.startswith("livelock: ")


@pytest.mark.parametrize("how", ["trylock", "trylock-or-wait"])
def test_of_two_faults_on_one_page_the_one_that_has_locked_it_moves_it(how: str) -> None:
    """mm/memory.c:do_swap_page with trylock_page(): the other finds the page in RAM once it has been let go."""
    verdict = faults_at_once(how)
    assert (verdict.word, verdict.coverage.deadlocks, verdict.coverage.livelocks) == ("safe", 0, 0)


def test_two_that_have_locked_a_page_both_move_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What PG_locked is for: without it both copy the page, and one copy is lost or freed twice."""
    for module in (migrate_device, mm_types):
        monkeypatch.setattr(module, "trylock_page", lambda *_: True)
    monkeypatch.setattr(migrate_device, "unlock_page", lambda *_: None)
    assert faults_at_once("trylock-or-wait").word == "broken"


def test_a_page_that_moves_to_a_device_while_its_memory_goes_is_waited_for_until_the_process_touches_it() -> None:
    """lib/test_hmm.c:dmirror_device_remove_chunks has emptied the chunk when the page gets there, and
    mm/memremap.c:memunmap_pages waits for the reference of every page.
    """
    program = programs()["private memory: remove | there and back"]
    remove, _ = program.actors

    def move(k: Kernel) -> int:
        return hmm.dmirror_migrate_to_device(k, "gpu", k.statics(Rmap).mms[0], [1])

    failure = decide(replace(program, actors=(remove, move)).run()).failure
    assert failure is not None
    assert failure.reason == "deadlock: remove at wait for 1 references to the device's mapping"


# Who decides which pages go online ---------------------------------------------------------------------------------


@pytest.mark.parametrize("release", ["linux-6.1", "linux-7.2"])
def test_the_first_virtio_mem_device_and_another_driver_settle_under_one_lock_who_decides(release: str) -> None:
    """drivers/virtio/virtio_mem.c:register_virtio_mem_device looks at its own list of devices, and at no callback."""
    where = Configuration("x86_64", 4 * KiB, 48, release)
    k = boot_near(Variant("as it is", "", "repaired", (where,)).config(where))

    def probe(k: Kernel) -> None:
        geometry = Geometry(8 * GiB, 4 * k.memory_block_size, 2 * MiB)
        virtio_mem_probe(k, VirtioMemDevice(geometry, MachineBacking(k.hw, "vm0")), "virtio0")

    def other(k: Kernel) -> None:
        set_online_page_callback(k, generic_online_page)

    program = KernelProgram(k, (refused(probe), refused(other)), ("probe", "other"))
    run = program.run()
    run.tell_apart(frozenset())
    verdict = search(run, Limits(keep_behaviours=True))
    run.close()
    assert (verdict.word, verdict.failure) == ("safe", None)
    answers = (None, "refused"), ("refused", None)
    assert verdict.coverage.behaviours == {(said, (), (None, None)) for said in answers}


@pytest.mark.parametrize("site", ["register_virtio_mem_device MUTEX", "unregister_virtio_mem_device MUTEX"])
def test_two_virtio_mem_devices_that_come_and_go_change_their_list_under_the_drivers_mutex(site: str) -> None:
    """list_add_rcu() and list_del_rcu() write prev pointers as anything else: who goes through the list has no use for
    them.
    """
    pairs = dict(virtio_mem_pairs())
    program = pairs["virtio-mem, 0 memory blocks: bind | unbind"]()
    assert decide(program.run()).word == "safe"
    (place,) = (one for one in sites() if str(one).endswith(f":{site}"))
    with removed(place):
        failure = decide(program.run()).failure
    assert failure is not None
    assert failure.reason.startswith("data race: write of virtio_mem_last")
