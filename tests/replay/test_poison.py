"""Poisoned pages of the kernel's on a real machine, and the memory block that stayed online for one of them.

A guest poisoned every page that offlining a block had met, single ones and pages of slabs, 1500 times over; then it was
asked to give its DIMM back.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re

import pytest

from captures import archive, facts
from memhp.errors import KernelError
from memhp.linux.drivers.base.memory_state import state_store
from memhp.scenario.load import loads
from memhp.target.model.run import rehearse_scenario

NAME = "x86_64-6.12.117+deb13-cloud-amd64-poison-612"
SINGLE = [0x100401, 0x10040D, 0x100434]
"""The first pages that were met, and did not come up again once they were poisoned."""
ORDER = 3
PLUG = '{ do = "plug", size = "256M", online = "kernel" }'


def last_words() -> list[str]:
    log = facts(NAME, "4-ejected").log
    assert log is not None
    return [line.text for line in log.lines]


def refused() -> int:
    """The page that the real machine met at last."""
    (pfn,) = {int(match[1], 16) for line in last_words() if (match := re.search(r"page: .* pfn:(0x\w+)", line))}
    return pfn


def test_the_page_that_was_met_at_last_is_of_a_slab_of_eight_and_poisoned() -> None:
    words = "\n".join(last_words())
    assert f"head: order:{ORDER}" in words and "page_type: f5(slab)" in words
    assert re.search(r"flags: 0x\w+\(head\|hwpoison\|", words)


@pytest.mark.parametrize("slab", [False, True])
def test_a_poisoned_slab_of_several_pages_keeps_its_block_and_single_pages_do_not(slab: bool) -> None:
    pages = [*SINGLE, *([refused()] if slab else [])]
    poison = ", ".join(f'{{ do = "poison", at = "{pfn << 12:#x}", expect = "EBUSY" }}' for pfn in pages)
    used = ", ".join(
        f'{{ do = "allocate", kind = "{kind}", size = "{size}", at = "{pfn << 12:#x}", tag = "{pfn}" }}'
        for pfn in pages
        for kind, size in [("kernel", "4K") if pfn in SINGLE else ("slab", "32K")]
    )
    text = f'steps = [{PLUG}, {used}, {poison}]\n[machine]\nsource = "{archive(NAME)}"\n'
    run, k = rehearse_scenario(loads(text))
    assert run.ok
    k.hw.log_lines.clear()
    if not slab:
        state_store(k, 32, "offline")
        return
    with pytest.raises(KernelError) as caught:
        state_store(k, 32, "offline")
    assert caught.value.reason == "failure to isolate range"
    mine = [line.text for line in k.hw.log_lines]
    assert mine[0].endswith(f"pfn:{refused():#x}")
    assert set(mine) <= set(last_words())
