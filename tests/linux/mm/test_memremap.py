"""ZONE_DEVICE: a device's memory gets struct pages, somebody holds it, and it goes again."""
# SPDX-License-Identifier: GPL-2.0-or-later

from errno import EINVAL, ENODEV, ENOMEM, ENXIO
from typing import Any

import pytest

from architectures import DIRECT_MAPPED
from kernels import PLUG_AT, kernel, log, one_by_one, pfns, plug, refused
from memhp.check import check_all
from memhp.errors import KernelBug, KernelError
from memhp.hw.memory import Use
from memhp.hw.walker import walk
from memhp.linux.choices import Arch
from memhp.linux.config import configs
from memhp.linux.lib.percpu_refcount import PercpuRef, percpu_ref_kill
from memhp.linux.mm.altmap import VmemAltmap
from memhp.linux.mm.compound_vmemmap import vmemmap_can_optimize, vmemmap_storage_pages
from memhp.linux.mm.dev_pagemap import DevPagemap, DevPagemapOps, MemoryType, Memremap, get_dev_pagemap, put_dev_pagemap
from memhp.linux.mm.memory_hotplug_add import add_memory
from memhp.linux.mm.memremap import (
    free_zone_device_folio,
    memremap_compat_align,
    memremap_pages,
    memunmap_pages,
    pgmap_pfn_valid,
    pin_pages,
    unpin_pages,
    zone_device_page_init,
)
from memhp.linux.mm.pgalloc import PageRefs
from memhp.linux.mm.sparse import pfn_to_online_page
from memhp.linux.mmzone import ZoneRef, ZoneType
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, KiB, MiB

PRIVATE_OPS = DevPagemapOps(page_free=lambda _k, _pfn: None, migrate_to_ram=lambda _k, _pfn: None)


def device(size: int = 1 * GiB, at: int = PLUG_AT, **named: Any) -> DevPagemap:
    named.setdefault("type", MemoryType.GENERIC)
    return DevPagemap(ranges=(Span(at, at + size),), **named)


def storage(k: Kernel) -> int:
    return k.hw.memory.used(Use.MEMMAP)


def mapped(k: Kernel, address: int) -> bool:
    return walk(k.hw.memory, k.hw.fmt, k.init_mm.frame, address).pa is not None


def whole(k: Kernel, before: Any) -> None:
    """Nothing is left of a device that went, but that ZONE_DEVICE spans where it was."""
    assert not k.statics(Memremap).pgmap_array and not k.statics(PageRefs).more
    assert check_all(k, None) == []
    assert (storage(k), k.hw.memory.used(Use.TABLE)) == before


@pytest.mark.parametrize("arch", DIRECT_MAPPED)
@pytest.mark.parametrize("release", ["linux-5.13", "linux-6.12", "linux-7.2"])
def test_a_devices_memory_is_linked_to_zone_device_mapped_and_never_online(arch: Arch, release: str) -> None:
    if release == "linux-5.13" and arch == "riscv64":
        release = "riscv-hotplug-v1"
    k = kernel(arch, release)
    frames = plug(k, 1 * GiB)
    pgmap = device()
    assert memremap_pages(k, pgmap, 0) == k.layout.phys_to_virt(PLUG_AT)
    assert check_all(k) == []
    zone = k.nodes[0].zones[ZoneType.DEVICE]
    assert (zone.start_pfn, zone.spanned, zone.present, zone.managed) == (frames.start, frames.size, 0, 0)
    assert k.page_zone.get(frames.start) == ZoneRef(0, ZoneType.DEVICE)
    assert not pfn_to_online_page(k, frames.start)
    assert mapped(k, k.layout.phys_to_virt(PLUG_AT)) and mapped(k, k.layout.pfn_to_page(frames.end - 1))
    memunmap_pages(k, pgmap)
    assert check_all(k) == []
    assert not mapped(k, k.layout.phys_to_virt(PLUG_AT)) and not mapped(k, k.layout.pfn_to_page(frames.start))
    assert zone.spanned == frames.size, "ZONE_DEVICE does not shrink"


@pytest.mark.parametrize("arch", ["riscv64", "x86_64"])
@pytest.mark.parametrize(("order", "compounds"), [(9, 512), (18, 1)])
def test_large_pages_of_a_device_keep_two_pages_of_struct_pages_each(arch: Arch, order: int, compounds: int) -> None:
    k = kernel(arch)
    plug(k, 1 * GiB)
    before = storage(k), k.hw.memory.used(Use.TABLE)
    pgmap = device(vmemmap_shift=order)
    memremap_pages(k, pgmap, 0)
    assert storage(k) - before[0] == 2 * compounds == vmemmap_storage_pages(k.config, GiB >> 12, order)
    assert sum(k.statics(PageRefs).more.values()) == (1 * GiB >> 12) * 64 // 4096 - 2 * compounds
    assert check_all(k) == []
    memunmap_pages(k, pgmap)
    whole(k, before)


def test_the_tails_of_a_compound_page_are_one_frame_in_every_section() -> None:
    k = kernel("x86_64")
    frames = plug(k, 1 * GiB)
    memremap_pages(k, device(vmemmap_shift=18), 0)
    per_page = 4096 // 64
    found = [
        walk(k.hw.memory, k.hw.fmt, k.init_mm.frame, k.layout.pfn_to_page(pfn)).pa
        for pfn in range(frames.start, frames.end, per_page)
    ]
    assert len(set(found)) == 2
    assert found[0] not in found[1:]


def test_the_deduplicated_vmemmap_of_the_kernels_document() -> None:
    # Documentation/mm/vmemmap_dedup.rst: 2 MiB needs 8 pages of vmemmap, of which 6 are saved, 1 GiB 4096, 4094 saved.
    config = kernel("x86_64").config
    for order, pages in ((9, 8), (18, 4096)):
        assert vmemmap_storage_pages(config, 1 << order, 0) == pages
        assert pages - vmemmap_storage_pages(config, 1 << order, order) == pages - 2
    assert not vmemmap_can_optimize(config, VmemAltmap(0, 0, 0), 9)
    assert not vmemmap_can_optimize(config, None, 0)
    assert not vmemmap_can_optimize(kernel("arm64").config, None, 9)


@pytest.mark.parametrize("order", [0, 9])
def test_no_frame_is_lost_whichever_allocation_fails(order: int) -> None:
    outcomes = []
    for failing in range(100):
        k = kernel("riscv64")
        plug(k, 4 * MiB)
        before = storage(k), k.hw.memory.used(Use.TABLE)
        with one_by_one(k, failing) as stepper:
            try:
                memremap_pages(k, device(4 * MiB, vmemmap_shift=order), 0)
                outcomes.append("base pages instead")
            except KernelError as error:
                outcomes.append(error.name)
            except KernelBug:
                outcomes.append("BUG")
        if len(stepper.asked) <= failing:
            break
        if outcomes[-1] == "ENOMEM":
            whole(k, before)
        else:
            assert outcomes[-1] == "BUG" or (order == 0 and check_all(k) == [])
    assert outcomes.count("ENOMEM") >= 2 + (4 if order else 0)


@pytest.mark.parametrize("arch", DIRECT_MAPPED)
def test_an_altmap_pays_for_the_struct_pages_and_its_account_returns_to_zero(arch: Arch) -> None:
    k = kernel(arch)
    frames = plug(k, 1 * GiB)
    altmap = VmemAltmap(frames.start, frames.end - 1, free=(18 * MiB - 8 * KiB) >> 12, reserve=2)
    before = storage(k), k.hw.memory.used(Use.TABLE)
    pgmap = device(altmap=altmap)
    memremap_pages(k, pgmap, 0)
    assert (altmap.alloc, altmap.align) == (4096, 510)
    assert k.hw.memory.used(Use.MEMMAP, *frames) == 4096
    assert not pgmap_pfn_valid(k, pgmap, frames.start + 18 * 256 - 1)
    assert pgmap_pfn_valid(k, pgmap, frames.start + 18 * 256)
    assert k.page_zone.get(frames.start + 1) is None, "what the driver reserves has no initialised struct page"
    assert k.page_zone.get(frames.start + 2) is not None
    assert check_all(k) == []
    memunmap_pages(k, pgmap)
    assert altmap.alloc == 0
    whole(k, before)


def test_private_memory_has_struct_pages_and_no_direct_map() -> None:
    k = kernel("x86_64")
    frames = plug(k, 256 * MiB)
    pgmap = device(256 * MiB, type=MemoryType.PRIVATE, ops=PRIVATE_OPS, owner="gpu")
    memremap_pages(k, pgmap, 0)
    assert mapped(k, k.layout.pfn_to_page(frames.start)) and not mapped(k, k.layout.phys_to_virt(PLUG_AT))
    assert check_all(k) == []
    memunmap_pages(k, pgmap)
    assert check_all(k) == []


@pytest.mark.parametrize(
    ("named", "lacking"),
    [
        ({"type": MemoryType.PRIVATE}, "Missing migrate_to_ram method"),
        ({"type": MemoryType.COHERENT}, "Missing page_free method"),
        ({"type": MemoryType.PRIVATE, "ops": PRIVATE_OPS}, "Missing owner"),
    ],
)
def test_what_a_mapping_lacks_is_named(named: dict[str, Any], lacking: str) -> None:
    k = kernel("arm64")
    error = refused(memremap_pages, k, device(**named), 0)
    assert (error.errno, error.reason) == (EINVAL, lacking)
    assert lacking in log(k, "warn")


def test_ranges_that_are_taken_are_refused() -> None:
    k = kernel("riscv64")
    plug(k, 1 * GiB)
    pgmap = device(512 * MiB)
    memremap_pages(k, pgmap, 0)
    for at in (PLUG_AT, PLUG_AT + 256 * MiB, PLUG_AT + 510 * MiB):
        error = refused(memremap_pages, k, device(4 * MiB, at), 0)
        assert error.errno == ENOMEM
    assert pgmap.ref is not None and pgmap.ref.count == 1 + (512 * MiB >> 12)
    add_memory(k, 0, PLUG_AT + 512 * MiB, 512 * MiB)
    error = refused(memremap_pages, k, device(256 * MiB, PLUG_AT + 512 * MiB), 0)
    assert (error.errno, error.reason.split(" region")[0]) == (ENXIO, "attempted on ram")
    assert check_all(k) == []


def test_sub_sections_of_one_section_come_and_go_one_by_one() -> None:
    k = kernel("x86_64")
    plug(k, 128 * MiB)
    before = storage(k), k.hw.memory.used(Use.TABLE)
    parts = [device(size, PLUG_AT + at) for at, size in ((0, 2 * MiB), (64 * MiB, 6 * MiB), (2 * MiB, 30 * MiB))]
    for part in parts:
        memremap_pages(k, part, 0)
        assert check_all(k) == []
    for part in parts:
        memunmap_pages(k, part)
        assert check_all(k) == []
    whole(k, before)
    error = refused(memremap_pages, k, device(1 * MiB), 0)
    assert error.errno == EINVAL


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_of_many_ranges_those_before_the_one_that_fails_are_undone(failing: int) -> None:
    k = kernel("riscv64")
    plug(k, 1 * GiB)
    before = storage(k), k.hw.memory.used(Use.TABLE)
    ranges = [Span(PLUG_AT + at * MiB, PLUG_AT + (at + 128) * MiB) for at in (0, 256, 512)]
    ranges[failing] = Span(ranges[failing].start, ranges[failing].end - 4 * KiB)
    pgmap = DevPagemap(MemoryType.GENERIC, tuple(ranges))
    assert refused(memremap_pages, k, pgmap, 0).errno == EINVAL
    whole(k, before)
    good = DevPagemap(MemoryType.GENERIC, tuple(Span(each.start, each.start + 128 * MiB) for each in ranges))
    memremap_pages(k, good, 0)
    assert check_all(k) == []
    assert [pgmap_pfn_valid(k, good, pfns(k, each.start, 0).start) for each in ranges] == [True] * 3
    memunmap_pages(k, good)
    whole(k, before)


def test_x86_leaves_the_direct_map_of_a_range_whose_struct_pages_failed() -> None:
    k = kernel("x86_64")
    plug(k, 128 * MiB)
    assert refused(memremap_pages, k, device(128 * MiB - 4 * KiB), 0).errno == EINVAL
    assert {breach.law for breach in check_all(k)} == {"direct-map"}


def test_an_altmap_does_not_do_for_several_ranges() -> None:
    k = kernel("x86_64")
    frames = plug(k, 1 * GiB)
    ranges = (Span(PLUG_AT, PLUG_AT + 256 * MiB), Span(PLUG_AT + 512 * MiB, PLUG_AT + 768 * MiB))
    altmap = VmemAltmap(frames.start, frames.start + 65535, free=4096)
    error = refused(memremap_pages, k, DevPagemap(MemoryType.GENERIC, ranges, altmap), 0)
    assert error.reason == "altmap not supported for multiple ranges"
    assert altmap.alloc == 0 and check_all(k) == []


def test_a_reference_keeps_the_mapping_until_it_is_given_back() -> None:
    k = kernel("arm64")
    frames = plug(k, 128 * MiB)
    pgmap = device(128 * MiB)
    memremap_pages(k, pgmap, 0)
    assert get_dev_pagemap(k, frames.end) is None
    held = get_dev_pagemap(k, frames.start)
    assert held is pgmap and get_dev_pagemap(k, frames.end - 1, held) is pgmap
    with pytest.raises(KernelBug, match="waits for ever: 1 references"):
        memunmap_pages(k, pgmap)
    assert mapped(k, k.layout.phys_to_virt(PLUG_AT)), "nothing was taken away from who holds it"
    assert get_dev_pagemap(k, frames.start) is None, "a killed mapping takes no new references"
    assert refused(pin_pages, k, pgmap, 1).errno == ENODEV
    put_dev_pagemap(k, held)
    assert pgmap.done


def test_a_reference_given_back_in_time_lets_it_go() -> None:
    k = kernel("arm64")
    frames = plug(k, 128 * MiB)
    pgmap = device(128 * MiB)
    memremap_pages(k, pgmap, 0)
    held = get_dev_pagemap(k, frames.start)
    k.hw.arm(1_000_000, lambda: put_dev_pagemap(k, held))
    memunmap_pages(k, pgmap)
    assert k.hw.now == 1_000_000
    assert check_all(k) == []


@pytest.mark.parametrize(("release", "waits"), [("linux-5.13", True), ("linux-6.12", False)])
def test_pinned_pages_delay_the_end_only_where_each_page_drops_its_own_reference(release: str, waits: bool) -> None:
    k = kernel("x86_64", release)
    plug(k, 128 * MiB)
    pgmap = device(128 * MiB)
    memremap_pages(k, pgmap, 0)
    pin_pages(k, pgmap, 3)
    k.hw.arm(5, lambda: unpin_pages(k, pgmap, 3))
    memunmap_pages(k, pgmap)
    assert k.hw.now == (5 if waits else 0)
    assert check_all(k) == []


def test_private_pages_in_use_pin_the_mapping() -> None:
    k = kernel("x86_64")
    frames = plug(k, 128 * MiB)
    pgmap = device(128 * MiB, type=MemoryType.PRIVATE, ops=PRIVATE_OPS, owner="gpu")
    memremap_pages(k, pgmap, 0)
    zone_device_page_init(k, pgmap)
    assert pgmap.ref is not None and pgmap.ref.count == 2
    k.hw.arm(7, lambda: free_zone_device_folio(k, pgmap, frames.start))
    memunmap_pages(k, pgmap)
    assert k.hw.now == 7


@pytest.mark.parametrize(
    ("kind", "told", "drops"),
    [
        (MemoryType.PRIVATE, True, 1),
        (MemoryType.COHERENT, True, 1),
        (MemoryType.PCI_P2PDMA, True, 0),
        (MemoryType.FS_DAX, False, 0),
        (MemoryType.GENERIC, False, 0),
    ],
)
@pytest.mark.parametrize("has_ops", [True, False])
def test_what_becomes_of_a_page_whose_last_reference_goes(
    kind: MemoryType, told: bool, drops: int, has_ops: bool
) -> None:
    """linux-7.2 mm/memremap.c:free_zone_device_folio."""
    k = kernel("x86_64", "linux-7.2")
    freed: list[int] = []
    ops = DevPagemapOps(page_free=lambda _, pfn: freed.append(pfn), migrate_to_ram=lambda _k, _pfn: None)
    plug(k, 128 * MiB)
    pgmap = device(128 * MiB, type=kind, ops=ops, owner="gpu")
    memremap_pages(k, pgmap, 0)
    assert pgmap.ref is not None
    zone_device_page_init(k, pgmap, 2)
    pgmap.ops, before = ops if has_ops else None, pgmap.ref.count
    for _ in range(2):
        free_zone_device_folio(k, pgmap, PLUG_AT >> 12)
    assert freed == [PLUG_AT >> 12] * 2 * (told and has_ops)
    assert before - pgmap.ref.count == 2 * drops * has_ops
    assert sum("free_zone_device_folio" in line for line in log(k)) == (told and not has_ops)


def test_in_5_13_a_driver_brings_its_own_reference_count() -> None:
    k = kernel("x86_64", "linux-5.13")
    plug(k, 128 * MiB)
    order: list[str] = []
    ref = PercpuRef("driver's", lambda: order.append("released"))

    def kill(k: Kernel, pgmap: DevPagemap) -> None:
        order.append("kill")
        percpu_ref_kill(k.hw, ref)

    ops = DevPagemapOps(kill=kill, cleanup=lambda _k, _pgmap: order.append("cleanup"))
    memremap_pages(k, device(128 * MiB, ref=ref, ops=ops), 0)
    pgmap = k.statics(Memremap).pgmap_array.get(pfns(k, PLUG_AT, 0).start)
    assert pgmap is not None
    memunmap_pages(k, pgmap)
    assert order == ["kill", "released", "cleanup"]
    again = device(128 * MiB, ref=PercpuRef("driver's", lambda: None))
    assert refused(memremap_pages, k, again, 0).reason == "Missing reference count teardown definition"
    for only in (DevPagemapOps(kill=kill), DevPagemapOps(cleanup=ops.cleanup)):
        for own, reason in ((True, "Missing reference count teardown"), (False, "Internal reference count teardown")):
            half = device(128 * MiB, ref=PercpuRef("driver's", lambda: None) if own else None, ops=only)
            assert refused(memremap_pages, k, half, 0).reason.startswith(reason)


def test_the_alignment_that_struct_pages_need_is_a_sub_section_everywhere() -> None:
    assert {memremap_compat_align(config) for config in configs() if config.page_size < 64 * KiB} == {2 * MiB}


@pytest.mark.parametrize(("release", "method"), [("linux-6.12", "page_free"), ("linux-7.2", "folio_free")])
def test_private_memory_needs_a_method_that_goes_by_another_name_in_7_2(release: str, method: str) -> None:
    k = kernel("x86_64", release)
    ops = DevPagemapOps(migrate_to_ram=lambda _k, _pfn: None)
    error = refused(memremap_pages, k, device(type=MemoryType.PRIVATE, ops=ops, owner="gpu"), 0)
    assert (error.errno, error.reason) == (EINVAL, f"Missing {method} method")


@pytest.mark.parametrize(
    ("arch", "page_size", "largest"),
    [
        # include/linux/mmzone.h: ilog2(SZ_16G) - PAGE_SHIFT with gigantic folios, else MAX_PAGE_ORDER.
        ("x86_64", 4 * KiB, 22),
        ("arm64", 64 * KiB, 18),
        ("loongarch64", 16 * KiB, 11),
    ],
)
def test_7_2_refuses_pages_larger_than_any_folio(arch: Arch, page_size: int, largest: int) -> None:
    k = kernel(arch, "linux-7.2", page_size=page_size)
    plug(k, 1 * GiB)
    error = refused(memremap_pages, k, device(vmemmap_shift=largest + 1), 0)
    assert (error.errno, error.reason) == (EINVAL, "requested folio size unsupported")
    memremap_pages(k, device(vmemmap_shift=min(largest, 14)), 0)


def test_pages_of_a_dying_mapping_are_refused_while_6_12_still_looks_and_7_2_counts() -> None:
    """zone_device_page_init(): percpu_ref_tryget_live(), since 6.19 percpu_ref_tryget_many(), which only zero stops."""
    for release, warned in (("linux-6.12", True), ("linux-7.2", False)):
        k = kernel("x86_64", release)
        plug(k, 1 * GiB)
        pgmap = device(type=MemoryType.COHERENT, ops=PRIVATE_OPS, owner="gpu")
        memremap_pages(k, pgmap, 0)
        zone_device_page_init(k, pgmap, 3)
        assert pgmap.ref is not None
        percpu_ref_kill(k.hw, pgmap.ref)
        zone_device_page_init(k, pgmap, 2)
        assert any("zone_device_page_init" in line for line in log(k)) == warned
        assert pgmap.ref.count == (3 if warned else 5)
        free = pgmap.ref.count
        for _ in range(free):
            free_zone_device_folio(k, pgmap, PLUG_AT >> 12)
        zone_device_page_init(k, pgmap)
        assert any("zone_device_page_init" in line for line in log(k))
        assert pgmap.ref.count == 0
