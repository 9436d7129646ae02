"""What each memory block is used for, and which pages keep it from going offline."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re

import pytest

from memhp.scenario.load import loads
from memhp.scenario.result import BlockUse, Held, Run
from memhp.target.measure.counters import Gauge
from memhp.target.model.run import rehearse_scenario
from memhp.units import KiB, MiB
from scenario.examples import rehearsed


@pytest.fixture(scope="module")
def refused() -> Run:
    return rehearsed("refused.toml")[0]


def test_900_mib_of_slab_fill_seven_blocks_and_4_mib_of_the_eighth(refused: Run) -> None:
    *_, full, last = refused.steps[1].block_use
    assert full == BlockUse(first=32, last=38, use={"kernel": 128 * MiB})
    assert last == BlockUse(first=39, last=39, use={"kernel": 4 * MiB, "free": 124 * MiB})


def test_a_self_hosting_block_begins_with_a_64th_of_struct_pages() -> None:
    run, _ = rehearsed("pinned-self-hosted.toml")
    block = run.steps[0].block_use[-1]
    assert (block.first, block.use) == (32, {"memmap": 2 * MiB, "free": 126 * MiB})


@pytest.mark.parametrize("name", ["refused", "virtio-mem-day", "fragmented", "pinned-self-hosted", "page-kinds"])
def test_uses_of_all_blocks_add_up_to_the_machines_memory(name: str) -> None:
    run, k = rehearsed(f"{name}.toml")
    for step in run.steps:
        blocks = {block for each in step.blocks_after for block in range(each.first, each.last + 1)}
        told = [block for each in step.block_use for block in range(each.first, each.last + 1)]
        assert told == sorted(blocks)
        sums = dict.fromkeys(("memmap", "table"), 0)
        for each in step.block_use:
            assert sum(each.use.values()) <= run.machine.block_size
            for use in sums:
                sums[use] += each.use.get(use, 0) * (each.last - each.first + 1)
        assert (sums["memmap"], sums["table"]) == (step.memory_after.memmap, step.memory_after.page_tables)
    assert run.steps[-1].block_use == Gauge(k).block_use()


def test_all_pages_that_a_refused_block_holds_are_told_from_the_one_on_that_the_kernel_dumps(refused: Run) -> None:
    step = refused.steps[2]
    assert [each.start for each in step.refused] == [(32 + at) * 128 * MiB for at in range(8)]
    assert {each.reason for each in step.refused} == {"failure to isolate range"}
    sizes = [sum(page.size for page in each.pages) for each in step.refused]
    assert sizes == [128 * MiB] * 7 + [4 * MiB]
    dumped = [int(found[1], 16) for entry in step.log if (found := re.search(r" pfn:(0x[0-9a-f]+)", entry.text))]
    assert [each.pages[0].start // (4 * KiB) for each in step.refused] == dumped


def test_pinned_pages_are_what_keeps_movable_memory() -> None:
    run, _ = rehearsed("pinned-self-hosted.toml")
    (each,) = run.steps[2].refused
    assert (each.reason, each.pages) == (
        "signal backoff",
        [Held(start=0x1_0400_0000, size=2 * MiB, owner="pinned:dma")],
    )


def test_boot_memory_that_a_notifier_keeps_has_no_pages_in_the_way() -> None:
    text = '[machine]\npreset = "arm64-vm"\nmemory = "1G"\n[[steps]]\ndo = "offline"\nexpect = "EBUSY"\n'
    run, _ = rehearse_scenario(loads(text))
    pages = {each.reason: each.pages for each in run.steps[0].refused}
    assert pages["notifier failure"] == []
    assert pages["failure to isolate range"] != []
