"""Who looks at an object of the slab that may be freed meanwhile is found out, whichever actor is listed first."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import permutations

import pytest

from bench.virtio_mem_pairs import virtio_mem_pairs
from memhp.explore.case import Configuration, Variant
from memhp.explore.cases.actors import boot
from memhp.explore.cases.p2pdma_dma_vs_unbind import CASE as P2PDMA
from memhp.explore.cases.p2pdma_dma_vs_unbind import DEVICE
from memhp.explore.doors.run import KernelProgram
from memhp.explore.engine.shortest import decide
from memhp.hw.lifetime import SlabObject, kfree
from memhp.linux.drivers.pci.p2pdma import p2pmem_alloc_mmap, pci_p2pdma_release, put_page
from memhp.linux.drivers.virtio import virtio_mem
from memhp.linux.lib.percpu_refcount import PercpuRef, percpu_ref_put_many, percpu_ref_tryget_live
from memhp.linux.state import Kernel

MACHINE = Configuration("riscv64", 4096, 48)
FREED = "drivers/own.c:own_free"


@dataclass
class Own:
    """A driver's object, of which a count of references is part."""

    thing: SlabObject = field(default_factory=lambda: SlabObject("own"))
    ref: PercpuRef | None = None


def of_own(act: Callable[[Kernel, PercpuRef], object]) -> Callable[[Kernel], None]:
    def actor(k: Kernel) -> None:
        ref = k.statics(Own).ref
        assert ref is not None
        act(k, ref)

    return actor


GETS = of_own(lambda k, ref: percpu_ref_tryget_live(k.hw, ref))
PUTS = of_own(lambda k, ref: percpu_ref_put_many(k.hw, ref, 1))


def frees(k: Kernel) -> None:
    kfree(k.hw, k.statics(Own).thing, FREED)


def reasons(program: KernelProgram) -> set[str]:
    """What goes wrong with the actors in every order; "" for nothing."""
    told = set()
    for order in permutations(range(len(program.actors))):
        actors, names = tuple(program.actors[at] for at in order), tuple(program.names[at] for at in order)
        failure = decide(replace(program, actors=actors, names=names).run()).failure
        told.add("" if failure is None else failure.reason)
    return told


@pytest.mark.parametrize(("user", "place"), [(GETS, "percpu_ref_tryget_live_rcu"), (PUTS, "percpu_ref_put_many")])
def test_a_count_of_references_in_an_object_that_is_freed(user: Callable[[Kernel], None], place: str) -> None:
    k = boot(Variant("", "", "broken", (MACHINE,)).config(MACHINE))
    own = k.statics(Own)
    own.ref = PercpuRef("own.ref", lambda: None, own.thing)
    assert reasons(KernelProgram(k, (user, frees), ("user", "frees"))) == {
        f"use-after-free: own is used, but {FREED} freed it (include/linux/percpu-refcount.h:{place})"
    }


def test_a_page_that_comes_back_to_a_pool_of_a_bar_that_is_destroyed() -> None:
    """lib/genalloc.c:gen_pool_destroy has BUG_ON() for pages that are out of it."""
    program = P2PDMA.program("taken")
    page = p2pmem_alloc_mmap(program.kernel, DEVICE)

    def release(k: Kernel) -> None:
        pci_p2pdma_release(k, DEVICE)

    def put(k: Kernel) -> None:
        put_page(k, page.start)

    told = reasons(replace(program, actors=(release, put), names=("release", "put"), check=None, failures=frozenset()))
    assert told
    assert all("a pool is destroyed, and 1 pages are out of it" in one for one in told)


@pytest.mark.parametrize(
    ("other", "left_out", "user"),
    [
        ("online", "unregister_memory_notifier", "drivers/virtio/virtio_mem.c:virtio_mem_memory_notifier_cb"),
        ("work", "cancel_work_sync", "drivers/virtio/virtio_mem.c:virtio_mem_run_wq"),
    ],
)
def test_a_device_is_freed_when_nobody_calls_its_driver_any_more(
    monkeypatch: pytest.MonkeyPatch, other: str, left_out: str, user: str
) -> None:
    """drivers/virtio/virtio_mem.c:virtio_mem_deinit_hotplug, before virtio_mem_remove() frees it."""
    program = dict(virtio_mem_pairs())[f"virtio-mem, 1 memory block: unbind | {other}"]()
    assert reasons(program) == {""}
    monkeypatch.setattr(virtio_mem, left_out, lambda *_: None)
    assert reasons(program) == {
        f"use-after-free: virtio_mem is used, but drivers/virtio/virtio_mem.c:virtio_mem_remove freed it ({user})"
    }
