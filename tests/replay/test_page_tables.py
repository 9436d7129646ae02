"""Page tables of real guests: the model, booted from a guest's facts, has the same at every moment.

Hot-plugged memory is held against the guest's entry by entry. Of boot memory the model knows what each page maps to and
how, but not what the kernel did later to the protection of its image, its modules and single pages: those differences
are named. Where struct pages are stored is the allocator's choice and differs, unless the memory hosts them itself.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Iterator
from fnmatch import fnmatch

import numpy as np
import pytest

from captures import facts
from memhp.facts import iomem
from memhp.linux.layout import Layout
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, MiB, align_down, align_up
from ptcore_guests import Guest, guests
from replay.areas import Area, Position, by_page, direct_map, memmap, of_core, of_model
from replay.machines import NO_KASLR, Moment, played

each_guest = pytest.mark.parametrize("guest", guests(), ids=lambda guest: guest.name)

HOSTED = ("*-mom1",)
"""Guests whose added memory hosts its own struct pages, as dax device and as RAM; as a block device it does not."""

IN_THE_DEVICE = {"mom0": {"devdax"}, "mom1": {"devdax", "kmem-added", "online", "offlined"}}
"""When guests' memory holds its own struct pages: as dax device (``--map dev``), as RAM if its attribute says so."""

IMAGE_IN_BLOCKS = ("arm64-6.12.*-arm64-virtio-mem-*",)
"""Guests that map the alias of their kernel's code with blocks, and everything else with pages."""

MAY_CHANGE = {
    # W, X: the image and modules become read-only or executable.
    "riscv64": 1 << 2 | 1 << 3,
    # AP[2] and DBM: read-only. AttrIndx[0]: the image is mapped Normal, other RAM Normal-Tagged. Bit 1: block or page.
    "arm64": 1 << 7 | 1 << 51 | 1 << 2 | 1 << 1,
    # RW and Dirty: read-only. NX: executable. Global: set_memory_np() and set_memory_p(). PSE: 2 MiB or 4 KiB.
    "x86_64": 1 << 1 | 1 << 6 | 1 << 63 | 1 << 8 | 1 << 7,
}
"""Bits of boot memory's leaves that a running kernel changed, which the model does not follow."""


def moments(guest: Guest) -> Iterator[Moment]:
    """The model at each moment of a guest; KASLR's choices are taken from VMCOREINFO and the tables themselves."""
    return played(guest.name, guest.config.bases if "kaslr" in guest.name else NO_KASLR)


def matches(guest: Guest, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(guest.name, pattern) for pattern in patterns)


def boot_map(k: Kernel) -> Span:
    """The direct map from the first byte of boot memory to the last."""
    shift = k.config.page_shift
    pfns = list(k.boot_memory)
    return direct_map(k.layout, Span(pfns[0].start << shift, pfns[-1].end << shift))


def code_in_blocks(guest: Guest, k: Kernel) -> Span:
    """The part of the direct map that the guest maps with blocks because its kernel's code lies there."""
    if not matches(guest, IMAGE_IN_BLOCKS):
        return Span(0, 0)
    shown = facts(guest.name, guest.before).iomem
    code = next(res.span for _, res in iomem.walk(shown) if res.name == "Kernel code")
    return direct_map(k.layout, Span(align_up(code.start, 2 * MiB), align_down(code.end, 2 * MiB)))


@each_guest
@pytest.mark.parametrize("part", [direct_map, memmap])
def test_hot_memory_is_mapped_as_in_the_guest(guest: Guest, part: Callable[[Layout, Span], Span]) -> None:
    plugged = 0
    for moment in moments(guest):
        k = moment.session.k
        span = part(k.layout, guest.hot)
        mine, real = of_model(k, span).leaves, of_core(guest.core(moment.step), span).leaves
        memory_known = part is direct_map or (matches(guest, HOSTED) and not moment.step.endswith("-raw"))
        assert mine.same(real, pa=memory_known), moment.step
        plugged += bool(mine.va.size)
    assert plugged


KMEM = [guest for guest in guests() if "-kmem-" in guest.name]


@pytest.mark.parametrize("guest", KMEM, ids=lambda guest: guest.name)
def test_each_struct_page_is_kept_in_the_device_or_in_ram_as_in_the_guest(guest: Guest) -> None:
    """Entry by entry: and in the device at the same place, as ``ndctl --map`` and the device's attribute ask for it."""
    hosted = {}
    for moment in moments(guest):
        k = moment.session.k
        span = memmap(k.layout, guest.hot)
        mine, real = of_model(k, span).leaves, of_core(guest.core(moment.step), span).leaves
        device = next((region.span for region in moment.session.regions.values()), guest.hot)
        within = [(leaves.pa >= device.start) & (leaves.pa < device.end) for leaves in (mine, real)]
        assert np.array_equal(within[0], within[1]), moment.step
        assert np.array_equal(mine.pa[within[0]], real.pa[within[1]]), moment.step
        if mine.va.size:
            assert within[0].all() or not within[0].any()
            hosted[moment.step] = bool(within[0].all())
    on_device = {step for step, inside in hosted.items() if inside}
    assert {step.split("-", 1)[1] for step in on_device} == IN_THE_DEVICE[guest.name.rsplit("-", 1)[1]]
    assert {step.split("-", 1)[1] for step in hosted} >= {"pmem-raw", "devdax", "kmem-added", "online", "offlined"}


def only_in_the_guest(k: Kernel, mine: Area, real: Area) -> dict[str, set[Position]]:
    """Tables that the model lacks, by why it does."""
    boot, end = boot_map(k), k.layout.vmemmap.end
    found: dict[str, set[Position]] = {"unnamed": set(), "a leaf of boot memory was split": set(), "fixmap, PCI": set()}
    for height, va in real.tables.keys() - mine.tables.keys():
        if height == 0 and boot.start <= va < boot.end:
            found["a leaf of boot memory was split"].add((height, va))
        elif va < end < va + k.hw.fmt.levels[height + 1].size:
            found["fixmap, PCI"].add((height, va))
        else:
            found["unnamed"].add((height, va))
    return found


@each_guest
def test_the_direct_map_has_the_guests_tables(guest: Guest) -> None:
    for moment in moments(guest):
        k = moment.session.k
        span = k.layout.direct_map.span
        mine, real = of_model(k, span), of_core(guest.core(moment.step), span)
        lacking = only_in_the_guest(k, mine, real)
        assert not lacking["unnamed"]
        assert not lacking["fixmap, PCI"]
        assert bool(lacking["a leaf of boot memory was split"]) is (k.config.arch != "arm64")
        blocks = code_in_blocks(guest, k)
        assert mine.tables.keys() - real.tables.keys() == {(0, va) for va in range(*blocks, 2 * MiB)}
        common = mine.tables.keys() & real.tables.keys()
        assert {each: mine.tables[each] for each in common} == {each: real.tables[each] for each in common}


@each_guest
def test_the_vmemmap_has_the_guests_tables_and_leaves(guest: Guest) -> None:
    for moment in moments(guest):
        k = moment.session.k
        span = k.layout.vmemmap_usable
        mine, real = of_model(k, span), of_core(guest.core(moment.step), span)
        lacking = only_in_the_guest(k, mine, real)
        assert not lacking["unnamed"] and not lacking["a leaf of boot memory was split"]
        assert bool(lacking["fixmap, PCI"]) is (k.config.arch == "arm64")
        assert not mine.tables.keys() - real.tables.keys()
        assert {each: real.tables[each] for each in mine.tables} == mine.tables
        assert mine.leaves.same(real.leaves, pa=False)


@each_guest
def test_boot_memory_is_mapped_as_in_the_guest_but_for_protection(guest: Guest) -> None:
    for moment in moments(guest):
        k = moment.session.k
        span = boot_map(k)
        mine, real = by_page(of_model(k, span)), by_page(of_core(guest.core(moment.step), span))
        assert np.array_equal(mine.va, real.va) and np.array_equal(mine.pa, real.pa)
        changed = int(np.bitwise_or.reduce(mine.bits ^ real.bits))
        assert changed & ~MAY_CHANGE[k.config.arch] == 0, f"{moment.step}: {changed:#x}"
        assert changed, "what the kernel did to protect itself"
        larger = real.va[real.height > mine.height]
        assert larger.tolist() == list(range(*code_in_blocks(guest, k), k.config.page_size))
        split = real.va[real.height < mine.height]
        assert bool(split.size) is (k.config.arch != "arm64")


def left_behind(before: Area, after: Area) -> dict[Position, bool]:
    return {each: empty for each, empty in after.tables.items() if each not in before.tables}


@each_guest
def test_only_x86_with_four_levels_keeps_a_table_when_memory_goes(guest: Guest) -> None:
    steps = []
    for moment in moments(guest):
        k = moment.session.k
        spans = (k.layout.direct_map.span, k.layout.vmemmap_usable)
        core = guest.core(moment.step)
        steps.append([(of_model(k, span), of_core(core, span)) for span in spans])
    boot = boot_map(k)
    left: list[tuple[Position, bool]] = []
    for (mine_then, real_then), (mine_now, real_now) in zip(steps[0], steps[-1], strict=True):
        mine, real = left_behind(mine_then, mine_now), left_behind(real_then, real_now)
        splits = {each for each in real if each[0] == 0 and boot.start <= each[1] < boot.end}
        assert mine == {each: empty for each, empty in real.items() if each not in splits}
        assert not real_then.tables.keys() - real_now.tables.keys()
        left += mine.items()
    if guest.name.endswith("high-4level"):
        pud = align_down(k.layout.phys_to_virt(guest.hot.start), k.config.pgdir_size)
        assert left == [((2, pud), True)]
    else:
        assert left == []


def test_on_riscv_pmem_is_one_leaf_of_1_gib_and_as_ram_a_table_of_448_leaves() -> None:
    guest = next(guest for guest in guests() if guest.name.startswith("riscv64") and "-kmem-" in guest.name)
    found = {}
    for moment in moments(guest):
        k = moment.session.k
        span = direct_map(k.layout, Span(guest.hot.start & -GiB, align_up(guest.hot.end, GiB)))
        both = [of_model(k, span), of_core(guest.core(moment.step), span)]
        counts = [[int((area.leaves.height == height).sum()) for height in (0, 1, 2)] for area in both]
        assert counts[0] == counts[1]
        found[moment.step] = counts[0]
    assert found["1-pmem-raw"] == found["2-devdax"] == [0, 0, 1]
    assert found["3-kmem-added"] == found["4-online"] == found["5-offlined"] == [0, 448, 0]
    assert found["0-before"] == found["6-removed"] == [0, 0, 0]


NOTING = [guest for guest in guests() if "MODULES_VADDR" in guest.noted["vmcoreinfo"]]


@pytest.mark.parametrize("guest", NOTING, ids=lambda guest: guest.name)
def test_modules_lie_where_the_image_in_iomem_puts_them(guest: Guest) -> None:
    layout = next(moments(guest)).session.k.layout
    assert layout.modules.start == guest.noted["vmcoreinfo"]["MODULES_VADDR"]
