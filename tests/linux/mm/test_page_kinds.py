"""Every kind of page that may stand in memory that is to go offline: whether it makes way, and what is said if not."""
# SPDX-License-Identifier: GPL-2.0-or-later

from errno import EBUSY
from typing import Any, NamedTuple

import pytest

from architectures import DIRECT_MAPPED
from kernels import PLUG_AT, kernel, plug
from memhp.check import check_all
from memhp.errors import BadInput, KernelError
from memhp.hw.memory import Owner, Use
from memhp.linux.choices import Arch
from memhp.linux.config import Config
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.mm import alloc_contig
from memhp.linux.mm.hugetlb import available_huge_pages
from memhp.linux.mm.memory_hotplug_add import add_memory
from memhp.linux.mm.users import DEMANDS, Kind, allocate, free, spans_of
from memhp.linux.profiles import profile
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, KiB, MiB

FIRST = PLUG_AT // (128 * MiB)


def grown(online: str, arch: Arch = "x86_64", blocks: int = 2) -> Kernel:
    """A machine of 1 GiB with blocks added and online."""
    k = kernel(arch)
    plug(k, blocks * k.memory_block_size)
    add_memory(k, 0, PLUG_AT, blocks * k.memory_block_size)
    for block in range(FIRST, FIRST + blocks):
        state_store(k, block, online)
    return k


def attempt(k: Kernel, block: int = FIRST) -> tuple[str, str, str]:
    """How taking a block offline ends: errno, the kernel's reason, and what to do. Every law holds then."""
    try:
        state_store(k, block, "offline")
    except KernelError as error:
        assert check_all(k) == []
        return error.name, error.reason, error.advice
    assert check_all(k) == []
    return "ok", "", ""


class Answer(NamedTuple):
    """What is answered in a kernel zone and in ZONE_MOVABLE (None: no such page is there), and words of the advice."""

    kernel: str
    movable: str | None
    advice: str


OK = "ok"
ISOLATE, DISSOLVE = "EBUSY failure to isolate range", "EBUSY failure to dissolve huge pages"

ANSWERS: dict[Kind, Answer] = {
    "kernel": Answer(ISOLATE, None, "end what uses it"),
    "slab": Answer(ISOLATE, None, "makes no difference"),
    "reclaimable": Answer(ISOLATE, None, "echo 2 > /proc/sys/vm/drop_caches"),
    "movable": Answer(OK, OK, ""),
    "pinned": Answer("EINTR signal backoff", "EINTR signal backoff", "end what does DMA"),
    "secretmem": Answer("EINTR signal backoff", None, "memfd_secret"),
    "guest-memfd": Answer("EINTR signal backoff", None, "shut down that VM"),
    "hugetlb": Answer(OK, OK, ""),
    "hugetlb-free": Answer(OK, OK, ""),
    "hugetlb-reserved": Answer(DISSOLVE, DISSOLVE, "raise nr_hugepages"),
    "balloon": Answer(OK, OK, ""),
    "balloon-fixed": Answer("EBUSY unmovable page", None, "deflate the balloon"),
    "boot": Answer(ISOLATE, ISOLATE, "take another block"),
}


def test_every_kind_but_gigantic_pages_which_do_not_fit_into_a_block_is_here() -> None:
    assert set(DEMANDS) - set(ANSWERS) == {"gigantic", "gigantic-free"}


@pytest.mark.parametrize("kind", ANSWERS)
@pytest.mark.parametrize("zone", ["kernel", "movable"])
def test_offlining_a_block_with_such_a_page_ends_as_it_must_and_says_what_to_do(kind: Kind, zone: str) -> None:
    k = grown(f"online_{zone}")
    answer = ANSWERS[kind]
    wanted = answer.movable if zone == "movable" else answer.kernel
    if wanted is None:
        with pytest.raises(BadInput, match="zone Movable"):
            allocate(k, 2 * MiB, kind, "x", at=PLUG_AT + 4 * MiB)
        return
    allocate(k, 2 * MiB, kind, "x", at=PLUG_AT + 4 * MiB)
    name, reason, advice = attempt(k)
    assert f"{name} {reason}".strip() == wanted
    if name == "ok":
        assert not spans_of(k, "x") or spans_of(k, "x")[0].start >> 15 != FIRST
        assert bool(spans_of(k, "x")) is (kind != "hugetlb-free"), "free huge pages are dissolved, others moved"
    else:
        assert answer.advice in advice
        free(k, "x")
        assert attempt(k)[0] == "ok", "what the advice says helps"


@pytest.mark.parametrize("arch", DIRECT_MAPPED)
def test_a_balloon_takes_other_pages_and_the_zones_manage_as_many_as_are_theirs(arch: Arch) -> None:
    k = grown("online_movable", arch)
    managed = {zone.name: zone.managed for zone in k.zones()}
    allocate(k, 4 * MiB, "balloon", "guest", at=PLUG_AT)
    size = 4 * MiB >> k.config.page_shift
    assert sum(managed.values()) - sum(zone.managed for zone in k.zones()) == size
    assert attempt(k, FIRST)[0] == "ok"
    assert k.hw.memory.used(Use.BALLOON) == size
    free(k, "guest")
    assert check_all(k) == []
    assert attempt(k, FIRST + 1)[0] == "ok"


@pytest.mark.parametrize("kind", ["hugetlb-free", "hugetlb-reserved"])
def test_a_used_huge_page_goes_into_a_free_one_of_the_pool_unless_that_is_promised(kind: Kind) -> None:
    k = grown("online_movable")
    allocate(k, 2 * MiB, "hugetlb", "db", at=PLUG_AT)
    spare = allocate(k, 2 * MiB, kind, "spare", at=PLUG_AT + 130 * MiB)
    assert available_huge_pages(k, Use.HUGETLB_FREE) == (kind == "hugetlb-free")
    assert attempt(k)[0] == "ok"
    assert (spans_of(k, "db") == spare) is (kind == "hugetlb-free")


# Gigantic pages ----------------------------------------------------------------------------------------------


def large(arch: Arch = "x86_64", **changes: Any) -> Kernel:
    """A machine of 6 GiB, all of it in kernel zones."""
    start = {"x86_64": 1 * MiB, "arm64": 1 * GiB, "riscv64": 2 * GiB}[arch]
    config = Config(arch=arch, profile=profile("linux-6.12"), page_size=4 * KiB, va_bits=48, **changes)
    return start_kernel(MachineSpec("large", config, (Ram(start, 8 * GiB - start), Ram(8 * GiB, 2 * GiB))))


@pytest.mark.parametrize(
    ("arch", "page_size", "size"),
    [("x86_64", 4, 1), ("riscv64", 4, 1), ("arm64", 4, 1), ("arm64", 16, 1), ("arm64", 64, 16)],
)
def test_gigantic_pages_are_of_1_gib_but_of_16_gib_with_64k_pages(arch: Arch, page_size: int, size: int) -> None:
    va_bits = 47 if page_size == 16 else 48
    config = Config(arch=arch, profile=profile("linux-6.12"), page_size=page_size * KiB, va_bits=va_bits)
    assert config.port.gigantic_page_size(config) == size * GiB


def test_an_x86_cpu_without_them_has_no_gigantic_pages() -> None:
    with pytest.raises(BadInput, match="no pages for gigantic memory"):
        allocate(large(gbpages=False), 1 * GiB, "gigantic", "vm")


@pytest.mark.parametrize("arch", DIRECT_MAPPED)
def test_a_gigantic_page_only_moves_into_a_free_one(arch: Arch) -> None:
    k = large(arch)
    allocate(k, 1 * GiB, "gigantic", "vm", at=8 * GiB)
    block = 8 * GiB // k.memory_block_size + 3
    if arch == "arm64":
        assert attempt(k, block)[:2] == ("EPERM", "notifier failure"), "boot memory stays"
        return
    name, reason, advice = attempt(k, block)
    assert (name, reason) == ("EINTR", "signal backoff")
    assert "no free gigantic page" in advice and "nr_hugepages of that size" in advice
    assert any(line.text.startswith("migrating pfn 200000 failed ret:-12") for line in k.hw.log_lines)
    spare = allocate(k, 1 * GiB, "gigantic-free", "spare")
    assert attempt(k, block)[0] == "ok"
    assert spans_of(k, "vm") == spare
    assert not spans_of(k, "spare"), "what moved into the pool was dissolved, also what of it lies outside the block"
    assert k.hw.memory.use_of(8 * GiB >> 12) is Use.FREE


def test_gigantic_pages_are_made_of_kernel_memory_that_others_leave() -> None:
    """``alloc_contig_pages()`` migrates what stands there, but never uses ZONE_MOVABLE."""
    k = large()
    allocate(k, 64 * MiB, "movable", "process", at=8 * GiB + 512 * MiB)
    pages = 0
    while True:
        try:
            allocate(k, 1 * GiB, "gigantic", f"vm{pages}")
        except KernelError as error:
            assert error.name == "ENOMEM"
            break
        pages += 1
    assert pages >= 6, "8 GiB to 10 GiB among them"
    assert any(span.start >= 8 * GiB >> 12 for i in range(pages) for span in spans_of(k, f"vm{i}"))
    assert check_all(k) == []


def test_a_free_gigantic_page_is_dissolved_whole_and_no_other() -> None:
    k = large()
    allocate(k, 1 * GiB, "gigantic-free", "pool", at=8 * GiB)
    allocate(k, 1 * GiB, "gigantic-free", "another")
    assert attempt(k, 8 * GiB // k.memory_block_size)[0] == "ok"
    assert not spans_of(k, "pool") and spans_of(k, "another")


def booted_with(release: str, size: int) -> Kernel:
    """An x86-64 machine with `size` bytes of RAM, none of it between 3 and 4 GiB."""
    config = Config("x86_64", profile(release), 4 * KiB, 48)
    return start_kernel(MachineSpec("large", config, (Ram(MiB, 3 * GiB), Ram(4 * GiB, size - 3 * GiB))))


@pytest.mark.parametrize(("release", "made"), [("linux-6.12", False), ("linux-7.2", True)])
def test_huge_pages_in_every_gigabyte_make_way_for_a_gigantic_one_in_7_2_only(release: str, made: bool) -> None:
    """alloc_contig_frozen_pages(): a second search takes ranges with smaller huge pages, which then have to move."""
    k = booted_with(release, 6 * GiB)
    huge = [1 * GiB + 2 * MiB, 2 * GiB, 5 * GiB - 512 * MiB, 5 * GiB, 7 * GiB - 512 * MiB]
    for at in huge:
        allocate(k, 2 * MiB, "hugetlb", f"app{at}", at=at)
    try:
        (page,) = allocate(k, 1 * GiB, "gigantic", "vm")
    except KernelError as error:
        assert not made and error.name == "ENOMEM"
        return
    assert made and page.size << 12 == GiB
    assert k.hw.memory.used(Use.HUGETLB) == len(huge) * 512, "each is somewhere else, and none is lost"


def test_a_range_without_huge_pages_is_taken_before_one_with() -> None:
    k = booted_with("linux-7.2", 6 * GiB)
    huge = [2 * GiB, 5 * GiB - 512 * MiB, 5 * GiB, 7 * GiB - 512 * MiB]
    for at in huge:
        allocate(k, 2 * MiB, "hugetlb", f"app{at}", at=at)
    (page,) = allocate(k, 1 * GiB, "gigantic", "vm")
    assert page.start << 12 == 1 * GiB
    assert {k.hw.memory.use_of(at >> 12) for at in huge} == {Use.HUGETLB}, "none had to move"


def ranges_tried(k: Kernel, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The GiB from which on alloc_contig_pages() tries to empty a range of 1 GiB, where nothing comes of any."""
    tried: list[int] = []

    def alloc_contig_range(_k: Kernel, start_pfn: int, _end_pfn: int, _owner: Owner) -> None:
        tried.append(start_pfn >> 18)
        raise KernelError(EBUSY, "not here", place="")

    monkeypatch.setattr(alloc_contig, "alloc_contig_range", alloc_contig_range)
    assert alloc_contig.alloc_contig_pages(k, 18, 0, Owner(Use.KERNEL, "wanted")) is None
    return tried


def test_a_gigantic_page_is_never_moved_to_make_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """pfn_range_valid_contig() of 7.2: a huge page that is as large as what is wanted rules the range out, twice."""
    k = booted_with("linux-7.2", 4 * GiB)
    allocate(k, GiB, "gigantic", "vm", at=GiB)
    allocate(k, GiB, "gigantic-free", "pool", at=2 * GiB)
    assert ranges_tried(k, monkeypatch) == [4, 4]


def test_a_range_with_a_hole_is_none_to_allocate(monkeypatch: pytest.MonkeyPatch) -> None:
    """pfn_range_valid_contig() asks pfn_to_online_page() and the zone of every page."""
    config = Config("x86_64", profile("linux-6.12"), 4 * KiB, 48)
    ram = (Ram(MiB, 2 * GiB - MiB), Ram(4 * GiB, GiB - 128 * MiB), Ram(5 * GiB, GiB + 256 * MiB))
    k = start_kernel(MachineSpec("holes", config, ram))
    assert ranges_tried(k, monkeypatch) == [5, 1], "neither 0, with the BIOS, nor 4; Normal before DMA32"


def test_a_node_that_lies_within_another_has_its_ranges_tried_as_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The zone of node 0 spans 4 to 8 GiB, but page_zone() of 5 to 6.5 GiB is node 1's, which comes second."""
    config = Config("x86_64", profile("linux-6.12"), 4 * KiB, 48)
    ram = (
        Ram(4 * GiB, GiB, nid=0), Ram(5 * GiB, GiB + GiB // 2, nid=1), Ram(6 * GiB + GiB // 2, GiB + GiB // 2, nid=0),
    )  # fmt: skip
    k = start_kernel(MachineSpec("crossed", config, (Ram(MiB, GiB - MiB), *ram), nodes=(0, 1)))
    assert ranges_tried(k, monkeypatch) == [4, 7, 5]


def test_a_free_huge_page_in_a_range_that_is_wanted_is_replaced_in_its_pool() -> None:
    """replace_free_hugepage_folios(): the pool has as many pages as before, and this one is not among them."""
    k = booted_with("linux-7.2", 4 * GiB)
    allocate(k, 2 * MiB, "hugetlb-free", "pool", at=GiB + 4 * MiB)
    wanted = Span(GiB >> k.config.page_shift, 2 * GiB >> k.config.page_shift)
    alloc_contig.alloc_contig_range(k, *wanted, Owner(Use.KERNEL, "wanted"))
    (page,) = spans_of(k, "pool")
    assert page.size == 512 and not page.overlaps(wanted)
    assert list(k.hw.memory.owners.runs(*wanted)) == [(*wanted, Owner(Use.KERNEL, "wanted"))]
