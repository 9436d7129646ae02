"""Single pages of the direct map change: which leaves are split for it, and that every page keeps its translation."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest

from memhp.check import check_all
from memhp.errors import KernelError
from memhp.hw.memory import Owner, Use
from memhp.hw.tlb import Table
from memhp.linux.arch.arm64.mm.memory_remove import addr_splits_kernel_leaf
from memhp.linux.arch.arm64.mm.pageattr import set_direct_map_valid_noflush
from memhp.linux.arch.x86.mm.pat import set_memory
from memhp.linux.choices import Arch
from memhp.linux.config import Config
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.mm.memory_hotplug_add import MHP_NONE, add_memory
from memhp.linux.mm.memory_hotplug_remove import remove_memory
from memhp.linux.mm.pgalloc import alloc_tables
from memhp.linux.profiles import profile
from memhp.linux.set_memory import set_direct_map_default_noflush, set_direct_map_invalid_noflush
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, KiB, MiB
from steppers import Recorder

START: dict[Arch, int] = {"riscv64": 2 * GiB, "arm64": GiB, "x86_64": MiB}


def boot(arch: Arch, page_size: int, va_bits: int, release: str, **options: Any) -> Kernel:
    config = Config(arch, profile(release), page_size, va_bits, **options).validate()
    return start_kernel(MachineSpec("small", config, (Ram(START[arch], 3 * GiB),)))


def leaves(k: Kernel) -> Counter[tuple[int, bool]]:
    """How many entries map memory, by height and by whether they are valid."""
    found: Counter[tuple[int, bool]] = Counter()
    todo = [k.init_mm]
    while todo:
        table = todo.pop()
        for index, entry in enumerate(k.hw.load_run(table, 0, k.hw.fmt.levels[table.height].entries).tolist()):
            if k.hw.fmt.is_table(entry, table.height):
                todo.append(k.hw.child(table, index, k.hw.fmt.table_pfn(entry)))
            elif entry:
                found[table.height, bool(entry & k.hw.fmt.valid)] += 1
    return found


def page(k: Kernel) -> int:
    """A page of memory that is mapped by the largest leaves there are."""
    return (((START[k.config.arch] // GiB + 1) * GiB) >> k.config.page_shift) + 5


CHANGES = [
    # The leaf that goes, and the leaves that come for it at lower levels: 1 GiB = 511 * 2 MiB + 512 * 4 KiB.
    ("riscv64", 4 * KiB, 39, "linux-6.12", {1: -1, 0: 512}),
    ("riscv64", 4 * KiB, 48, "linux-6.12", {2: -1, 1: 511, 0: 512}),
    ("riscv64", 4 * KiB, 57, "linux-7.2", {2: -1, 1: 511, 0: 512}),
    ("arm64", 4 * KiB, 48, "linux-7.2", {2: -1, 1: 511, 0: 512}),
    ("arm64", 16 * KiB, 47, "linux-7.2", {1: -1, 0: 2048}),
    ("arm64", 64 * KiB, 42, "linux-7.2", {1: -1, 0: 8192}),
    ("x86_64", 4 * KiB, 48, "linux-6.12", {2: -1, 1: 511, 0: 512}),
    ("x86_64", 4 * KiB, 57, "linux-7.2", {2: -1, 1: 511, 0: 512}),
]


@pytest.mark.parametrize(("arch", "page_size", "va_bits", "release", "change"), CHANGES)
def test_a_page_leaves_the_direct_map_and_comes_back(
    arch: Arch, page_size: int, va_bits: int, release: str, change: dict[int, int]
) -> None:
    k = boot(arch, page_size, va_bits, release, **({"bbml2": True} if arch == "arm64" else {}))
    before = leaves(k)
    set_direct_map_invalid_noflush(k, page(k))
    split = leaves(k)
    assert split[0, False] == 1
    assert [breach.law for breach in check_all(k)] == ["direct-map"]
    set_direct_map_default_noflush(k, page(k))
    after = leaves(k)
    assert after[0, False] == 0
    heights = range(k.hw.fmt.root_height + 1)
    assert {h: after[h, True] - before[h, True] for h in heights if after[h, True] != before[h, True]} == change
    assert check_all(k) == []
    assert k.hw.violations == []
    set_direct_map_default_noflush(k, page(k))
    assert leaves(k) == after


@pytest.mark.parametrize(("release", "left"), [("linux-6.12", 0), ("linux-7.2", 1 << 11)])
def test_arm64_marks_a_page_that_left_the_direct_map_since_7_1(release: str, left: int) -> None:
    """linux-6.12 and -7.2 arch/arm64/mm/pageattr.c:set_direct_map_invalid_noflush: bit 0 goes, in 7.2 nG comes."""
    k = boot("arm64", 4 * KiB, 48, release)
    va = k.layout.phys_to_virt(page(k) << 12)
    table = k.init_mm
    while table.height:
        table = below(k, table, va)
    index = k.hw.fmt.index(va, 0)
    before = k.hw.load(table, index)
    set_direct_map_invalid_noflush(k, page(k))
    assert k.hw.load(table, index) == before & ~1 | left
    set_direct_map_default_noflush(k, page(k))
    assert k.hw.load(table, index) == before


@pytest.mark.parametrize(("release", "flushes"), [("linux-6.12", 2), ("linux-7.2", 1)])
def test_arm64_flushes_for_a_page_that_comes_back_unless_it_knows_better(release: str, flushes: int) -> None:
    """linux-7.2 arch/arm64/mm/pageattr.c:__change_memory_common; 6.12 always flushes."""
    k = boot("arm64", 4 * KiB, 48, release)
    before = k.hw.ledger.copy()
    for valid in (False, True):
        set_direct_map_valid_noflush(k, page(k), 1, valid=valid)
    assert k.hw.ledger.since(before).flushes.total() == flushes


def test_arm64_splits_a_block_that_was_taken_out_of_the_direct_map() -> None:
    """linux-7.2 arch/arm64/mm/mmu.c:split_kernel_leaf_mapping_locked, split_pmd: pmd_present() counts such as well."""
    k = boot("arm64", 4 * KiB, 48, "linux-7.2", bbml2=True)
    first = page(k) & ~511
    set_direct_map_valid_noflush(k, first, 512, valid=False)
    out = leaves(k)
    assert out[1, False] == 1
    assert addr_splits_kernel_leaf(k, k.layout.phys_to_virt(page(k) << 12))
    set_direct_map_default_noflush(k, page(k))
    assert leaves(k) - out == Counter({(0, False): 511, (0, True): 1})
    set_direct_map_valid_noflush(k, first, 512, valid=True)
    assert leaves(k) - out == Counter({(0, True): 512})
    assert check_all(k) == []


def test_riscv_flushes_everything_even_if_nothing_could_be_changed() -> None:
    """linux-6.12 arch/riscv/mm/pageattr.c:__set_memory: flush_tlb_all() behind ``unlock``."""
    k = boot("riscv64", 4 * KiB, 48, "linux-6.12")
    for scarce in (False, True):
        before = k.hw.ledger.copy()
        if scarce:
            for zone in k.zones():
                zone.free.remove(0, 1 << 52)
        with pytest.raises(KernelError, match="ENOMEM") if scarce else nullcontext():
            set_direct_map_invalid_noflush(k, page(k) + scarce * (GiB >> 12))
        (flushed,) = k.hw.ledger.since(before).flushes
        assert flushed.function == "flush_tlb_all"


def test_arm64_takes_the_hint_from_the_whole_run_before_it_splits_one_of_it() -> None:
    """linux-7.2 arch/arm64/mm/mmu.c:split_contpmd, split_contpte: the runs around the page, and no others."""
    k = boot("arm64", 4 * KiB, 48, "linux-7.2", bbml2=True)
    set_direct_map_default_noflush(k, page(k))
    va = k.layout.phys_to_virt(page(k) << 12)
    table = k.init_mm
    while table.height > 1:
        table = below(k, table, va)
    pmds = k.hw.load_run(table, 0, 512) & k.hw.fmt.cont_mask
    assert pmds.astype(bool).tolist() == [False] * 16 + [True] * 496
    ptes = k.hw.load_run(below(k, table, va), 0, 512) & k.hw.fmt.cont_mask
    assert ptes.astype(bool).tolist() == [False] * 16 + [True] * 496


def below(k: Kernel, table: Table, va: int) -> Table:
    """The table that an entry on the way to `va` points to."""
    index = k.hw.fmt.index(va, table.height)
    return k.hw.child(table, index, k.hw.fmt.table_pfn(k.hw.load(table, index)))


def test_arm64_splits_a_run_of_pages_no_further_than_its_ends_need() -> None:
    k = boot("arm64", 4 * KiB, 48, "linux-7.2", bbml2=True)
    before, first = leaves(k), (2 * GiB) >> 12
    set_direct_map_valid_noflush(k, first, 16 * 512, valid=True)
    after = leaves(k)
    assert (after[2, True] - before[2, True], after[1, True] - before[1, True]) == (-1, 512)
    assert after[0, True] == before[0, True]
    assert check_all(k) == []


def test_arm64_takes_only_the_hint_from_blocks_that_end_where_the_pages_do() -> None:
    """linux-7.2 arch/arm64/mm/mmu.c:split_kernel_leaf_mapping_locked: a block that ends there is whole as it is."""
    k = boot("arm64", 4 * KiB, 48, "linux-7.2", bbml2=True)
    before, first = leaves(k), (2 * GiB + 2 * MiB) >> 12
    set_direct_map_valid_noflush(k, first, 17 * 512, valid=True)
    after = leaves(k)
    assert {key: after[key] - before[key] for key in after if after[key] != before[key]} == {
        (2, True): -1,
        (1, True): 512,
    }
    table = k.init_mm
    while table.height > 1:
        table = below(k, table, k.layout.phys_to_virt(first << 12))
    hints = (k.hw.load_run(table, 0, 512) & k.hw.fmt.cont_mask).astype(bool).tolist()
    assert hints == [False] * 32 + [True] * 480


@pytest.mark.parametrize(
    ("arch", "release"), [("riscv64", "linux-6.12"), ("arm64", "linux-7.2"), ("x86_64", "linux-6.12")]
)
@pytest.mark.parametrize("ends", ["first", "last"])
def test_the_first_and_the_last_page_of_a_leaf_split_it_as_any_other(arch: Arch, release: str, ends: str) -> None:
    k = boot(arch, 4 * KiB, 48, release, **({"bbml2": True} if arch == "arm64" else {}))
    first, before = page(k) - 5, leaves(k)
    set_direct_map_invalid_noflush(k, first if ends == "first" else first + GiB // (4 * KiB) - 1)
    after = leaves(k)
    assert {key: after[key] - before[key] for key in after if after[key] != before[key]} == {
        (2, True): -1,
        (1, True): 511,
        (0, True): 511,
        (0, False): 1,
    }


def test_arm64_without_bbml2_has_base_pages_and_splits_nothing() -> None:
    k = boot("arm64", 4 * KiB, 48, "linux-7.2")
    before = leaves(k)
    set_direct_map_invalid_noflush(k, page(k))
    set_direct_map_default_noflush(k, page(k))
    assert leaves(k) == before


def test_arm64_leaves_the_direct_map_alone_where_pages_may_not_change() -> None:
    k = boot("arm64", 4 * KiB, 48, "linux-6.12", rodata_full=False)
    before = leaves(k)
    set_direct_map_invalid_noflush(k, page(k))
    assert leaves(k) == before


def test_a_part_of_a_block_that_cannot_be_split_is_refused() -> None:
    """linux-7.2 arch/arm64/mm/pageattr.c:pageattr_pmd_entry: WARN_ON_ONCE, -EINVAL."""
    k = boot("arm64", 4 * KiB, 48, "linux-7.2", bbml2=True)
    k.config = replace(k.config, bbml2=False)
    with pytest.raises(KernelError, match="EINVAL"):
        set_direct_map_invalid_noflush(k, page(k))
    assert k.hw.log_lines[-1].text == "WARNING: at arch/arm64/mm/pageattr.c:update_range_prot"


@pytest.mark.parametrize(
    ("release", "debug_pagealloc", "taken"),
    [("6.12", False, True), ("6.12", True, False), ("7.2.6", True, False), ("7.2.7", True, True), ("7.2", False, True)],
)
def test_x86_keeps_those_apart_who_change_pages_but_not_always_under_debug_pagealloc(
    release: str, debug_pagealloc: bool, taken: bool
) -> None:
    """linux-6.12.117 and -7.2.13 arch/x86/mm/pat/set_memory.c:__change_page_attr_set_clr: debug_pagealloc_enabled()."""
    k = boot("x86_64", 4 * KiB, 48, release, debug_pagealloc=debug_pagealloc)
    k.hw.stepper = seen = Recorder()
    set_direct_map_invalid_noflush(k, page(k))
    k.hw.stepper = None
    locks = [each.kind for each in seen.accesses if each.target == "cpa_lock"]
    assert locks[:1] + locks[-1:] == (["lock", "unlock"] if taken else [])


def test_x86_gives_a_table_back_where_another_cpu_has_split_the_leaf_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """linux-6.12 arch/x86/mm/pat/set_memory.c:split_large_page: it lets cpa_lock go while it allocates."""
    one_by_one, meanwhile = (boot("x86_64", 4 * KiB, 48, "linux-6.12") for _ in range(2))
    for pfn in (page(one_by_one) + 1, page(one_by_one)):
        set_direct_map_invalid_noflush(one_by_one, pfn)
    others = [page(meanwhile) + 1]

    def alloc(k: Kernel, height: int, count: int, where: str) -> list[Span]:
        frames = alloc_tables(k, height, count, where)
        while others:
            set_direct_map_invalid_noflush(k, others.pop())
        return frames

    monkeypatch.setattr(set_memory, "alloc_tables", alloc)
    set_direct_map_invalid_noflush(meanwhile, page(meanwhile))
    assert leaves(meanwhile) == leaves(one_by_one)
    assert meanwhile.hw.memory.used(Use.TABLE) == one_by_one.hw.memory.used(Use.TABLE)


@pytest.mark.parametrize("arch", ["riscv64", "arm64", "x86_64"])
def test_without_memory_for_a_table_nothing_changes(arch: Arch) -> None:
    release = "linux-7.2" if arch == "arm64" else "linux-6.12"
    options = {"bbml2": True} if arch == "arm64" else {}
    k = boot(arch, 4 * KiB, 48, release, **options)
    for zone in k.zones():
        zone.free.remove(0, 1 << 52)
    before = leaves(k)
    with pytest.raises(KernelError, match="ENOMEM"):
        set_direct_map_invalid_noflush(k, page(k))
    assert leaves(k) == before
    assert not any(lock.writer is not None or lock.readers for lock in k.hw.locks.values())


DIMM = Span(8 * GiB, 9 * GiB)


@pytest.mark.parametrize("stepped", [False, True], ids=["whole runs", "single accesses"])
@pytest.mark.parametrize(
    ("arch", "left"),
    [
        # remove_pte_mapping() asks pte_present(), which the G of a kernel page answers: it is PROT_NONE's bit too.
        ("riscv64", {}),
        # unmap_hotplug_pte_range() asks pte_none().
        ("arm64", {}),
        # remove_pte_table() asks pte_present(), and set_memory.c took G away with P: entry and table stay.
        ("x86_64", {(0, False): 1}),
    ],
)
def test_hot_remove_meets_a_page_that_was_taken_out_of_the_direct_map(
    arch: Arch, left: dict[tuple[int, bool], int], stepped: bool
) -> None:
    k = boot(arch, 4 * KiB, 48, "linux-7.2", **({"bbml2": True} if arch == "arm64" else {}))
    frames = Span(DIMM.start >> 12, DIMM.end >> 12)
    k.hw.plug(frames, Owner(Use.DEVICE, "dimm"))
    before = leaves(k)
    add_memory(k, 0, DIMM.start, DIMM.size, MHP_NONE)
    set_direct_map_invalid_noflush(k, frames.start + 5)
    if stepped:
        k.hw.stepper = Recorder()
    remove_memory(k, DIMM.start, DIMM.size)
    k.hw.stepper = None
    after = leaves(k)
    assert {key: after[key] - before[key] for key in after | before if after[key] != before[key]} == left
    assert ("page-tables" in {breach.law for breach in check_all(k)}) is False


@pytest.mark.parametrize(
    ("release", "warnings", "stepped"),
    [("linux-6.1", 2, False), ("linux-6.12", 2, False), ("linux-6.12", 2, True), ("linux-7.2", 0, False)],
)
def test_arm64_warns_of_each_page_that_was_taken_out_and_goes_unless_its_entry_has_a_mark(
    release: str, warnings: int, stepped: bool
) -> None:
    """arch/arm64/mm/mmu.c:unmap_hotplug_pte_range: WARN_ON(!pte_present()), which PTE_PRESENT_INVALID answers."""
    k = boot("arm64", 16 * KiB, 48, release)
    frames = Span(DIMM.start >> 14, (DIMM.start + 128 * MiB) >> 14)
    k.hw.plug(frames, Owner(Use.DEVICE, "dimm"))
    add_memory(k, 0, DIMM.start, 128 * MiB, MHP_NONE)
    for page_of_a_file in (5, 5000):
        set_direct_map_invalid_noflush(k, frames.start + page_of_a_file)
    if stepped:
        k.hw.stepper = Recorder()
    remove_memory(k, DIMM.start, 128 * MiB)
    k.hw.stepper = None
    warned = [line.text for line in k.hw.log_lines if line.text.startswith("WARNING")]
    assert warned == ["WARNING: at arch/arm64/mm/mmu.c:unmap_hotplug_pte_range"] * warnings
