"""Memory errors: what becomes of a page of each kind, and of the memory block that it lies in."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from kernels import PLUG_AT, OneByOne, kernel, plug
from memhp.check import check_all
from memhp.errors import KernelBug, KernelError
from memhp.facts.derive import derive, nodes_of
from memhp.hw.memory import Use
from memhp.hw.stepper import Access
from memhp.linux.choices import Arch
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.mm.memory_failure import memory_failure
from memhp.linux.mm.memory_hotplug_add import add_memory
from memhp.linux.mm.users import Kind, allocate, free, spans_of
from memhp.linux.mmzone import PageFlags
from memhp.linux.state import Kernel
from memhp.units import MiB
from steppers import Recorder

BAD = PLUG_AT + 5 * MiB >> 12
BLOCK = PLUG_AT // (128 * MiB)


def grown() -> Kernel:
    k = kernel("x86_64")
    plug(k, 2 * k.memory_block_size)
    add_memory(k, 0, PLUG_AT, 2 * k.memory_block_size)
    for block in (BLOCK, BLOCK + 1):
        state_store(k, block, "online_kernel")
    return k


def outcome(k: Kernel, pfn: int = BAD) -> str:
    """How the kernel answers, and its last word on the page."""
    try:
        memory_failure(k, pfn)
    except KernelError as error:
        assert check_all(k) == []
        return f"{error.name} {k.hw.log_lines[-1].text}"
    assert check_all(k) == []
    return f"ok {k.hw.log_lines[-1].text}"


def said(name: str, page: str, result: str) -> str:
    return f"{name} Memory failure: {BAD:#x}: recovery action for {page}: {result}"


def test_a_free_page_is_taken_from_the_buddy() -> None:
    k = grown()
    zone = k.zone_of(BAD)
    assert zone is not None
    managed = zone.managed
    assert outcome(k) == said("ok", "free buddy page", "Recovered")
    assert not zone.free.covered(BAD, BAD + 1) and zone.managed == managed


def test_a_node_counts_its_bad_pages_by_what_came_of_them() -> None:
    """mm/memory-failure.c:update_per_node_mf_stats(); a page that is bad already counts no second time."""
    k = grown()
    allocate(k, 128 << 10, "pinned", "dma", at=PLUG_AT + 8 * MiB)
    held, slab = (PLUG_AT + 8 * MiB) >> 12, (PLUG_AT + 16 * MiB) >> 12
    allocate(k, 4 << 10, "kernel", "slab", at=slab << 12)
    for pfn, ends_in in ((BAD, "ok"), (held, "EBUSY"), (slab, "EBUSY"), (BAD, "EHWPOISON")):
        assert outcome(k, pfn).startswith(ends_in)
    node = next(node for node in nodes_of(k).nodes if node.nid == 0)
    shown = {name: text for name, text in node.files().items() if "/" in name}
    assert shown == {
        "memory_failure/total": "3\n",
        "memory_failure/ignored": "1\n",
        "memory_failure/failed": "1\n",
        "memory_failure/delayed": "0\n",
        "memory_failure/recovered": "1\n",
    }


@pytest.mark.parametrize(("arch", "release"), [("x86_64", "6.2"), ("riscv64", "6.12"), ("loongarch64", "7.2")])
def test_kernels_before_6_3_and_those_without_memory_failure_have_no_such_folder(arch: Arch, release: str) -> None:
    k = kernel(arch, release=release)
    assert not any("memory_failure" in name for node in nodes_of(k).nodes for name in node.files())
    assert ("HardwareCorrupted" in derive(k).meminfo) is (arch == "x86_64")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("movable", said("ok", "dirty LRU page", "Recovered")),
        ("pinned", said("EBUSY", "dirty LRU page", "Failed")),
        ("hugetlb", said("ok", "huge page", "Recovered")),
        ("hugetlb-free", said("ok", "free huge page", "Recovered")),
        ("hugetlb-reserved", said("EBUSY", "free huge page", "Failed")),
        ("kernel", said("EBUSY", "get hwpoison page", "Ignored")),
        ("slab", said("EBUSY", "get hwpoison page", "Ignored")),
        ("secretmem", said("ok", "clean unevictable LRU page", "Recovered")),
        ("guest-memfd", said("EBUSY", "clean unevictable LRU page", "Failed")),
        ("reclaimable", said("EBUSY", "get hwpoison page", "Ignored")),
        ("balloon", said("EBUSY", "get hwpoison page", "Ignored")),
        ("balloon-fixed", said("EBUSY", "get hwpoison page", "Ignored")),
    ],
)
def test_what_the_kernel_does_about_a_bad_page_depends_on_who_uses_it(kind: Kind, expected: str) -> None:
    k = grown()
    allocate(k, 4 * MiB, kind, "x", at=PLUG_AT + 4 * MiB)
    assert outcome(k) == expected
    flags = k.page_flags.get(BAD)
    assert flags is not None and PageFlags.HWPOISON in flags
    free(k, "x")
    assert check_all(k) == []
    assert k.hw.memory.use_of(BAD) is not Use.FREE, "it is never used again"


@pytest.mark.parametrize(
    ("kind", "line"),
    [("kernel", "unhandlable page."), ("pinned", "dirty LRU page still referenced by 1 users")],
)
def test_why_a_page_stays_in_use_is_said_before_the_outcome(kind: Kind, line: str) -> None:
    """mm/memory-failure.c: get_any_page() and page_action(), then action_result()."""
    k = grown()
    allocate(k, 4 * MiB, kind, "x", at=PLUG_AT + 4 * MiB)
    outcome(k)
    assert k.hw.log_lines[-2].text == f"Memory failure: {BAD:#x}: {line}"


@pytest.mark.parametrize("kind", ["hugetlb", "hugetlb-free"])
def test_of_a_huge_page_only_the_bad_page_is_lost(kind: Kind) -> None:
    k = grown()
    allocate(k, 4 * MiB, kind, "x", at=PLUG_AT + 4 * MiB)
    outcome(k)
    assert sum(span.size for span in spans_of(k, "x")) == 512
    assert k.hw.memory.used(Use.HWPOISON) == 1
    assert k.hw.memory.use_of(BAD - 1) is k.hw.memory.use_of(BAD + 1) is Use.FREE


def test_a_bad_page_is_no_reason_to_stay_online_even_where_the_kernel_goes_on_using_it() -> None:
    """``has_unmovable_pages()`` and ``test_pages_isolated()`` pass over it, whoever has it."""
    k = grown()
    allocate(k, 4096, "kernel", "slab", at=BAD << 12)
    outcome(k)
    state_store(k, BLOCK, "offline")
    with pytest.raises(KernelError) as caught:
        state_store(k, BLOCK, "online")
    assert caught.value.name == "EHWPOISON"


def test_a_bad_page_in_a_balloon_keeps_its_block_until_it_is_deflated() -> None:
    k = grown()
    allocate(k, 2 * MiB, "balloon", "guest", at=PLUG_AT + 4 * MiB)
    allocate(k, 2 * MiB, "balloon", "guest 2", at=PLUG_AT + 8 * MiB)
    outcome(k, PLUG_AT + 4 * MiB >> 12)
    with pytest.raises(KernelError, match="signal backoff") as caught:
        state_store(k, BLOCK, "offline")
    assert "poisoned in a balloon" in caught.value.advice
    free(k, "guest")
    state_store(k, BLOCK, "offline")
    assert check_all(k) == []


def test_a_page_goes_bad_once() -> None:
    k = grown()
    outcome(k)
    assert outcome(k) == said("EHWPOISON", "already poisoned page", "Failed")


def test_offline_memory_is_outside_kernel_control() -> None:
    k = grown()
    state_store(k, BLOCK, "offline")
    assert outcome(k) == f"ENXIO Memory failure: {BAD:#x}: memory outside kernel control"


@pytest.mark.parametrize("use", [Use.TABLE, Use.MEMMAP, Use.BOOT])
def test_no_kernel_survives_the_loss_of_its_own_data(use: Use) -> None:
    k = grown()
    pfn = next(start for start, _, owner in k.hw.memory.owners if owner.use is use)
    with pytest.raises(KernelBug, match="machine check"):
        memory_failure(k, pfn)


class Overtaken(OneByOne):
    """A stepper under which somebody allocates the page right before the lock of its zone is taken."""

    def __init__(self, k: Kernel) -> None:
        super().__init__()
        self.k = k
        self.flags: PageFlags | None = None
        """The page's flags then."""

    def step(self, access: Access) -> None:
        zone = self.k.zone_of(BAD)
        assert zone is not None
        if access.kind == "lock" and access.target == zone.lock and self.flags is None:
            self.flags = self.k.page_flags.get(BAD) or PageFlags.NONE
            allocate(self.k, 4096, "movable", "x", at=BAD << 12)


def test_a_free_page_is_marked_before_it_is_taken_and_looked_at_again_where_somebody_was_faster() -> None:
    """mm/memory-failure.c:memory_failure: TestSetPageHWPoison() comes first, take_page_off_buddy() is tried twice."""
    k = grown()
    k.hw.stepper = stepper = Overtaken(k)
    memory_failure(k, BAD)
    k.hw.stepper = None
    assert stepper.flags is not None and PageFlags.HWPOISON in stepper.flags
    assert k.hw.log_lines[-1].text == f"Memory failure: {BAD:#x}: recovery action for dirty LRU page: Recovered"
    assert PageFlags.HWPOISON in (k.page_flags.get(BAD) or PageFlags.NONE)
    assert check_all(k) == []


@pytest.mark.parametrize(
    ("release", "held"),
    [("5.13", False), ("5.14", True), ("6.1.87", True), ("6.1", False), ("6.8.7", True), ("6.8.8", False),
     ("6.12", False), ("7.1", False), ("7.2", True)],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["hugetlb", "hugetlb-free"])
def test_whether_lists_of_cpus_are_off_while_a_huge_page_is_dissolved(kind: Kind, release: str, held: bool) -> None:
    """__page_handle_poison(): zone_pcp_disable() around dissolve_free_hugetlb_folio() and take_page_off_buddy(), or
    drain_all_pages() between them.
    """
    k = kernel("x86_64", release)
    page = allocate(k, k.config.pmd_size, kind, "x")[0]
    k.hw.stepper = recorder = Recorder()
    memory_failure(k, page.start + 5)
    k.hw.stepper = None
    told = [word for word in recorder.told("pcp_batch_high_lock", "hugetlb_lock") if word.split()[-1].endswith("_lock")]
    taking = ["lock hugetlb_lock", "unlock hugetlb_lock"]
    around = ["lock pcp_batch_high_lock", *taking, "unlock pcp_batch_high_lock"]
    assert told == taking * (2 if kind == "hugetlb" else 1) + (around if held else taking)
