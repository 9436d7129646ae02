"""Adding memory and removing it leaves page tables as they were, but for the tables that a kernel keeps on purpose."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace

import numpy as np
import pytest

from architectures import DIRECT_MAPPED
from check.defects import leaf_of, one_page, set_entry
from check.machines import booted, config, plug, unplug
from memhp.check import check_all, notes_of
from memhp.check.round_trip import compare, kept, same_memory, snapshot
from memhp.hw.memory import Owner, Use
from memhp.linux.choices import Arch
from memhp.linux.config import Config
from memhp.linux.layout import Layout
from memhp.linux.mm.pgtable_populate import Builder, ensure_table
from memhp.linux.profiles import profile
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, KiB, MiB, TiB

FRESH_ROOT_ENTRY = 2 * TiB
"""Physical memory for which the root table of a 4-level tree has nothing yet."""


def arm64(release: str, page_size: int, va_bits: int) -> Config:
    return Config(arch="arm64", profile=profile(release), page_size=page_size, va_bits=va_bits).validate()


@pytest.mark.parametrize("arch", DIRECT_MAPPED)
def test_tables_and_entries_are_the_same_again_whatever_frames_they_are_in(arch: Arch) -> None:
    k = booted(config(arch))
    before = snapshot(k)
    span = plug(k, 3)
    assert not same_memory(before, snapshot(k))
    one_page(k, Owner(Use.KERNEL, "in between"))
    unplug(k, span)
    after = snapshot(k)
    assert same_memory(before, after)
    assert compare(k.layout, before, after)[0] == []
    assert not kept(k.layout, before, after)


@pytest.mark.parametrize(("va_bits", "tables"), [(48, {2: 1}), (57, {})])
def test_x86_keeps_the_pud_table_of_a_fresh_root_entry_with_four_levels_only(
    va_bits: int, tables: dict[int, int]
) -> None:
    k = booted(replace(config("x86_64"), va_bits=va_bits))
    before = snapshot(k)
    unplug(k, plug(k, 2, FRESH_ROOT_ENTRY))
    assert kept(k.layout, before, snapshot(k)) == tables
    assert check_all(k, before) == []


@pytest.mark.parametrize(
    ("release", "va_bits", "frees"),
    [
        ("arm64-hotremove-v5", 48, True),
        ("arm64-hotremove-v6", 47, False),
        ("arm64-hotremove-v6", 48, False),
        ("arm64-hotremove-v7", 47, True),
        ("arm64-hotremove-v7", 48, False),
        ("linux-6.12", 48, True),
    ],
)
def test_arm64_with_16k_pages_keeps_emptied_vmemmap_tables_as_its_policy_says(
    release: str, va_bits: int, frees: bool
) -> None:
    k = booted(arm64(release, 16 * KiB, va_bits), 2 * GiB)
    before = snapshot(k)
    span = plug(k, 2, 16 * GiB)
    pte_table = 32 * MiB
    added = pte_tables(k.layout, span, pte_table) - pte_tables(k.layout, Span(GiB >> 14, 3 * GiB >> 14), pte_table)
    assert added
    unplug(k, span)
    assert kept(k.layout, before, snapshot(k)) == ({} if frees else {0: len(added)})
    notes = [note for note in notes_of(k, before) if note.law == "round-trip"]
    assert [note.count for note in notes] == ([] if frees else [len(added)])


def pte_tables(layout: Layout, frames: Span, reach: int) -> set[int]:
    """Which PTE tables translate the struct pages of some frames, by number."""
    memmap = layout.memmap(*frames)
    return set(range(memmap.start // reach, -(-memmap.end // reach)))


def test_a_table_that_no_policy_keeps_is_a_breach() -> None:
    k = booted(config("x86_64"))
    before = snapshot(k)
    _add_table(k, k.layout.phys_to_virt(FRESH_ROOT_ENTRY), height=1)
    assert {breach.law for breach in check_all(k, before)} == {"round-trip"}
    assert [height for height, _ in compare(k.layout, before, snapshot(k))[1]["direct map"]] == [2]


def test_a_table_that_went_although_it_was_there_before_is_a_breach() -> None:
    k = booted(config("arm64"))
    unused = k.layout.phys_to_virt(FRESH_ROOT_ENTRY)
    frame = _add_table(k, unused, height=2)
    before = snapshot(k)
    set_entry(k, k.init_mm.frame, k.hw.fmt.index(unused, k.hw.fmt.root_height), 0)
    k.hw.release(Span(frame, frame + 1), Owner(Use.KERNEL), "test")
    texts = [breach.text for breach in compare(k.layout, before, snapshot(k))[0]]
    start = unused & -(512 * GiB)
    assert texts == [f"the PUD table of the direct map at {start:#x} was there before and is gone"]


def test_an_entry_that_changed_is_a_breach() -> None:
    k = booted(config("riscv64"))
    before = snapshot(k)
    leaf = leaf_of(k, k.layout.phys_to_virt(k.layout.phys_offset))
    changed = leaf.entry ^ k.hw.fmt.bits(RSW=1)
    set_entry(k, leaf.frame, leaf.index, changed)
    texts = [breach.text for breach in compare(k.layout, before, snapshot(k))[0]]
    assert any(f"{leaf.entry & 0x3FF:#x}" in text and "before, and has not any more" in text for text in texts)
    assert any(f"{changed & 0x3FF:#x}" in text and "had not before" in text for text in texts)


def test_memory_of_boot_that_comes_back_hot_added_is_not_the_same_memory() -> None:
    k = booted(config("riscv64"))
    before = snapshot(k)
    first, last, section = next(iter(k.mem_section))
    k.mem_section.set(first, last, section._replace(early=False))
    assert not same_memory(before, snapshot(k))


def _add_table(k: Kernel, va: int, *, height: int) -> int:
    """Make an empty table of a height for an address, and those on the way to it: its frame."""
    how = Builder(
        leaves=frozenset(),
        new_table=lambda _height, _wanted: [one_page(k, Owner(Use.TABLE))],
        link="after-fill",
        occupied="keep",
        table_bits=k.hw.fmt.table_bits,
        where="test",
    )
    table = ensure_table(k.hw, k.init_mm, va, height, how)
    assert table is not None
    assert not np.any(k.hw.memory.tables(np.array([table.frame], dtype=np.uint64)))
    return table.frame
