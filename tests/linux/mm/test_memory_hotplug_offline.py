"""Every reason for which memory does not go offline, in the kernel's words; and what it leaves behind."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from contextlib import suppress

import pytest

from architectures import DIRECT_MAPPED
from captures import captures, facts, open_capture
from kernels import PLUG_AT, blocks, kernel, log, pfns, picture, plug, refused
from memhp.errors import KernelError
from memhp.hw.memory import Owner, Use
from memhp.linux.choices import Arch
from memhp.linux.config import Config
from memhp.linux.drivers.base.memory import valid_zones
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.drivers.base.notify import Chains
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.mm.memory_failure import memory_failure
from memhp.linux.mm.memory_hotplug_add import MHP_MEMMAP_ON_MEMORY, MHP_NONE, add_memory
from memhp.linux.mm.memory_hotplug_offline import offline_pages
from memhp.linux.mm.memory_hotplug_online import online_pages
from memhp.linux.mm.users import allocate, free
from memhp.linux.mmzone import PageFlags, ZoneType
from memhp.linux.profiles import profile
from memhp.linux.state import Kernel
from memhp.units import GiB, KiB, MiB
from steppers import Recorder


def grown(
    arch: Arch, release: str = "linux-6.12", *, online: str = "online_movable", count: int = 2, memmap: bool = False
) -> Kernel:
    """A machine with blocks added and online."""
    k = kernel(arch, release, memmap_on_memory="Y" if memmap else "N")
    size = count * k.memory_block_size
    plug(k, size)
    add_memory(k, 0, PLUG_AT, size, MHP_MEMMAP_ON_MEMORY if memmap else MHP_NONE)
    for block in blocks(k, size):
        state_store(k, block, online)
    return k


def first_block(k: Kernel) -> int:
    return PLUG_AT // k.memory_block_size


def fails(k: Kernel, block: int) -> KernelError:
    """The refusal, which must leave the machine as it was."""
    before = picture(k)
    error = refused(state_store, k, block, "offline")
    assert picture(k) == before
    return error


def last_words(k: Kernel) -> str:
    """The last thing the kernel said of an offline attempt, as in dmesg."""
    return [line for line in log(k, "debug") if line.startswith("memory offlining")][-1]


def spoken(k: Kernel, block: int, reason: str) -> str:
    start = block * k.memory_block_size
    return f"memory offlining [mem {start:#010x}-{start + k.memory_block_size - 1:#010x}] failed due to {reason}"


# The texts themselves ----------------------------------------------------------------------------------------

REASONS = {
    "memory holes",
    "multizone range",
    "failure to isolate range",
    "node notifier failure",
    "notifier failure",
    "signal backoff",
    "unmovable page",
    "failure to dissolve huge pages",
}
"""Every text that ``offline_pages()`` of 6.12 and 7.2 gives as its reason."""


def test_real_kernels_log_refusals_in_the_form_and_with_the_reasons_that_the_model_knows() -> None:
    form = re.compile(r"memory offlining \[mem 0x[0-9a-f]{8,}-0x[0-9a-f]{8,}\] failed due to (.*)")
    found = set()
    for name in captures():
        for step in open_capture(name).values():
            for line in (step.boot_log() or "").splitlines():
                if "failed due to" in line and "memory offlining" in line:
                    match = form.search(line)
                    assert match, line
                    found.add(match[1])
    assert found == {"memory holes", "failure to isolate range", "notifier failure"}
    assert found <= REASONS


# Reasons -----------------------------------------------------------------------------------------------------


def test_memory_holes() -> None:
    """Boot memory that ends within a block: the block stays."""
    config = Config(arch="x86_64", profile=profile("linux-6.12"), page_size=4 * KiB, va_bits=48)
    k = start_kernel(MachineSpec("cut", config, (Ram(1 * MiB, 1 * GiB - 2 * MiB),)))
    error = fails(k, 7)
    assert (error.name, error.reason) == ("EINVAL", "memory holes")
    assert last_words(k) == spoken(k, 7, "memory holes")


HOLED = [name for name in captures() if name.startswith("x86_64") and "virtio-mem-default" in name]


@pytest.mark.parametrize("name", HOLED)
def test_memory_holes_of_a_real_machine(name: str) -> None:
    """QEMU's PC keeps the last 128 KiB below 1 GiB for itself: memory7 cannot go offline."""
    last = list(open_capture(name).values())[-1]
    (refusal,) = [line.split("] ", 1)[1] for line in (last.boot_log() or "").splitlines() if "memory holes" in line]
    machine = facts(name, "0-before")
    ram = [res.span for res in machine.iomem if res.name == "System RAM"]
    config = Config(
        arch="x86_64", profile=profile("linux-7.2" if "-7.2" in name else "linux-6.12"), page_size=4 * KiB, va_bits=48
    )
    spans = [Ram(span.start, span.size) for span in ram if span.size >= 1 * MiB]
    k = start_kernel(MachineSpec(name, config, tuple(spans)))
    fails(k, 7)
    assert last_words(k) == refusal


def test_multizone_range_in_kernels_that_look_for_the_zone() -> None:
    """arm64's first block lies in one zone; two zones in a block are made here by hand."""
    k = grown("x86_64", "linux-5.13")
    block = first_block(k)
    middle = pfns(k, PLUG_AT, 64 * MiB).end
    start, end, _ = k.page_zone.run_at(middle) or (0, 0, None)
    k.page_zone.set(middle, end, k.page_zone.get(pfns(k, 1 * MiB, 0).start) or next(iter(k.page_zone))[2])
    error = refused(offline_pages, k, start, k.pages_per_block, None, None)
    assert (error.name, error.reason) == ("EINVAL", "multizone range")
    assert last_words(k) == spoken(k, block, "multizone range")


def test_a_block_of_several_zones_is_refused_before_anything_is_tried_in_kernels_that_store_the_zone() -> None:
    """x86's first block holds ZONE_DMA and ZONE_DMA32."""
    k = kernel("x86_64")
    assert valid_zones(k, 0) == "none"
    error = fails(k, 0)
    assert (error.name, error.place) == ("EINVAL", "drivers/base/memory.c:memory_block_offline")
    assert not log(k, "debug") or not log(k, "debug")[-1].startswith("memory offlining")


@pytest.mark.parametrize("arch", DIRECT_MAPPED)
@pytest.mark.parametrize(("kind", "why"), [("kernel", "unmovable kernel memory"), ("reclaimable", "reclaimable")])
def test_failure_to_isolate_range(arch: Arch, kind: str, why: str) -> None:
    k = grown(arch, online="online_kernel")
    allocate(k, 64 * KiB, kind, "slab", at=PLUG_AT + 3 * MiB)  # type: ignore[arg-type]
    error = fails(k, first_block(k))
    assert (error.name, error.reason) == ("EBUSY", "failure to isolate range")
    assert why in error.advice
    assert last_words(k) == spoken(k, first_block(k), "failure to isolate range")


@pytest.mark.parametrize("arch", DIRECT_MAPPED)
def test_notifier_failure(arch: Arch) -> None:
    """Everybody who was asked before hears that nothing came of it."""
    k = grown(arch)
    heard: list[str] = []

    def listener(_: Kernel, action: str, start_pfn: int, nr_pages: int) -> str:
        heard.append(f"{action} {start_pfn:#x} {nr_pages:#x}")
        return ""

    k.statics(Chains).memory.insert(0, listener)
    k.statics(Chains).memory.append(lambda _k, action, _pfn, _n: "mine" if action == "MEM_GOING_OFFLINE" else "")
    error = fails(k, first_block(k))
    assert (error.name, error.reason, error.advice) == ("EPERM", "notifier failure", "mine")
    assert heard == ["MEM_GOING_OFFLINE 0x200000 0x8000", "MEM_CANCEL_OFFLINE 0x200000 0x8000"]
    assert last_words(k) == spoken(k, first_block(k), "notifier failure")


def test_node_notifier_failure() -> None:
    """7.2 asks the node notifiers first when a node would lose its last memory."""
    heard: list[str] = []

    def refuse(_: Kernel, action: str, nid: int) -> str:
        heard.append(f"{action} {nid}")
        return "no" if action == "NODE_REMOVING_LAST_MEMORY" else ""

    k = kernel("x86_64", "linux-7.2")
    plug(k, k.memory_block_size)
    add_memory(k, 1, PLUG_AT, k.memory_block_size)
    k.statics(Chains).node.append(refuse)
    state_store(k, first_block(k), "online_movable")
    error = fails(k, first_block(k))
    assert (error.name, error.reason) == ("EPERM", "node notifier failure")
    assert heard == [
        "NODE_ADDING_FIRST_MEMORY 1",
        "NODE_ADDED_FIRST_MEMORY 1",
        "NODE_REMOVING_LAST_MEMORY 1",
        "NODE_CANCEL_REMOVING_LAST_MEMORY 1",
    ]


@pytest.mark.parametrize("arch", DIRECT_MAPPED)
def test_signal_backoff_when_a_page_is_pinned(arch: Arch) -> None:
    """Migration is tried for ever; only a signal ends it."""
    k = grown(arch)
    allocate(k, 4 * k.config.page_size, "pinned", "dma", at=PLUG_AT + 5 * MiB)
    error = fails(k, first_block(k))
    assert (error.name, error.reason) == ("EINTR", "signal backoff")
    assert "pinned" in error.advice and f"{pfns(k, PLUG_AT + 5 * MiB, 0).start:#x}" in error.advice


def test_signal_backoff_when_there_is_no_room_to_move_to() -> None:
    k = grown("riscv64")
    with suppress(KernelError):
        for i in range(1000):
            allocate(k, 16 * MiB, "movable", f"filler{i}")
    error = refused(state_store, k, first_block(k), "offline")
    assert error.reason == "signal backoff"
    assert "no free memory to move it to" in error.advice


def test_unmovable_page_of_a_driver_that_keeps_it() -> None:
    """A logically offline page whose driver does not let go, as of a balloon."""
    k = grown("x86_64")
    span = pfns(k, PLUG_AT + 7 * MiB, 2 * MiB)
    zone = k.zone_of(span.start)
    assert zone is not None
    zone.free.remove(*span)
    k.hw.claim(span, Owner(Use.OFFLINE, "balloon"), "test")
    k.page_flags.set(*span, PageFlags.OFFLINE)
    zone.managed -= span.size
    error = fails(k, first_block(k))
    assert (error.name, error.reason) == ("EBUSY", "unmovable page")
    assert "balloon" in error.advice
    assert last_words(k) == spoken(k, first_block(k), "unmovable page")


def test_failure_to_dissolve_huge_pages() -> None:
    """The pool would have fewer pages than are reserved: hugetlb says so, and nothing goes offline."""
    k = grown("arm64")
    allocate(k, 2 * MiB, "hugetlb-reserved", "db", at=PLUG_AT + 2 * MiB)
    error = fails(k, first_block(k))
    assert (error.name, error.reason) == ("EBUSY", "failure to dissolve huge pages")
    assert "promised to a mapping" in error.advice and "nr_hugepages" in error.advice
    assert last_words(k) == spoken(k, first_block(k), "failure to dissolve huge pages")
    allocate(k, 2 * MiB, "hugetlb-free", "one more in the pool", at=PLUG_AT + k.memory_block_size)
    state_store(k, first_block(k), "offline")
    assert k.hw.memory.used(Use.HUGETLB_FREE) == 512


@pytest.mark.parametrize(("start", "pages"), [(0, 0), (1, 32767), (512, 1024)])
def test_a_range_that_is_not_pageblocks_up_to_the_end_of_a_section_is_invalid(start: int, pages: int) -> None:
    k = grown("x86_64")
    zone = k.nodes[0].zone(ZoneType.MOVABLE)
    before = picture(k)
    first = pfns(k, PLUG_AT, 0).start
    for call in (offline_pages, online_pages):
        assert refused(call, k, first + start, pages, zone, None).name == "EINVAL"
    assert picture(k) == before


# Success -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", DIRECT_MAPPED)
@pytest.mark.parametrize("release", ["linux-6.12", "linux-7.2"])
def test_movable_memory_moves_away_and_the_block_goes_offline(arch: Arch, release: str) -> None:
    k = grown(arch, release)
    allocate(k, 8 * MiB, "movable", "process", at=PLUG_AT)
    state_store(k, first_block(k), "offline")
    assert k.hw.memory.used(Use.MOVABLE) == pfns(k, 0, 8 * MiB).size
    span = pfns(k, PLUG_AT, k.memory_block_size)
    assert k.hw.memory.used(Use.DEVICE, *span) == span.size
    assert log(k, "debug")[-1] == f"Offlined Pages {span.size}"
    free(k, "process")
    assert k.hw.memory.used(Use.MOVABLE) == 0


@pytest.mark.parametrize("arch", DIRECT_MAPPED)
@pytest.mark.parametrize("memmap", [False, True])
def test_a_refused_block_that_hosts_its_struct_pages_has_its_counters_back(arch: Arch, memmap: bool) -> None:
    k = grown(arch, online="online_kernel", memmap=memmap)
    allocate(k, 64 * KiB, "kernel", "slab", at=PLUG_AT + 64 * MiB)
    fails(k, first_block(k))
    free(k, "slab")
    state_store(k, first_block(k), "offline")


def test_logically_offline_pages_that_their_driver_let_go_of_go_offline_and_were_not_managed() -> None:
    k = grown("x86_64", count=1)
    span = pfns(k, PLUG_AT + 8 * MiB, 4 * MiB)
    zone = k.zone_of(span.start)
    assert zone is not None
    zone.free.remove(*span)
    k.hw.release(span, Owner(Use.DEVICE), "test")
    k.page_flags.set(*span, PageFlags.OFFLINE | PageFlags.UNREFERENCED)
    zone.managed -= span.size
    state_store(k, first_block(k), "offline")
    assert (zone.managed, zone.present, zone.spanned) == (0, 0, 0)


@pytest.mark.parametrize(("release", "name"), [("linux-5.13", "ok"), ("linux-6.12", "EHWPOISON")])
def test_a_block_with_a_poisoned_page_goes_offline_and_newer_kernels_do_not_bring_it_back(
    release: str, name: str
) -> None:
    k = grown("x86_64", release, count=1)
    span = pfns(k, PLUG_AT + 8 * MiB, 4 * KiB)
    zone = k.zone_of(span.start)
    assert zone is not None
    memory_failure(k, span.start)
    state_store(k, first_block(k), "offline")
    assert (zone.managed, zone.present) == (0, 0)
    if name == "ok":
        state_store(k, first_block(k), "online_movable")
    else:
        error = refused(state_store, k, first_block(k), "online_movable")
        assert error.errno == 133 and "1 poisoned page" in error.reason


def test_the_last_memory_of_a_node_takes_it_out_of_the_nodes_with_memory() -> None:
    for release in ("linux-6.12", "linux-7.2"):
        k = kernel("x86_64", release)
        plug(k, k.memory_block_size)
        add_memory(k, 1, PLUG_AT, k.memory_block_size)
        assert 1 in k.node_states.online and 1 not in k.node_states.memory
        state_store(k, first_block(k), "online_kernel")
        assert {1} <= k.node_states.memory & k.node_states.normal_memory
        state_store(k, first_block(k), "offline")
        assert 1 not in k.node_states.memory | k.node_states.normal_memory
        assert 1 in k.node_states.online
        state_store(k, first_block(k), "online_movable")
        assert 1 in k.node_states.memory and 1 not in k.node_states.normal_memory


# Online ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("release", ["linux-5.13", "linux-6.12", "linux-7.2"])
@pytest.mark.parametrize("memmap", [False, True])
def test_a_notifier_that_refuses_online_leaves_the_block_offline_and_the_zone_as_it_was(
    release: str, memmap: bool
) -> None:
    k = kernel("x86_64", release, memmap_on_memory="Y" if memmap else "N")
    plug(k, k.memory_block_size)
    add_memory(k, 0, PLUG_AT, k.memory_block_size, MHP_MEMMAP_ON_MEMORY if memmap else MHP_NONE)
    heard: list[str] = []

    def refuse(_: Kernel, action: str, start_pfn: int, nr_pages: int) -> str:
        heard.append(action)
        return "not now" if action == "MEM_GOING_ONLINE" else ""

    k.statics(Chains).memory.append(refuse)
    before = picture(k)
    error = refused(state_store, k, first_block(k), "online_movable")
    assert (error.name, error.reason) == ("EPERM", "not now")
    assert picture(k) == before
    prepared = release == "linux-6.12"
    assert heard == (
        ["MEM_PREPARE_ONLINE", "MEM_GOING_ONLINE", "MEM_CANCEL_ONLINE", "MEM_FINISH_OFFLINE"]
        if prepared
        else ["MEM_GOING_ONLINE", "MEM_CANCEL_ONLINE"]
    )
    first = 0x200200 if memmap else 0x200000
    assert log(k, "debug")[-1] == f"online_pages [mem {first << 12:#010x}-0x207ffffff] failed"


def test_a_notifier_can_refuse_before_anything_is_done_in_6_12() -> None:
    k = kernel("x86_64")
    plug(k, k.memory_block_size)
    add_memory(k, 0, PLUG_AT, k.memory_block_size)
    k.statics(Chains).memory.append(lambda _k, action, _pfn, _n: "early" if action == "MEM_PREPARE_ONLINE" else "")
    before = picture(k)
    assert refused(state_store, k, first_block(k), "online").reason == "early"
    assert picture(k) == before


def test_a_zone_that_gets_its_first_memory_or_loses_its_last_has_the_zonelists_built_anew() -> None:
    k = grown("arm64", count=1)
    assert [line for line in log(k) if line.startswith("Built")] == [
        line for line in log(k) if "mobility grouping on" in line
    ]
    state_store(k, first_block(k), "offline")
    built = [line for line in log(k) if line.startswith("Built 1 zonelists, mobility grouping on.  Total pages: ")]
    assert len(built) == 2
    pages = [int(line.rsplit(" ", 1)[1]) for line in built]
    assert pages[0] - pages[1] >= 32000


@pytest.mark.parametrize(("word", "state"), [("offline", "offline"), ("online_movable", "online")])
def test_auto_online_blocks_decides_whether_added_memory_is_online(word: str, state: str) -> None:
    k = kernel("riscv64", memhp_default_state=word)
    plug(k, 2 * k.memory_block_size)
    add_memory(k, 0, PLUG_AT, 2 * k.memory_block_size)
    assert [block.state for *_, block in k.memory_blocks.runs(first_block(k), first_block(k) + 2)] == [state]


def test_lists_of_cpus_are_off_from_isolation_until_the_pages_are_out_of_the_buddy() -> None:
    """zone_pcp_disable() takes pcp_batch_high_lock before start_isolate_page_range(); zone_pcp_enable() comes after
    __offline_isolated_pages(); then the watermarks are set, once more under khugepaged_mutex as khugepaged wants them.
    """
    k = grown("x86_64", count=1)
    k.hw.stepper = recorder = Recorder()
    state_store(k, first_block(k), "offline")
    k.hw.stepper = None
    named = ("pcp_batch_high_lock", "khugepaged_mutex", "zone0/Movable.lock", "setup_per_zone_wmarks.lock")
    steps = [access for access in recorder.accesses if access.target in named]
    order = [(access.kind, str(access.target)) for access in steps]
    pcp, mutex, zone, marks = named
    assert order[0] == ("lock", pcp)
    end = order.index(("unlock", pcp))
    assert order[end - 1] == ("unlock", zone) and {name for _, name in order[:end]} == {pcp, zone}
    first, last = order.index(("lock", mutex)), order.index(("unlock", mutex))
    assert end < first and ("lock", marks) in order[end:first] and ("lock", marks) in order[first:last]


def test_an_offlining_that_is_refused_gives_the_lists_of_cpus_back() -> None:
    """offline_pages(): failed_removal_pcplists_disabled."""
    k = grown("x86_64", count=1)
    allocate(k, 4 * KiB, "pinned", "dma", at=PLUG_AT)
    fails(k, first_block(k))
    assert not k.hw.holds("pcp_batch_high_lock")
