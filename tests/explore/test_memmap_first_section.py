"""Sections of a memory block that hosts its own struct pages, removed one by one."""
# SPDX-License-Identifier: GPL-2.0-or-later

from deciding import behaviours, counterexample, in_turn
from memhp.explore.cases.memmap_first_section import CASE, block, boot_server

WHERE = "x86_64-4K-48-linux-7.2"


def test_the_first_section_takes_the_struct_pages_of_the_others_along() -> None:
    reason, lines = counterexample(CASE, "head-first", WHERE)
    assert reason.startswith("use-after-free: ")
    assert "no memory by now" in reason
    assert lines[-1].name == "pfn walker"
    assert any(line.kind == "unplug" for line in lines if line.name == "removal")


def test_the_whole_block_goes_before_or_after_the_reader() -> None:
    assert behaviours(CASE, "whole-block", WHERE) == {((None, "read"), ()), ((None, "no page"), ())}
    assert in_turn(CASE.program("whole-block", WHERE)) == {(None, "read"), (None, "no page")}


def test_from_the_last_section_to_the_first_the_reader_finds_its_page_or_none() -> None:
    assert behaviours(CASE, "tail-first", WHERE) == {((None, "read"), ()), ((None, "no page"), ())}


def test_all_struct_pages_of_the_block_lie_in_its_first_section() -> None:
    variant = CASE.variant("whole-block")
    k = boot_server(variant.config(variant.configuration(WHERE)))
    altmap = k.altmaps[block(k).start // k.memory_block_size]
    assert k.memory_block_size == 16 * k.config.section_size
    assert 0 < altmap.alloc == altmap.free <= k.config.pages_per_section


def test_only_whole_blocks_are_a_kernel_of_today() -> None:
    current = {one.name for one in CASE.variants if one.current(one.configuration(WHERE))}
    assert current == {"whole-block"}
