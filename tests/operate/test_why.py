"""``memhp why`` against real refusals: what kernels of seven architectures logged, and what was seen just before."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from functools import cache
from pathlib import Path

import msgspec
import pytest

from captures import all_captures, archive, facts, open_capture
from fake_host import CAPTURE
from memhp.cli.main import main
from memhp.errors import BadInput
from memhp.facts import dmesg, kpageflags, memory_blocks
from memhp.facts.observed import observe
from memhp.facts.open_source import open_source, steps
from memhp.facts.source import DMESG, Source
from memhp.facts.sysroot import write_sysroot
from memhp.operate.block_selection import blocks_about
from memhp.operate.remedies import BY_REASON
from memhp.operate.why import Obstacle, WhyDocument, in_order, logged, why
from memhp.operate.why_text import text_of
from memhp.units import format_size

DECIDED = {"memory holes", "notifier failure"}
"""Reasons that are told without looking at pages, which captures do not show."""


@cache
def last(name: str) -> Source:
    """The last step of a capture, which has the log of all of them."""
    return open_source(archive(name), step=steps(archive(name))[-1])


def refusals(name: str) -> list[tuple[int, str]]:
    """The blocks that the kernel refused and that are still online, with its last reason for each."""
    source = last(name)
    text = source.get(DMESG)
    failures = dmesg.parse(text).offline_failures if text else ()
    if not failures:
        return []
    memory = memory_blocks.read(source)
    found = {
        each.span.start // memory.block_size: each.reason for each in failures if each.span.size <= memory.block_size
    }
    return [(index, reason) for index, reason in found.items() if memory.by_index[index].state == "online"]


@cache
def refused() -> list[tuple[str, int, str]]:
    return [(name, block, reason) for name in all_captures() for block, reason in refusals(name)]


def test_enough_was_refused_to_be_worth_the_name() -> None:
    assert len(refused()) >= 30
    assert len({name.split("-")[0] for name, *_ in refused()}) >= 5
    assert {reason for *_, reason in refused()} >= {*DECIDED, "failure to isolate range"}


def each_once() -> list[tuple[str, int, str]]:
    """One block of each capture and reason."""
    return list({(name, reason): (name, block, reason) for name, block, reason in refused()}.values())


@pytest.mark.parametrize(("name", "block", "reason"), each_once())
def test_the_kernels_own_words_come_first_and_its_refusal_is_not_denied(name: str, block: int, reason: str) -> None:
    found = why(last(name), str(block))
    assert found.logged[0].reason == reason
    assert found.verdict in ("refused", "unclear")
    assert found.remedies[0] in (*BY_REASON[reason], *(text for text in found.remedies if "ZONE_MOVABLE" in text))
    if reason in DECIDED:
        first = found.blocks[0].obstacles[0]
        assert (first.reason, first.certain, found.verdict) == (reason, True, "refused")


def test_why_a_page_was_dumped_is_told_with_the_refusal() -> None:
    dumped = set()
    for name, block, _ in refused():
        memory, log = memory_blocks.read(last(name)), dmesg.parse(last(name).get(DMESG) or "")
        dumped |= {each.page for each in logged(log, memory.span(memory.by_index[block]))}
    assert "unmovable page" in dumped


def with_pages(root: Path, *lines: tuple[int, str, int, int]) -> Source:
    """A machine with pages of one block: flags by name ("" is none), how many, from which page of the block on."""
    memory = facts(*CAPTURE).memory
    write_sysroot(facts(*CAPTURE), root)
    pages = memory.block_size // 4096
    text = ""
    for block, name, count, at in lines:
        flags = 1 << kpageflags.KEPT[name] if name else 0
        first = block * pages + at
        text += f"memory{block}\t{flags:#x}\t{count}\t{first:#x}\t{first + count - 1:#x}\n"
    (root / "kpageflags.tsv").write_text(text)
    return open_source(root)


def blocks_in(zone: str) -> int:
    """A block in a zone."""
    return next(block.index for block in facts(*CAPTURE).memory.blocks if block.zone == zone)


PAGES = 32768
CASES = {
    "slab in a kernel zone": ("Normal", ("SLAB", 8), "refused", "failure to isolate range"),
    "slab in ZONE_MOVABLE": ("Movable", ("SLAB", 8), "goes", ""),
    "reserved pages in ZONE_MOVABLE": ("Movable", ("RESERVED", 8), "refused", "failure to isolate range"),
    "page tables": ("Normal", ("PGTABLE", 1), "refused", "failure to isolate range"),
    "pages of processes": ("Normal", ("LRU", 5000), "goes", ""),
    "free pages only": ("Normal", ("BUDDY", 8), "goes", ""),
    "a few pages without any flag": ("Normal", ("", 1), "unclear", "failure to isolate range"),
    "many pages without any flag": ("Normal", ("", 20000), "refused", "failure to isolate range"),
    "pages of a balloon": ("Movable", ("OFFLINE", 512), "unclear", "unmovable page"),
    "poisoned pages": ("Normal", ("HWPOISON", 1), "goes", ""),
    "huge pages with none free": ("Movable", ("HUGE", 512), "unclear", "failure to dissolve huge pages"),
}


@pytest.mark.parametrize("case", CASES)
def test_pages_decide_as_has_unmovable_pages_has_it(case: str, tmp_path: Path) -> None:
    zone, (name, count), verdict, reason = CASES[case]
    block = blocks_in(zone)
    rest = (block, "BUDDY", PAGES - count, count)
    found = why(with_pages(tmp_path / "root", (block, name, count, 0), rest), str(block))
    assert found.verdict == verdict
    assert [each.reason for each in found.blocks[0].obstacles] == ([reason] if reason else [])


def test_pages_that_virtio_mem_keeps_offline_are_let_go_when_their_block_is_to_go(tmp_path: Path) -> None:
    """virtio_mem_fake_offline_going_offline(): the driver drops its references; a guest of the lab showed it."""
    source = open_capture("x86_64-6.12.107+deb13-cloud-amd64-virtio-mem-default")["1-plugged"]
    block = memory_blocks.read(source).blocks[-1].index
    write_sysroot(observe(source), tmp_path)
    first = block * PAGES
    lines = ((1 << kpageflags.KEPT["OFFLINE"], 512, first), (1 << kpageflags.KEPT["BUDDY"], PAGES - 512, first + 512))
    text = "".join(f"memory{block}\t{flags:#x}\t{n}\t{at:#x}\t{at + n - 1:#x}\n" for flags, n, at in lines)
    (tmp_path / "kpageflags.tsv").write_text(text)
    found = why(open_source(tmp_path), str(block))
    assert (found.verdict, found.blocks[0].obstacles) == ("goes", [])


def test_a_device_and_a_range_name_the_same_blocks() -> None:
    source = open_capture("arm64-6.12.107+deb13-arm64-kmem-map-ram-mom0")["3-online"]
    texts = ("dax0.0", "kmem", "25-31", "0xc8000000-0xffffffff", "0xc8000000+896M")
    answers: list[WhyDocument] = [why(source, text) for text in texts]
    assert {tuple(each.block for each in found.blocks) for found in answers} == {tuple(range(25, 32))}
    assert {found.verdict for found in answers} == {"goes"}
    assert any("kpageflags" in text for text in answers[0].unseen)


def test_blocks_that_lie_apart_are_told_apart() -> None:
    source = open_capture("arm64-6.12.107+deb13-arm64-kmem-map-ram-mom0")["3-online"]
    document = why(source, "31,25-26, 28")
    assert [each.block for each in document.blocks] == [25, 26, 28, 31]
    lines = [line.split(" (")[0] for line in text_of(document).splitlines() if line.startswith("block")]
    assert lines == ["blocks 25–26", "block 28", "block 31"]
    with pytest.raises(BadInput, match=re.escape("there is no memory block 20 (there are 8–15, 25–31)")):
        why(source, "20")


@pytest.mark.parametrize(
    "about", ["", "25,", "7000", "nonsense", "0xffffff0000000", "5-3", "-1", "memory99999999999999999999"]
)
def test_what_names_no_memory_is_refused_in_one_line(about: str, capfd: pytest.CaptureFixture[str]) -> None:
    name = "arm64-6.12.107+deb13-arm64-kmem-map-ram-mom0"
    with pytest.raises(BadInput):
        why(open_capture(name)["3-online"], about)
    assert main(["why", "--machine", f"{archive(name)}/3-online", "--", about]) == 2
    assert re.fullmatch(r"memhp: .+\n", capfd.readouterr().err)


def obstacle(reason: str, *, certain: bool) -> Obstacle:
    return Obstacle(reason=reason, errno="EBUSY", place="", detail="", certain=certain)


def test_what_is_told_of_several_blocks_names_the_block_that_it_is_of() -> None:
    source = open_capture("x86_64-6.12.107+deb13-cloud-amd64-virtio-mem-movable-memmap")["5-unplugged"]
    document = why(source, "7")
    (block,) = document.blocks
    two = [block, msgspec.structs.replace(block, block=8, start=block.start + block.size)]
    text = " ".join(text_of(msgspec.structs.replace(document, blocks=two)).split())
    assert f"block 7: {block.obstacles[0].detail}" in text
    assert "block 7: 128 KiB" not in " ".join(text_of(document).split())


def test_obstacles_come_in_the_order_of_the_kernels_checks_and_end_with_the_first_that_is_certain() -> None:
    found = in_order([
        obstacle("failure to dissolve huge pages", certain=False),
        obstacle("notifier failure", certain=True),
        obstacle("failure to isolate range", certain=False),
    ])  # fmt: skip
    assert [each.reason for each in found] == ["failure to isolate range", "notifier failure"]


def test_without_root_counters_tell_how_many_blocks_of_a_zone_hold_what_does_not_move(tmp_path: Path) -> None:
    """Managed less free, LRU and huge pages: the kernel's, which fills so many blocks at least; none: all may go."""
    source = open_capture(CAPTURE[0])[CAPTURE[1]]
    index = blocks_in("Normal")
    (asked,) = why(source, str(index)).blocks
    zone = next(zone for zone in facts(*CAPTURE).zones if zone.name == "Normal")
    free = zone.free + sum(each.count for each in zone.pagesets)
    kernel = zone.managed - free - sum(count for name, count in zone.stats.items() if name.startswith("nr_zone_") and
                                       name.endswith(("_anon", "_file", "_unevictable")))  # fmt: skip
    blocks = sum(block.zone == "Normal" for block in facts(*CAPTURE).memory.blocks)
    (obstacle,) = asked.obstacles
    assert (asked.verdict, obstacle.reason, obstacle.certain) == ("unclear", "failure to isolate range", False)
    assert f"zone Normal has {format_size(kernel * 4096)} of kernel memory" in obstacle.detail
    least = max(1, -(-kernel * 4096 // facts(*CAPTURE).memory.block_size))
    assert re.search(rf"in {least} blocks? of its {blocks} at least", obstacle.detail)
    assert any("/proc/kpageflags is for root" in text for text in why(source, str(index)).unseen)


@pytest.mark.parametrize("name", [each for each in all_captures() if each.startswith(("s390x", "loongarch64"))])
def test_a_kernel_without_nodes_has_all_of_its_memory_on_node_0(name: str) -> None:
    """A kernel without CONFIG_NUMA links blocks to no node, and its zones are of node 0."""
    source = open_source(archive(name), step=steps(archive(name))[0])
    memory = memory_blocks.read(source)
    assert blocks_about(source, memory, "node0") == list(memory.blocks)
    with pytest.raises(BadInput, match="no memory block is on node1"):
        blocks_about(source, memory, "node1")
