"""A block with its own struct pages goes online while a device on its node is bound."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from deciding import decided, run_of
from memhp.explore.cases.block_online_vs_device import CASE, bind, device, write_online
from memhp.explore.engine.replay import replay
from memhp.linux.profiles import profile

ARCHES = ("arm64", "x86_64")


@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize("release", ["6.6", "6.12"])
def test_what_comes_before_online_pages_widens_the_node_without_the_lock(arch: str, release: str) -> None:
    """6.1: memory_block_online() calls mhp_init_memmap_on_memory() before mem_hotplug_begin()."""
    configuration = f"{arch}-4K-48-linux-{release}"
    failure = decided(CASE, "pages-locked", configuration).failure
    assert failure is not None
    reason = replay(run_of(CASE, "pages-locked", configuration), failure.schedule).reason or ""
    assert reason.startswith("data race: ")
    assert "by write to state at mm/memory_hotplug.c:" in reason
    assert "by memremap at mm/memory_hotplug.c:" in reason


@pytest.mark.parametrize("arch", ARCHES)
def test_under_the_lock_the_node_spans_both(arch: str) -> None:
    configuration = f"{arch}-4K-48-linux-6.12"
    assert decided(CASE, "block-locked", configuration).word == "safe"
    k = CASE.program("block-locked", configuration).kernel
    write_online(k)
    bind(k)
    assert k.nodes[0].end_pfn == device(k).end >> k.config.page_shift


def test_the_releases_are_on_the_sides_that_they_are_on() -> None:
    """The commit is in 6.7 and in 6.1.72."""
    sides = {name: profile(name).block_lock for name in ("6.1.71", "6.1.72", "6.6", "6.7", "6.12")}
    assert sides == {"6.1.71": "pages", "6.1.72": "whole", "6.6": "pages", "6.7": "whole", "6.12": "whole"}
