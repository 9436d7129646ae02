"""What a scenario's allocations, pins and fragments do to the machine."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memhp.errors import BadInput, KernelError
from memhp.hw.memory import Owner, Use
from memhp.linux.mm.page_alloc import alloc_pages, free_by_order, largest_free_order
from memhp.linux.mm.users import DEMANDS, Kind, allocate, fragment, free, pin, spans_of
from memhp.linux.mmzone import MigrateType, PageFlags, Zone, ZoneType
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, KiB, MiB
from zoned import ARM64_16K, RISCV, X86, accounts, add_movable, booted, owners_agree


def machine() -> tuple[Kernel, Zone]:
    k = booted(X86, [(0, 1 * GiB, 0)])
    return k, add_movable(k, 4 * GiB, 512 * MiB)


def whole(k: Kernel) -> bool:
    return not k.hw.violations and owners_agree(k) and all(a == b for a, b in accounts(k).values())


def zones_of(k: Kernel, spans: list[Span]) -> set[ZoneType]:
    return {ref.type for span in spans for _, _, ref in k.page_zone.runs(*span)}


@pytest.mark.parametrize(
    ("kind", "zone"),
    [("kernel", ZoneType.DMA32), ("reclaimable", ZoneType.DMA32), ("movable", ZoneType.MOVABLE),
     ("slab", ZoneType.DMA32), ("secretmem", ZoneType.DMA32), ("guest-memfd", ZoneType.DMA32),
     ("pinned", ZoneType.DMA32), ("hugetlb", ZoneType.MOVABLE), ("hugetlb-free", ZoneType.MOVABLE),
     ("balloon", ZoneType.MOVABLE), ("balloon-fixed", ZoneType.DMA32)],
)  # fmt: skip
def test_each_kind_lands_in_the_zone_that_its_kind_of_page_may_use(kind: Kind, zone: ZoneType) -> None:
    k, _ = machine()
    spans = allocate(k, 64 * MiB, kind, "x")
    assert sum(span.size for span in spans) == 64 * MiB >> 12
    assert zones_of(k, spans) == {zone}
    assert whole(k)


def test_free_gives_back_all_of_it() -> None:
    k = booted(X86, [(0, 1 * GiB, 0), (4 * GiB, 9 * GiB, 0)])
    add_movable(k, 16 * GiB, 512 * MiB)
    before = [list(zone.free) for zone in k.zones()]
    for kind in DEMANDS:
        allocate(k, 1 * GiB if kind.startswith("gigantic") else 32 * MiB, kind, kind)
    for kind in DEMANDS:
        free(k, kind)
        assert spans_of(k, kind) == []
    assert [list(zone.free) for zone in k.zones()] == before
    assert whole(k)


def test_boot_memory_is_reserved_and_managed_by_nobody_until_it_is_freed() -> None:
    k, _ = machine()
    zone = k.nodes[0].zones[ZoneType.DMA32]
    managed = zone.managed
    (span,) = allocate(k, 32 * MiB, "boot", "initrd")
    assert zone.managed == managed - span.size
    assert k.page_flags.get(span.start) == PageFlags.RESERVED
    free(k, "initrd")
    assert zone.managed == managed and not k.page_flags and whole(k)


def test_a_range_can_be_asked_for_by_address() -> None:
    k, _ = machine()
    assert allocate(k, 8 * MiB, "kernel", "x", at=100 * MiB) == [Span(100 * MiB >> 12, 108 * MiB >> 12)]
    with pytest.raises(BadInput, match="not all free"):
        allocate(k, 8 * MiB, "kernel", "y", at=104 * MiB)
    with pytest.raises(BadInput, match="Movable"):
        allocate(k, 4 * KiB, "kernel", "y", at=4 * GiB)
    with pytest.raises(BadInput, match="aligned"):
        allocate(k, 2 * MiB, "hugetlb", "y", at=5 * MiB)
    with pytest.raises(BadInput, match="not all free"):
        allocate(k, 4 * KiB, "movable", "y", at=64 * GiB)


def test_too_much_is_enomem_and_takes_nothing() -> None:
    k, _ = machine()
    before = [list(zone.free) for zone in k.zones()]
    with pytest.raises(KernelError) as caught:
        allocate(k, 4 * GiB, "kernel", "x")
    assert caught.value.name == "ENOMEM"
    assert [list(zone.free) for zone in k.zones()] == before and whole(k)


@pytest.mark.parametrize(
    ("size", "kind", "tag", "nid", "what"),
    [
        (0, "kernel", "b", 0, "0x0 bytes"),
        (4097, "kernel", "b", 0, "0x1001 bytes"),
        (1 * MiB, "hugetlb", "b", 0, "2 MiB"),
        (4 * KiB, "kernel", "a", 0, "already"),
        (4 * KiB, "kernel", "b", 3, "no node 3"),
    ],
)
def test_what_cannot_be_meant_is_refused(size: int, kind: Kind, tag: str, nid: int, what: str) -> None:
    k, _ = machine()
    allocate(k, 4 * KiB, "kernel", "a")
    with pytest.raises(BadInput, match=what):
        allocate(k, size, kind, tag, nid=nid)
    with pytest.raises(BadInput, match="nothing is allocated as 'z'"):
        free(k, "z")
    with pytest.raises(BadInput, match="nothing movable"):
        pin(k, "a")


def test_a_long_term_pin_moves_pages_out_of_zone_movable_first() -> None:
    k, movable = machine()
    before = movable.free.size
    allocate(k, 16 * MiB, "movable", "vm")
    assert zones_of(k, spans_of(k, "vm")) == {ZoneType.MOVABLE}
    pin(k, "vm")
    assert zones_of(k, spans_of(k, "vm")) == {ZoneType.DMA32}
    assert movable.free.size == before
    assert {owner for _, _, owner in k.hw.memory.owners if owner.tag == "vm"} == {Owner(Use.PINNED, "vm")}
    assert whole(k)


def test_a_pin_in_zone_movable_fails_when_the_kernel_zones_are_full() -> None:
    k, _ = machine()
    allocate(k, 64 * MiB, "movable", "vm")
    alloc_pages(k, 0, 0, count=1 << 20, owner=Owner(Use.KERNEL), where="t")
    with pytest.raises(KernelError, match="cannot move out of Movable") as caught:
        pin(k, "vm")
    assert caught.value.name == "ENOMEM" and whole(k)


def test_memory_that_cannot_be_pinned_is_not_allocated() -> None:
    k, movable = machine()
    alloc_pages(k, 0, 0, count=1 << 20, owner=Owner(Use.KERNEL), where="t")
    before = movable.free.size
    with pytest.raises(KernelError, match="cannot move out of Movable"):
        allocate(k, 64 * MiB, "pinned", "vm")
    assert movable.free.size == before and spans_of(k, "vm") == [] and whole(k)


def test_pages_asked_for_by_address_are_pinned_where_they_are() -> None:
    k, _ = machine()
    (span,) = allocate(k, 1 * MiB, "pinned", "dma", at=4 * GiB + 8 * MiB)
    assert span.start == (4 * GiB + 8 * MiB) >> 12
    assert k.hw.memory.use_of(span.start) is Use.PINNED


@pytest.mark.parametrize("size", [8 * KiB, 64 * KiB, 2 * MiB])
def test_after_fragmenting_no_chunk_of_that_size_is_left(size: int) -> None:
    k = booted(X86, [(0, 128 * MiB, 0)])
    add_movable(k, 4 * GiB, 64 * MiB)
    total = sum(zone.free.size for zone in k.zones())
    used = fragment(k, size, tag="f")
    order = (size >> 12).bit_length() - 1
    assert all(largest_free_order(k, zone) < order for zone in k.zones())
    assert used == total // (size >> 12) == sum(span.size for span in spans_of(k, "f"))
    assert alloc_pages(k, order, 0, movable=True, owner=Owner(Use.MEMMAP), where="t") == []
    assert alloc_pages(k, order - 1, 0, movable=True, owner=Owner(Use.MEMMAP), where="t") != [] or size == 8 * KiB
    assert whole(k)


def test_fragments_are_kernel_pages_in_unmovable_pageblocks_but_movable_ones_in_zone_movable() -> None:
    k, movable = machine()
    fragment(k, 2 * MiB, tag="f")
    dma32 = k.nodes[0].zones[ZoneType.DMA32]
    assert [kind for _, _, kind in dma32.migratetypes] == [MigrateType.UNMOVABLE]
    assert [kind for _, _, kind in movable.migratetypes] == [MigrateType.MOVABLE]
    uses = {(ref.type, owner.use) for lo, hi, owner in k.hw.memory.owners if owner.tag == "f"
            for _, _, ref in k.page_zone.runs(lo, hi)}  # fmt: skip
    assert uses == {
        (ZoneType.DMA, Use.KERNEL),
        (ZoneType.DMA32, Use.KERNEL),
        (ZoneType.MOVABLE, Use.MOVABLE),
    }
    free(k, "f")
    assert free_by_order(k, dma32)[-1] > 0 and whole(k)


def test_fragmenting_keeps_to_its_node_and_to_blocks_of_the_buddy() -> None:
    k = booted(RISCV, [(2 * GiB, 3 * GiB, 0), (3 * GiB, 4 * GiB, 1)])
    fragment(k, 2 * MiB, nid=1, tag="f")
    orders = [largest_free_order(k, k.nodes[nid].zones[ZoneType.DMA32]) for nid in (0, 1)]
    assert orders == [k.config.max_page_order, 8]
    for size in (4 * KiB, 12 * KiB, 5000):
        with pytest.raises(BadInput, match="no block of the buddy"):
            fragment(k, size, tag="g")


def test_huge_pages_have_the_size_of_a_pmd() -> None:
    k = booted(ARM64_16K, [(1 * GiB, 2 * GiB, 0)])
    (span,) = allocate(k, 32 * MiB, "hugetlb", "h")
    assert span.size == 2048 and span.start % 2048 == 0
    with pytest.raises(BadInput, match="32 MiB"):
        allocate(k, 2 * MiB, "hugetlb", "i")


SMALL = sorted(kind for kind in DEMANDS if not kind.startswith("gigantic"))

calls = st.lists(
    st.one_of(
        st.tuples(st.just("allocate"), st.sampled_from(SMALL), st.integers(1, 200)),
        st.tuples(st.just("free"), st.integers(0, 9)),
        st.tuples(st.just("pin"), st.integers(0, 9)),
        st.tuples(st.just("fragment"), st.integers(6, 10)),
    ),
    max_size=15,
)


@given(calls)
def test_managed_is_free_and_used_in_every_zone_after_any_sequence(history: list[tuple[object, ...]]) -> None:
    k = booted(replace(X86, zone_dma=False), [(0, 64 * MiB, 0)])
    add_movable(k, 4 * GiB, 128 * MiB)
    tags: list[str] = []
    for number, step in enumerate(history):
        try:
            match step:
                case "allocate", str() as kind, int() as pages:
                    unit = 2 * MiB if kind.startswith("hugetlb") else 64 * KiB
                    allocate(k, pages * unit, kind, f"t{number}")  # type: ignore[arg-type]
                    tags.append(f"t{number}")
                case "free", int() as which if tags:
                    free(k, tags.pop(which % len(tags)))
                case "pin", int() as which if tags:
                    pin(k, tags[which % len(tags)])
                case "fragment", int() as order:
                    if fragment(k, 4096 << order, tag=f"t{number}"):
                        tags.append(f"t{number}")
        except (KernelError, BadInput):
            assert step[0] in ("allocate", "pin")
        assert whole(k)
