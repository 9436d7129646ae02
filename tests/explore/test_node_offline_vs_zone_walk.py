"""The last memory of a node goes while somebody goes through the zones of all online nodes."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from deciding import counterexample, decided
from memhp.explore.cases.near_dimm import NEAR_RAM, add_near, boot_near, near_dimm, remove_near
from memhp.explore.cases.node_offline_vs_zone_walk import CASE
from memhp.linux.mm.mmzone import for_each_zone

WHERE = ("x86_64-4K-48-linux-7.2", "riscv64-4K-48-linux-6.12")


@pytest.mark.parametrize("configuration", WHERE)
def test_a_pgdat_that_is_zeroed_as_its_node_goes_leads_a_walk_to_null(configuration: str) -> None:
    """The oops that mm/memory_hotplug.c stopped in 4.0 was in next_online_pgdat(), at the offset of node_id."""
    reason, lines = counterexample(CASE, "reset-when-offline", configuration)
    assert reason.startswith("zone walk: KernelBug: ")
    assert "mm/mmzone.c:next_online_pgdat" in reason
    written, read = (
        [at for at, line in enumerate(lines) if line.text == f"{kind} node1.node_zones[].zone_pgdat"]
        for kind in ("write", "read")
    )
    assert written
    assert read[-1] > written[0]


@pytest.mark.parametrize("variant", ["reset-when-online", "reset-when-online-again"])
@pytest.mark.parametrize("configuration", WHERE)
def test_one_that_stays_leads_on_whether_its_node_is_online_or_not(configuration: str, variant: str) -> None:
    assert decided(CASE, variant, configuration).word == "safe"


def test_a_walk_comes_to_every_zone_of_online_nodes_in_order_and_to_no_other() -> None:
    variant = CASE.variant("reset-when-online")
    k = boot_near(variant.config(variant.configuration(WHERE[0])), nodes=(0, 1))
    assert near_dimm(k).start >= NEAR_RAM
    before = [(zone.nid, zone.name) for zone in for_each_zone(k)]
    assert {nid for nid, _ in before} == {0}
    add_near(k, nid=1)
    both = [(zone.nid, zone.name) for zone in for_each_zone(k)]
    assert both == before + [(1, name) for _, name in before]
    remove_near(k)
    assert [(zone.nid, zone.name) for zone in for_each_zone(k)] == before
