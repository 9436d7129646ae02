"""What single steps do to a machine: what drivers tell the kernel, what is refused, what is left when a step fails."""
# SPDX-License-Identifier: GPL-2.0-or-later

from itertools import count
from typing import Any, Literal

import pytest

from memhp.check import check_all, snapshot
from memhp.errors import BadInput, KernelBug, KernelError
from memhp.linux.choices import Arch
from memhp.linux.config import Config
from memhp.linux.init import start_kernel
from memhp.linux.mm import users
from memhp.linux.mmzone import ZoneType
from memhp.linux.profiles import profile
from memhp.scenario import schema
from memhp.scenario.presets import preset_for
from memhp.scenario.titles import title
from memhp.target.model.session import Session
from memhp.target.model.steps import RUNNERS
from memhp.units import KiB, MiB, align_up
from scenario.life import small_machine

BLOCK = 128 * MiB


def session(arch: Arch = "x86_64", release: str = "linux-6.12", **options: Any) -> Session:
    """A small machine with blocks of 128 MiB, just booted."""
    base = preset_for(arch, 4 * KiB, None)
    config = Config(arch, profile(release), 4 * KiB, base.va_bits, **options)
    return Session(start_kernel(small_machine(config)))


def do(at: Session, *steps: schema.StepKind) -> str:
    """Carry out steps: ``ok``, or the errno of the first that fails."""
    for step in steps:
        try:
            RUNNERS[type(step)](at, step)
        except KernelError as error:
            return error.name
    return "ok"


def hot_zones(at: Session) -> list[str]:
    """The zones of the blocks that were plugged, in their order."""
    spans = at.plugged
    found = []
    for span in spans:
        for first, end, block in at.k.memory_blocks.runs(span.start // BLOCK, span.end // BLOCK):
            found += [block.zone.title if block.zone is not None else ""] * (end - first)
    return found


def test_a_dimm_is_a_memory_group_of_its_own_as_long_as_it_is_there() -> None:
    at = session()
    assert do(at, schema.Plug(size=2 * BLOCK), schema.Plug(size=BLOCK, node=1)) == "ok"
    groups = list(at.k.memory_groups.values())
    assert [(group.nid, group.dynamic, group.max_pages) for group in groups] == [(0, False, 65536), (1, False, 32768)]
    assert do(at, schema.Remove()) == "ok"
    assert [group.nid for group in at.k.memory_groups.values()] == [0]
    assert do(at, schema.Remove()) == "ok"
    assert not at.k.memory_groups


def test_a_device_that_goes_in_parts_keeps_its_group_until_the_last_of_them() -> None:
    at = session()
    assert do(at, schema.Plug(size=2 * BLOCK, driver="kmem")) == "ok"
    start = at.plugged[0].start
    assert do(at, schema.Remove(at=start, size=BLOCK)) == "ok"
    assert len(at.k.memory_groups) == 1
    assert do(at, schema.Remove(at=start + BLOCK, size=BLOCK)) == "ok"
    assert not at.k.memory_groups


def test_the_virtio_mem_device_of_a_node_is_one_group_that_grows_in_blocks() -> None:
    at = session()
    plug = schema.Plug(size=BLOCK, driver="virtio_mem")
    assert do(at, plug, plug, schema.Remove(), schema.Remove(), plug) == "ok"
    (group,) = at.k.memory_groups.values()
    assert (group.dynamic, group.unit_pages) == (True, at.k.pages_per_block)


def test_kernels_before_auto_movable_know_no_groups() -> None:
    at = session(release="linux-5.13")
    assert do(at, schema.Plug(size=BLOCK)) == "ok"
    assert not at.k.memory_groups


def test_auto_movable_puts_a_dimm_into_one_zone() -> None:
    """Fifteen percent of the gibibyte of node 0 may be movable: all of a DIMM of one block, nothing of one of two."""
    at = session(online_policy="auto-movable", auto_movable_ratio=15)
    assert do(at, schema.Plug(size=2 * BLOCK, online="auto"), schema.Plug(size=BLOCK, online="auto")) == "ok"
    assert hot_zones(at) == ["Normal", "Normal", "Movable"]


def test_auto_movable_keeps_a_dimm_whole_that_began_in_a_kernel_zone() -> None:
    at = session(online_policy="auto-movable")
    assert do(at, schema.Plug(size=2 * BLOCK)) == "ok"
    first = at.plugged[0].start
    online = schema.Online(at=first, size=BLOCK, zone="kernel")
    assert do(at, online, schema.Online(at=first + BLOCK, size=BLOCK, zone="auto")) == "ok"
    assert hot_zones(at) == ["Normal", "Normal"]


@pytest.mark.parametrize(("mode", "blocks", "hosted"), [("N", 1, False), ("Y", 1, True), ("Y", 2, False)])
def test_acpi_asks_5_13_for_self_hosted_struct_pages_only_where_they_are_possible(
    mode: Literal["N", "Y"], blocks: int, hosted: bool
) -> None:
    """5.13 refuses what ``mhp_supports_memmap_on_memory()`` would deny: drivers/acpi/acpi_memhotplug.c asks first."""
    at = session(release="linux-5.13", memmap_on_memory=mode)
    assert do(at, schema.Plug(size=blocks * BLOCK)) == "ok"
    assert bool(at.k.altmaps) is hosted
    assert do(at, schema.Plug(size=BLOCK, at=at.plugged[0].start)) == "EEXIST"


def test_5_13_refuses_a_driver_that_asks_regardless() -> None:
    at = session(release="linux-5.13")
    before = snapshot(at.k)
    assert do(at, schema.Plug(size=BLOCK, memmap_on_memory=True)) == "EINVAL"
    assert not at.plugged and check_all(at.k, before) == []


@pytest.mark.parametrize(("release", "how"), [("linux-6.12", "ok"), ("linux-7.2", "EPERM")])
def test_arm64_by_7_2_refuses_to_offline_a_block_whose_struct_pages_begin_within_a_leaf(release: str, how: str) -> None:
    """arch/arm64/mm/mmu.c:can_unmap_without_split, asked about the pages behind those that hold the struct pages."""
    at = session("arm64", release, memmap_on_memory="Y")
    assert do(at, schema.Plug(size=BLOCK, online="movable")) == "ok"
    assert do(at, schema.Offline()) == how
    assert do(at, schema.Unplug()) == how


def test_memory_beyond_reach_is_refused_and_leaves_nothing() -> None:
    at = session("riscv64")
    before = snapshot(at.k)
    end = at.k.layout.pluggable_range().end
    assert do(at, schema.Plug(size=2 * BLOCK, at=end - BLOCK, expect="E2BIG")) == "E2BIG"
    assert not at.plugged and not at.k.memory_groups and check_all(at.k, before) == []


def test_x86_without_memory_keeps_the_direct_map_of_what_it_could_not_add() -> None:
    """Found by random lives: hot-add without a page for struct pages (arch/x86/mm/init_64.c:arch_add_memory)."""
    at = session()
    assert do(at, schema.Plug(size=BLOCK)) == "ok"
    before = snapshot(at.k)
    use_up(at)
    assert do(at, schema.Plug(size=BLOCK)) == "ENOMEM"
    assert {breach.law for breach in check_all(at.k, before)} == {"direct-map", "round-trip"}


def use_up(at: Session) -> None:
    """Allocate kernel memory until there is not a page more."""
    size = sum(zone.free.size for zone in at.k.zones()) * 4 * KiB
    tags = map(str, count())
    while size:
        if do(at, schema.Allocate(size=size, kind="kernel", tag=next(tags))) != "ok":
            size = size // 2 // (4 * KiB) * 4 * KiB


@pytest.mark.parametrize(
    ("arch", "release", "end"),
    [
        ("riscv64", "linux-6.12", "System is deadlocked on memory"),
        ("arm64", "linux-6.12", "System is deadlocked on memory"),
        ("arm64", "linux-7.2", "System is deadlocked on memory"),
        ("x86_64", "linux-6.12", "no memory for a page table"),
    ],
)
def test_a_kernel_dies_without_memory_for_a_table_of_the_direct_map(arch: Arch, release: str, end: str) -> None:
    """``GFP_KERNEL`` calls the OOM killer, which finds nobody; x86 asks with ``GFP_ATOMIC`` and does not look."""
    at = session(arch, release)
    use_up(at)
    at_address = align_up(at.k.max_pfn << at.k.config.page_shift, BLOCK) + 2 * at.k.config.pud_size
    with pytest.raises(KernelBug, match=end):
        do(at, schema.Plug(size=BLOCK, at=at_address))


def test_a_block_that_goes_online_where_it_is_told_to_go_is_there() -> None:
    at = session()
    assert do(at, schema.Plug(size=3 * BLOCK)) == "ok"
    first = at.plugged[0].start // BLOCK
    zones: list[schema.Zone] = ["movable", "kernel", "auto"]
    for block, zone in enumerate(zones, first):
        assert do(at, schema.Online(blocks=[block], zone=zone)) == "ok"
    kinds = [block.zone for _, _, block in at.k.memory_blocks.runs(first, first + 3)]
    assert kinds[0] is ZoneType.MOVABLE and kinds[1] is ZoneType.NORMAL
    assert do(at, schema.Online(blocks=[first])) == "EINVAL"
    assert do(at, schema.Remove()) == "EBUSY"


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (schema.Eject(at="4G"), "eject at 4G"),
        (schema.Eject(enabled=False), "eject no enabled"),
        (schema.Plug(size="1G", memmap_on_memory=False), "plug size 1G no memmap_on_memory"),
        (schema.Plug(size="1G", memmap_on_memory=True), "plug size 1G memmap_on_memory"),
    ],
)
def test_a_step_is_told_by_the_keys_that_are_not_as_usual(step: schema.StepKind, words: str) -> None:
    assert title(step) == words


# Ejecting ----------------------------------------------------------------------------------------------------


def test_a_dimm_that_is_ejected_is_unplugged_and_another_one_not() -> None:
    at = session()
    for _ in range(2):
        assert do(at, schema.Plug(size=2 * BLOCK)) == "ok"
    first, second = at.plugged
    assert do(at, schema.Eject(at=first.start)) == "ok"
    assert at.plugged == [second] and not at.k.hw.memory.owners.covered(*at.frames(first))
    assert do(at, schema.Eject()) == "ok"
    assert not at.plugged and not at.dimms and not at.k.memory_groups


def test_ejecting_may_be_forbidden() -> None:
    at = session()
    do(at, schema.Plug(size=BLOCK))
    assert do(at, schema.Eject(enabled=False)) == "EPERM"
    assert do(at, schema.Eject()) == "ok"


@pytest.mark.parametrize(
    ("before", "at", "message"),
    [
        ([], None, "there is no DIMM"),
        ([schema.Plug(size=BLOCK, driver="virtio_mem")], None, "there is no DIMM"),
        ([schema.Plug(size=2 * BLOCK, at="8G")], "9G", "no DIMM begins at 0x240000000"),
        (
            [schema.Plug(size=2 * BLOCK, at="8G"), schema.Remove(at="8G", size=BLOCK)],
            None,
            "of the DIMM is gone already",
        ),
    ],
)
def test_what_cannot_be_ejected_is_refused(before: list[schema.StepKind], at: str | None, message: str) -> None:
    here = session()
    for step in before:
        assert do(here, step) == "ok"
    with pytest.raises(BadInput, match=message):
        do(here, schema.Eject(at=at))


def test_a_dimm_that_was_taken_away_otherwise_is_forgotten() -> None:
    at = session()
    do(at, schema.Plug(size=2 * BLOCK))
    assert do(at, schema.Unplug()) == "ok"
    assert not at.dimms and not at.k.memory_groups


# Memory errors -----------------------------------------------------------------------------------------------


def test_a_memory_error_takes_the_page_at_an_address_or_the_first_of_an_allocation() -> None:
    at = session()
    do(at, schema.Allocate(size="1M", kind="kernel", tag="slab"))
    pfn = users.spans_of(at.k, "slab")[0].start
    assert do(at, schema.Poison(tag="slab")) == "EBUSY"
    assert do(at, schema.Poison(at=pfn * at.k.config.page_size)) == "EHWPOISON"


@pytest.mark.parametrize("step", [schema.Poison(), schema.Poison(at="1G", tag="slab")])
def test_a_memory_error_is_at_one_page(step: schema.Poison) -> None:
    with pytest.raises(BadInput, match="which page"):
        do(session(), step)
