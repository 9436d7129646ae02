"""What Linux would show of a modelled machine: real captures as the measure, and Linux's own tools as readers."""
# SPDX-License-Identifier: GPL-2.0-or-later

import subprocess
from pathlib import Path

import pytest

from captures import captures, facts, guests, open_capture
from check.machines import booted, config, grown, plug
from memhp.facts import lsmem
from memhp.facts.compare import STABLE, compare
from memhp.facts.derive import derive
from memhp.facts.observed import observe
from memhp.facts.open_source import open_source
from memhp.facts.sysroot import write_sysroot
from memhp.hw.memory import Owner, Use
from memhp.linux.choices import ARCHES, Arch
from memhp.linux.init import start_kernel
from memhp.linux.mm.memory_hotplug_add import add_memory_driver_managed
from memhp.linux.state import Kernel
from memhp.scenario.schema import MachineText
from memhp.spans import Span
from memhp.target.seen.sources import facts_spec
from memhp.units import KiB, MiB, TiB

BOOTED = [name for name in (*captures(), *guests()) if next(iter(open_capture(name))) == "0-before"]
"""Captures that begin before anything was plugged."""

LESS_MANAGED = {"arm64-custom-arm64-64k-virtio-mem-default": "/proc/zoneinfo node 0 Normal managed"}
"""A kernel built small keeps less for itself than the model's kernel image alone takes."""


def boot_like(name: str, step: str) -> Kernel:
    """The modelled machine booted from the facts of a capture."""
    return start_kernel(facts_spec(facts(name, step), MachineText(source=name)))


@pytest.mark.parametrize("name", BOOTED)
def test_a_machine_booted_from_a_capture_shows_what_the_capture_shows(name: str) -> None:
    real = facts(name, "0-before")
    modelled = derive(boot_like(name, "0-before"))
    differences = compare(real, modelled, sections=STABLE)
    assert [each.path for each in differences if each.path != LESS_MANAGED.get(name)] == []
    for counter in ("nr_memmap_pages", "nr_memmap_boot_pages"):
        assert modelled.vmstat.get(counter) == real.vmstat.get(counter)


@pytest.mark.parametrize("arch", ARCHES)
def test_the_tree_written_of_a_model_reads_back_as_derived(arch: Arch, tmp_path: Path) -> None:
    shown = derive(grown(config(arch)))
    write_sysroot(shown, tmp_path / "root")
    back = observe(open_source(tmp_path / "root"))
    everything = (*STABLE, "buddyinfo", "meminfo", "vmstat")
    assert compare(shown, back, sections=everything) == []


@pytest.mark.parametrize("arch", ARCHES)
def test_lsmem_prints_of_a_model_what_our_reader_prints(arch: Arch, tmp_path: Path) -> None:
    shown = derive(grown(config(arch)))
    write_sysroot(shown, tmp_path / "root")
    command = ["lsmem", "--sysroot", str(tmp_path / "root"), "--output", "RANGE,SIZE,STATE,REMOVABLE,BLOCK,NODE,ZONES"]
    real = subprocess.run(command, capture_output=True, text=True, check=True, env={"LC_ALL": "C"}).stdout
    version = subprocess.run(["lsmem", "--version"], capture_output=True, text=True, check=True).stdout
    like = lsmem.release(version.split()[-1])
    back = observe(open_source(tmp_path / "root"))
    ours = lsmem.lsmem(back.memory, memmap_on_memory=back.params.memmap_on_memory, like=like, output=lsmem.COLUMNS)
    assert ours == real


@pytest.mark.parametrize("arch", ARCHES)
def test_free_memory_is_the_same_by_zone_by_order_and_in_total(arch: Arch) -> None:
    shown = derive(grown(config(arch)))
    free = {(zone.node, zone.name): zone.free for zone in shown.zones if zone.populated}
    assert {(zone.node, zone.zone): zone.pages for zone in shown.buddyinfo} == free
    page = 4 * KiB
    assert shown.meminfo["MemFree"] * KiB == shown.vmstat["nr_free_pages"] * page == sum(free.values()) * page
    assert shown.meminfo["MemTotal"] * KiB == sum(zone.managed for zone in shown.zones) * page
    assert shown.page_size == page


def test_struct_pages_are_counted_wherever_they_are_kept() -> None:
    plain, hosted = booted(config("x86_64")), booted(config("x86_64", memmap_on_memory="Y"))
    for k in (plain, hosted):
        plug(k, 3)
        assert derive(k).vmstat["nr_memmap_pages"] == 3 * 128 * MiB // (4 * KiB) * 64 // (4 * KiB)


def test_a_kernel_without_the_counters_shows_none() -> None:
    assert "nr_memmap_pages" not in derive(booted(config("x86_64", "linux-5.13"))).vmstat
    assert derive(booted(config("arm64", "arm64-hotremove-v7"))).params.memmap_on_memory is None


def test_memory_added_to_a_second_node_is_linked_to_it() -> None:
    k = boot_like("x86_64-6.12.107+deb13-cloud-amd64-virtio-mem-default", "0-before")
    k.node_states.possible.add(1)
    start, size = TiB, 2 * k.memory_block_size
    shift = k.config.page_shift
    k.hw.plug(Span(start >> shift, start + size >> shift), Owner(Use.DEVICE, "cxl"))
    add_memory_driver_managed(k, 1, start, size, "System RAM (kmem)")
    shown = derive(k)
    assert shown.nodes is not None
    assert shown.nodes.states["online"] == shown.nodes.states["has_memory"] == (0, 1)
    assert shown.memory.auto_online == "online"
    first = shown.memory.by_index[start // k.memory_block_size]
    assert (first.nodes, first.state, first.valid_zones) == ((1,), "online", ("Normal",))
    assert [node.distance for node in shown.nodes.nodes] == [(10, 20), (20, 10)]
    assert [node.cpulist for node in shown.nodes.nodes] == [(0, 1), ()]
