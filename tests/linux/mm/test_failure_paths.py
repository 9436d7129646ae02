"""What the kernel's failure paths leave and tell: roll-backs, counts of poisoned pages, refusals of notifiers."""
# SPDX-License-Identifier: GPL-2.0-or-later

from errno import EBUSY, EPERM

import pytest

from kernels import PLUG_AT, kernel, log, plug, refused
from memhp.check import check_all, snapshot
from memhp.errors import KernelError
from memhp.facts.derive import derive
from memhp.hw.memory import Owner, Use
from memhp.hw.stepper import Access
from memhp.linux.drivers.base.core import Device
from memhp.linux.drivers.base.memory_devices import create_memory_block_devices, device_lock
from memhp.linux.drivers.base.memory_lookup import BlockDevices, find_memory_block_by_id, memory_block_put
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.drivers.base.notify import Chains, Refusal
from memhp.linux.mm.memory_failure import memory_failure
from memhp.linux.mm.memory_hotplug_add import add_memory
from memhp.linux.mm.memory_hotplug_remove import remove_memory
from memhp.linux.mm.page_alloc import take_pages_off_buddy
from memhp.linux.mm.page_isolation import start_isolate_page_range
from memhp.linux.mm.sparse import MEM_SECTION_SIZE
from memhp.linux.mmzone import PageFlags
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, KiB, MiB
from steppers import Failing, Recorder
from virtio_mem import AT, attach, guest, resize

BLOCK = 128 * MiB
FIRST = PLUG_AT // BLOCK
PAGE = PLUG_AT >> 12


def grown(release: str = "linux-6.12", count: int = 1, online: str = "online_movable") -> Kernel:
    k = kernel("x86_64", release)
    plug(k, count * BLOCK)
    add_memory(k, 0, PLUG_AT, count * BLOCK)
    for block in range(FIRST, FIRST + count):
        state_store(k, block, online)
    return k


def corrupted(k: Kernel) -> int:
    """``HardwareCorrupted`` of /proc/meminfo, in pages."""
    return derive(k).meminfo["HardwareCorrupted"] // 4


class TestPoisonedPages:
    """linux-7.2 mm/memory-failure.c:action_result, drivers/base/memory.c:remove_memory_block_devices."""

    def test_each_is_counted_once_whatever_becomes_of_it(self) -> None:
        k = grown(online="online_kernel")
        assert take_pages_off_buddy(k, Span(PAGE + 7, PAGE + 8), Owner(Use.KERNEL, "slab"), "t")
        memory_failure(k, PAGE)
        assert refused(memory_failure, k, PAGE + 7).errno == EBUSY
        assert refused(memory_failure, k, PAGE).name == "EHWPOISON"
        assert corrupted(k) == 2

    def test_they_are_counted_for_as_long_as_their_block_is_there_online_or_not(self) -> None:
        k = grown(count=2)
        memory_failure(k, PAGE)
        memory_failure(k, PAGE + (BLOCK >> 12))
        for block in (FIRST, FIRST + 1):
            state_store(k, block, "offline")
        assert corrupted(k) == 2
        remove_memory(k, PLUG_AT, BLOCK)
        assert corrupted(k) == 1
        remove_memory(k, PLUG_AT + BLOCK, BLOCK)
        assert corrupted(k) == 0

    def test_a_block_that_comes_back_is_a_new_one(self) -> None:
        k = grown()
        memory_failure(k, PAGE)
        state_store(k, FIRST, "offline")
        assert refused(state_store, k, FIRST, "online").name == "EHWPOISON"
        remove_memory(k, PLUG_AT, BLOCK)
        k.hw.unplug(Span(PAGE, PAGE + (BLOCK >> 12)), "t")
        plug(k, BLOCK)
        add_memory(k, 0, PLUG_AT, BLOCK)
        state_store(k, FIRST, "online")

    def test_kernels_that_forget_them_on_the_way_online_never_take_them_off_the_count(self) -> None:
        """6.1: ``clear_hwpoisoned_pages()`` looks for flags that ``memmap_init_range()`` has wiped."""
        k = grown("linux-6.1")
        memory_failure(k, PAGE)
        state_store(k, FIRST, "offline")
        state_store(k, FIRST, "online_movable")
        state_store(k, FIRST, "offline")
        remove_memory(k, PLUG_AT, BLOCK)
        assert corrupted(k) == 1

    def test_one_that_virtio_mem_keeps_counts_as_well(self) -> None:
        """``nr_hwpoison`` is the block's, whoever has the page: it stays offline from then on."""
        k = guest("offline")
        vm = attach(k)
        resize(k, vm, BLOCK - 2 * MiB)
        block = AT // BLOCK
        state_store(k, block, "online_movable")
        kept = (AT + BLOCK - MiB) >> 12
        assert k.page_flags.get(kept) is PageFlags.OFFLINE
        assert refused(memory_failure, k, kept).errno == EBUSY
        state_store(k, block, "offline")
        assert refused(state_store, k, block, "online_movable").name == "EHWPOISON"


def test_a_virtio_mem_driver_on_its_way_out_answers_ebusy() -> None:
    """virtio_mem_memory_notifier_cb(): ``notifier_from_errno(-EBUSY)``, where other refusals are NOTIFY_BAD."""
    k = guest("online_movable")
    vm = attach(k)
    resize(k, vm, BLOCK)
    vm.removing = True
    error = refused(state_store, k, AT // BLOCK, "offline")
    assert (error.errno, error.reason) == (EBUSY, "notifier failure")
    vm.removing = False
    state_store(k, AT // BLOCK, "offline")
    vm.removing = True
    assert refused(state_store, k, AT // BLOCK, "online").errno == EBUSY


def test_what_a_notifier_answers_is_what_the_writer_of_state_gets() -> None:
    """notifier_to_errno(): NOTIFY_BAD is EPERM, an answer with an errno that errno; nobody behind it is asked."""
    for answer, errno in (("mine", EPERM), (Refusal("mine", EBUSY), EBUSY)):
        k = grown()
        asked: list[str] = []

        def second(_k: Kernel, action: str, _pfn: int, _nr: int, asked: list[str] = asked) -> str:
            asked.append(action)
            return ""

        def first(_k: Kernel, action: str, _pfn: int, _nr: int, answer: str | Refusal = answer) -> str | Refusal:
            return answer if action == "MEM_GOING_OFFLINE" else ""

        k.statics(Chains).memory += [first, second]
        error = refused(state_store, k, FIRST, "offline")
        assert (error.errno, error.reason, error.advice) == (errno, "notifier failure", "mine")
        assert asked == ["MEM_CANCEL_OFFLINE"], "the whole chain is told, also who never saw MEM_GOING_OFFLINE"


@pytest.mark.parametrize("refusing", ["node", "memory"])
def test_who_is_told_that_a_nodes_first_memory_does_not_come(refusing: str) -> None:
    """linux-7.2 online_pages(): the node chain is asked first; failed_addition tells both chains, memory's first."""
    k = kernel("x86_64", "linux-7.2")
    plug(k, BLOCK)
    add_memory(k, 1, PLUG_AT, BLOCK)
    heard: list[str] = []

    def node(_k: Kernel, action: str, _nid: int) -> str:
        heard.append(action)
        return "no" if refusing == "node" and action == "NODE_ADDING_FIRST_MEMORY" else ""

    def memory(_k: Kernel, action: str, _pfn: int, _nr: int) -> str:
        heard.append(action)
        return "no" if refusing == "memory" and action == "MEM_GOING_ONLINE" else ""

    k.statics(Chains).node.append(node)
    k.statics(Chains).memory.append(memory)
    assert refused(state_store, k, FIRST, "online").errno == EPERM
    asked = ["NODE_ADDING_FIRST_MEMORY", *(["MEM_GOING_ONLINE"] if refusing == "memory" else [])]
    assert heard == [*asked, "MEM_CANCEL_ONLINE", "NODE_CANCEL_ADDING_FIRST_MEMORY"]
    assert not k.nodes[1].spanned


def test_memory_that_stays_is_told_to_both_chains_whichever_refused() -> None:
    """linux-7.2 offline_pages(), failed_removal_isolated: memory_notify(), then node_notify()."""
    k = kernel("x86_64", "linux-7.2")
    plug(k, BLOCK)
    add_memory(k, 1, PLUG_AT, BLOCK)
    state_store(k, FIRST, "online_movable")
    heard: list[str] = []

    def node(_k: Kernel, action: str, _nid: int) -> str:
        heard.append(action)
        return "no" if action == "NODE_REMOVING_LAST_MEMORY" else ""

    def memory(_k: Kernel, action: str, _pfn: int, _nr: int) -> str:
        heard.append(action)
        return ""

    k.statics(Chains).node.append(node)
    k.statics(Chains).memory.append(memory)
    assert refused(state_store, k, FIRST, "offline").errno == EPERM
    assert heard == ["NODE_REMOVING_LAST_MEMORY", "MEM_CANCEL_OFFLINE", "NODE_CANCEL_REMOVING_LAST_MEMORY"]


class TestRollBackOfBlockDevices:
    """drivers/base/memory.c:create_memory_block_devices: those made before the one that failed go as ever."""

    def test_they_are_gone_and_their_locks_were_passed(self) -> None:
        k = kernel("x86_64")
        create_memory_block_devices(k, PLUG_AT + 2 * BLOCK, BLOCK, 0)
        recorder = Recorder()
        k.hw.stepper = recorder
        with pytest.raises(KernelError, match=f"memory block {FIRST + 2} is there already"):
            create_memory_block_devices(k, PLUG_AT, 4 * BLOCK, 0)
        k.hw.stepper = None
        assert not k.memory_blocks.covered(FIRST, FIRST + 2)
        assert k.memory_blocks.covered(FIRST, FIRST + 4) == 1
        for block in (FIRST, FIRST + 1):
            locked = [each for each in recorder.accesses if each[:2] == ("lock", device_lock(block))]
            assert len(locked) == 2, "__device_attach() and device_del() each take it"

    def test_who_looked_one_up_meanwhile_keeps_it_until_he_lets_go(self) -> None:
        k = kernel("x86_64")
        devices = k.statics(BlockDevices).by_id
        found: list[Device | None] = []

        class Reader(Recorder):
            """Somebody who finds the first block as soon as it is there."""

            def step(self, access: Access) -> None:
                if not found and k.memory_blocks.get(FIRST) is not None:
                    found.append(None)
                    k.hw.stepper = None
                    found[0] = find_memory_block_by_id(k, FIRST)
                    k.hw.stepper = self

        create_memory_block_devices(k, PLUG_AT + 2 * BLOCK, BLOCK, 0)
        k.hw.stepper = Reader()
        assert refused(create_memory_block_devices, k, PLUG_AT, 4 * BLOCK, 0).name == "EEXIST"
        k.hw.stepper = None
        (dev,) = found
        assert dev is not None and devices.get(FIRST) is None
        assert dev.refs == 1 and not dev.slab.freed_by
        memory_block_put(k, dev)
        assert dev.slab.freed_by and not k.hw.violations


class TestSectionIndex:
    """mm/sparse.c:sparse_index_init: SECTIONS_PER_ROOT is a page by sixteen bytes, 256 sections of 128 MiB."""

    ROOT = 4 * KiB // MEM_SECTION_SIZE * BLOCK

    def test_a_root_that_cannot_be_allocated_fails_the_add_which_leaves_nothing(self) -> None:
        k = kernel("x86_64")
        plug(k, BLOCK, at=self.ROOT)
        before = snapshot(k)
        k.hw.faults = Failing("mm/sparse.c:sparse_index_init", 1)
        error = refused(add_memory, k, 0, self.ROOT, BLOCK)
        k.hw.faults = None
        assert (error.name, error.place) == ("ENOMEM", "mm/sparse.c:sparse_index_init")
        assert k.memory_blocks.get(self.ROOT // BLOCK) is None and k.mem_section.get(self.ROOT // BLOCK) is None
        add_memory(k, 0, self.ROOT, BLOCK)
        remove_memory(k, self.ROOT, BLOCK)
        k.hw.unplug(Span(self.ROOT >> 12, self.ROOT + BLOCK >> 12), "t")
        assert check_all(k, before) == []

    def test_none_is_needed_where_boot_memory_has_the_root_nor_a_second_time(self) -> None:
        k = kernel("x86_64")
        for at, site in ((self.ROOT - BLOCK, 1), (self.ROOT, 2)):
            plug(k, BLOCK, at=at)
            k.hw.faults = Failing("mm/sparse.c:sparse_index_init", site)
            add_memory(k, 0, at, BLOCK)
        remove_memory(k, self.ROOT, BLOCK)
        k.hw.faults = Failing("mm/sparse.c:sparse_index_init", 1)
        add_memory(k, 0, self.ROOT, BLOCK)


def test_the_first_and_the_last_pageblock_of_a_range_are_looked_at_whole() -> None:
    """isolate_single_pageblock() asks has_unmovable_pages() of the pageblock, wherever in it the range begins."""
    start = GiB // 2 >> 12
    for bad in (start, start + 2 * 512 - 1):
        k = kernel("x86_64")
        assert take_pages_off_buddy(k, Span(bad, bad + 1), Owner(Use.KERNEL, "slab"), "t")
        error = refused(start_isolate_page_range, k, start + 100, start + 2 * 512 - 100)
        assert (error.errno, f"{bad:#x}" in error.reason) == (EBUSY, True)
        zone = k.zone_of(bad)
        assert zone is not None and not zone.isolated
    assert "page dumped because: unmovable page" in log(k)
