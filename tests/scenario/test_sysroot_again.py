"""What a rehearsal writes as ``--sysroot`` is a machine: taken up from there, it is what it was at the end."""
# SPDX-License-Identifier: GPL-2.0-or-later

from pathlib import Path
from shutil import rmtree

import pytest

from captures import archive
from memhp.facts.compare import SECTIONS, compare
from memhp.facts.derive import derive
from memhp.facts.observed import observe
from memhp.facts.open_source import open_source
from memhp.facts.usage import usage
from memhp.linux.state import Kernel
from memhp.scenario.load import loads
from memhp.target.measure.views import write_sysroot
from memhp.target.model.run import rehearse_scenario
from memhp.units import MiB

MACHINES = [
    *(f'preset = "{name}"' for name in ("x86-vm-la57", "x86-server", "arm64-16k-vm", "arm64-64k-vm", "riscv-vm-sv39")),
    'preset = "loongarch-vm"',
    *(
        f'source = "{archive(name)}"'
        for name in (
            "x86_64-6.12.117+deb13-cloud-amd64-dimm-numa2-movablenode-kaslr",
            "x86_64-6.12.107+deb13-cloud-amd64-virtio-mem-movable-clean",
            "arm64-6.1.0-56-cloud-arm64-dimm-512M",
        )
    ),
]
TOLD = tuple(section for section in SECTIONS if section not in ("buddyinfo", "vmstat"))


def rehearsed(machine: str, *steps: str) -> Kernel:
    text = "steps = [" + ", ".join(f"{{ {step} }}" for step in steps) + f"]\n[machine]\n{machine}\n"
    run, k = rehearse_scenario(loads(text))
    assert run.ok
    return k


@pytest.mark.parametrize("machine", MACHINES)
def test_a_machine_is_read_from_the_tree_that_a_rehearsal_wrote(machine: str, tmp_path: Path) -> None:
    k = rehearsed(machine, 'do = "plug", size = "2G", online = "movable"')
    write_sysroot(k, tmp_path / "root")
    again = rehearsed(f'source = "{tmp_path / "root"}"', 'do = "wait", seconds = 0')
    assert again.config.va_bits_actual == k.config.va_bits_actual
    differ = [each for each in compare(derive(k), derive(again), sections=TOLD) if "MemFree" not in each.path]
    assert differ == []


def test_the_tree_tells_what_its_kernel_said(tmp_path: Path) -> None:
    k = rehearsed('preset = "riscv-vm"', 'do = "plug", size = "1G"')
    write_sysroot(k, tmp_path / "root")
    log = open_source(tmp_path / "root").boot_log()
    assert log is not None
    assert "Early memory node ranges" in log


def test_the_tree_tells_what_memory_is_used_for_and_how_many_cpus_there_are(tmp_path: Path) -> None:
    """``zone_stat_item`` and ``node_stat_item`` of ``/proc/zoneinfo``, cpulists of nodes: as on a real machine."""
    in_use = (("movable", 100), ("reclaimable", 30), ("kernel", 50))
    steps = (f'do = "allocate", kind = "{kind}", size = "{size}M", tag = "{kind}"' for kind, size in in_use)
    k = rehearsed('preset = "x86-vm"\ncpus = 4', *steps)
    write_sysroot(k, tmp_path / "root")
    idle = rehearsed('preset = "x86-vm"\ncpus = 4')
    write_sysroot(idle, tmp_path / "idle")
    used, before = (usage(observe(open_source(tmp_path / name))) for name in ("root", "idle"))
    for kind, size in in_use:
        now, then = (sum(getattr(zone, kind) for zone in zones) for zones in (used, before))
        assert now - then == size * MiB >> 12
    assert rehearsed(f'source = "{tmp_path / "root"}"').config.nr_cpus == 4


def test_kinds_that_no_counter_tells_are_assumed(tmp_path: Path) -> None:
    write_sysroot(rehearsed('preset = "x86-vm"'), tmp_path / "root")
    zoneinfo = tmp_path / "root/proc/zoneinfo"
    kept = [line for line in zoneinfo.read_text().splitlines() if "nr_zone_" not in line and "nr_slab_" not in line]
    zoneinfo.write_text("\n".join(line for line in kept if "per-node stats" not in line) + "\n")
    run, _ = rehearse_scenario(loads(f'[machine]\nsource = "{tmp_path / "root"}"\n'))
    (kinds,) = (each for each in run.assumptions if each.what == "kinds of memory in use")
    assert kinds.basis == "assumed" and "nr_zone_" in kinds.settle


def test_without_the_folder_of_nodes_zones_tell_theirs_and_the_rest_is_assumed_on_node_0(tmp_path: Path) -> None:
    capture = archive("x86_64-6.12.117+deb13-cloud-amd64-dimm-numa2-movablenode-kaslr")
    write_sysroot(rehearsed(f'source = "{capture}"'), tmp_path / "root")
    rmtree(tmp_path / "root/sys/devices/system/node")
    run, k = rehearse_scenario(loads(f'[machine]\nsource = "{tmp_path / "root"}"\n'))
    (nodes,) = (each for each in run.assumptions if each.what == "nodes")
    told = "all CPUs and what is plugged next are on node 0; zones are where /proc/zoneinfo has them"
    assert (nodes.basis, nodes.text) == ("assumed", told)
    assert {zone.node for zone in derive(k).zones if zone.present} == {0, 1}
