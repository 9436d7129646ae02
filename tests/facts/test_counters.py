"""/proc/meminfo, /proc/vmstat and the node files of real kernels, and files that no kernel prints."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from captures import facts
from memhp.errors import BadInput
from memhp.facts import counters


def test_counters_are_the_numbers_of_their_lines() -> None:
    machine = facts("x86_64-6.12.107+deb13-cloud-amd64-virtio-mem-default", "1-plugged")
    assert machine.meminfo["MemTotal"] == 1429456
    assert machine.meminfo["HugePages_Total"] == 0
    assert machine.vmstat["nr_memmap_pages"] == 2048
    assert machine.vmstat["nr_memmap_boot_pages"] == 4096


@pytest.mark.parametrize(
    "line",
    ["MemTotal 5 kB", "MemTotal:       12", "HugePages_Total:       0 kB", "MemFree:        x kB", "MemFree:  1 kB"],
)
def test_a_meminfo_line_of_another_form_or_twice_is_refused(line: str) -> None:
    with pytest.raises(BadInput) as refused:
        counters.parse_meminfo(f"MemFree:        10 kB\n{line}\n", where="proc_meminfo")
    assert refused.value.where == "proc_meminfo:2"


@pytest.mark.parametrize("line", ["nr_free_pages", "nr_free_pages x", "pgfault 7"])
def test_a_vmstat_line_of_another_form_or_twice_is_refused(line: str) -> None:
    with pytest.raises(BadInput) as refused:
        counters.parse_vmstat(f"pgfault 1\n{line}\n", where="proc_vmstat")
    assert refused.value.where == "proc_vmstat:2"
