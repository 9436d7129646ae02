"""Pages that are emptied before they go bad: what becomes of each kind, and of its memory block."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from kernels import PLUG_AT, kernel, plug
from memhp.check import check_all
from memhp.errors import KernelError
from memhp.facts.derive import meminfo_of
from memhp.hw.memory import Use
from memhp.linux.drivers.base.memory import soft_offline_page_store
from memhp.linux.drivers.base.memory_lookup import memblk_nr_poison
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.mm.memory_failure import memory_failure, memory_failure_stats
from memhp.linux.mm.memory_hotplug_add import add_memory
from memhp.linux.mm.users import Kind, allocate, pin, spans_of
from memhp.linux.mmzone import PageFlags
from memhp.linux.state import Kernel
from memhp.units import MiB

BLOCK = PLUG_AT // (128 * MiB)
BAD = PLUG_AT + 5 * MiB >> 12


@pytest.fixture
def k() -> Kernel:
    """A machine with three blocks that were plugged: of kernel memory, of movable memory, and offline."""
    k = kernel("x86_64")
    plug(k, 3 * k.memory_block_size)
    add_memory(k, 0, PLUG_AT, 3 * k.memory_block_size)
    state_store(k, BLOCK, "online_kernel")
    state_store(k, BLOCK + 1, "online_movable")
    return k


def outcome(k: Kernel, pfn: int) -> str:
    """What a write of the page's address ends in, and the last line of the log."""
    said = len(k.hw.log_lines)
    try:
        soft_offline_page_store(k, f"{pfn << 12:#x}\n")
    except KernelError as error:
        result = error.name
    else:
        result = "ok"
    assert check_all(k) == []
    return " ".join([result, *(line.text for line in k.hw.log_lines[said:])])


def poisoned(k: Kernel, pfn: int) -> bool:
    return PageFlags.HWPOISON in (k.page_flags.get(pfn) or PageFlags.NONE)


def test_a_free_page_is_taken_from_the_buddy_and_counted(k: Kernel) -> None:
    """Linux 6.12 in QEMU: no line of the log, and 4 kB more of HardwareCorrupted."""
    assert outcome(k, BAD) == "ok"
    assert poisoned(k, BAD) and k.hw.memory.use_of(BAD) is Use.HWPOISON
    assert meminfo_of(k)["HardwareCorrupted"] == 4
    assert memblk_nr_poison(k, BLOCK, BLOCK + 1) == 1


def test_the_node_does_not_count_it_among_its_memory_failures(k: Kernel) -> None:
    """mm/memory-failure.c: only action_result() calls update_per_node_mf_stats()."""
    assert outcome(k, BAD) == "ok"
    assert memory_failure_stats(k, 0)["total"] == 0


def test_a_page_that_is_poisoned_stays_as_it_is_and_that_is_no_error(k: Kernel) -> None:
    memory_failure(k, BAD)
    assert outcome(k, BAD) == f"ok Soft offline: {BAD:#x}: page already poisoned"
    assert meminfo_of(k)["HardwareCorrupted"] == 4


@pytest.mark.parametrize("kind", ["movable", "hugetlb"])
def test_what_is_on_a_page_moves_and_nobody_is_killed(k: Kernel, kind: Kind) -> None:
    allocate(k, 4 * MiB, kind, "task", at=PLUG_AT + 4 * MiB)
    assert outcome(k, BAD) == "ok"
    assert poisoned(k, BAD) and not poisoned(k, BAD + 1)
    assert sum(span.size for span in spans_of(k, "task")) == 4 * MiB >> 12
    assert not any(span.start <= BAD < span.end for span in spans_of(k, "task"))


def test_a_free_huge_page_is_dissolved(k: Kernel) -> None:
    allocate(k, 2 * MiB, "hugetlb-free", "pool", at=PLUG_AT + 4 * MiB)
    assert outcome(k, BAD) == "ok"
    assert k.hw.memory.use_of(BAD) is Use.HWPOISON and k.hw.memory.use_of(BAD + 1) is Use.FREE


@pytest.mark.parametrize("kind", ["kernel", "slab"])
def test_pages_of_the_kernel_cannot_be_handled(k: Kernel, kind: Kind) -> None:
    """What Linux 6.12 said in QEMU of the kernel's own text, and of other pages in use, with EIO."""
    allocate(k, 2 * MiB, kind, "kernel", at=PLUG_AT + 4 * MiB)
    assert outcome(k, BAD) == f"EIO Memory failure: {BAD:#x}: unhandlable page."
    assert not poisoned(k, BAD)


def test_a_pinned_page_does_not_move(k: Kernel) -> None:
    allocate(k, 2 * MiB, "movable", "dma", at=PLUG_AT + 4 * MiB)
    pin(k, "dma")
    assert outcome(k, BAD) == f"EBUSY Soft offline: {BAD:#x}: page migration failed 1"
    assert k.hw.memory.use_of(BAD) is Use.PINNED and not poisoned(k, BAD)


def test_a_page_of_private_guest_memory_is_dropped_as_a_clean_page_of_a_file(k: Kernel) -> None:
    """mm/truncate.c:mapping_evict_folio(): nobody has it mapped, and nothing ever marks it dirty."""
    allocate(k, 2 * MiB, "guest-memfd", "vm", at=PLUG_AT + 4 * MiB)
    assert outcome(k, BAD) == f"ok Soft offline: {BAD:#x}: invalidated"
    assert poisoned(k, BAD)


def test_there_must_be_memory_and_it_must_be_online(k: Kernel) -> None:
    """As Linux 6.12 in QEMU: ENXIO without memory, EIO where it is offline, EINVAL for what is no number."""
    pages = k.memory_block_size >> 12
    assert outcome(k, BAD + 2 * pages) == "EIO"
    assert outcome(k, BAD + 3 * pages) == "ENXIO"
    with pytest.raises(KernelError) as refused:
        soft_offline_page_store(k, "x")
    assert refused.value.name == "EINVAL"


def test_without_room_elsewhere_the_page_stays(k: Kernel) -> None:
    allocate(k, 2 * MiB, "movable", "task", at=PLUG_AT + 4 * MiB)
    for start, end in [tuple(span) for zone in k.zones() for span in zone.free]:
        allocate(k, (end - start) << 12, "movable", f"rest {start:#x}", at=start << 12)
    assert outcome(k, BAD) == f"ENOMEM Soft offline: {BAD:#x}: page migration failed -12"
