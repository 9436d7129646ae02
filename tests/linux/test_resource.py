"""The resource tree claims, nests, cuts and merges ranges as ``kernel/resource.c`` does."""
# SPDX-License-Identifier: GPL-2.0-or-later

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memhp.errors import KernelError
from memhp.linux.choices import ResourceSplit
from memhp.linux.kernel import resource as r
from memhp.linux.kernel.resource import Region, Resource

UNIT = 16
"""Bytes of a unit in the models below: ranges are a few units of a small address space."""
UNITS = 40

RAM = r.BUSY_SYSTEM_RAM
BUSY = r.IORESOURCE_MEM | r.IORESOURCE_BUSY


def span(first: int, last: int, name: str = "x", flags: int = r.IORESOURCE_MEM, desc: int = 0) -> Resource:
    """A resource over whole units, both ends included."""
    return Resource(first * UNIT, (last + 1) * UNIT - 1, name, flags, desc)


def shape(root: Resource) -> list[tuple[int, int, int, str]]:
    """Depth, first and last unit and name of all resources, in tree order; parents are right."""
    assert all(child.parent is res for _, res in [(0, root), *r.iter_resources(root)] for child in res.children)
    return [(depth, res.start // UNIT, res.end // UNIT, res.name) for depth, res in r.iter_resources(root)]


def root_with(*resources: Resource) -> Resource:
    root = r.iomem_root()
    for res in resources:
        r.insert_resource(root, res)
    return root


ranges = st.tuples(st.integers(0, UNITS - 1), st.integers(0, UNITS - 1)).map(lambda ends: (min(ends), max(ends)))


# Nesting: request_resource, insert_resource, remove_resource, release_resource.


def test_request_resource_refuses_any_overlap_and_names_who_is_there() -> None:
    root = root_with(span(4, 7, "there"))
    with pytest.raises(KernelError) as error:
        r.request_resource(root, span(7, 9, "new"))
    assert error.value.errno == errno.EBUSY
    assert "there [mem 0x00000040-0x0000007f]" in str(error.value)
    assert shape(root) == [(0, 4, 7, "there")]


def test_insert_resource_goes_into_what_holds_it_and_over_what_it_holds() -> None:
    root = root_with(span(0, 19, "window"), span(4, 5, "a"), span(6, 6, "b"), span(3, 9, "middle"))
    assert shape(root) == [(0, 0, 19, "window"), (1, 3, 9, "middle"), (2, 4, 5, "a"), (2, 6, 6, "b")]


def test_insert_resource_of_an_equal_range_becomes_the_parent() -> None:
    assert shape(root_with(span(2, 5, "first"), span(2, 5, "second"))) == [(0, 2, 5, "second"), (1, 2, 5, "first")]


def test_insert_resource_outside_the_root_conflicts_with_the_root() -> None:
    root = r.iomem_root(phys_bits=10)
    assert r.insert_resource_conflict(root, Resource(0, 1 << 10, "beyond")) is root


def test_remove_resource_leaves_the_children_where_release_resource_takes_them_along() -> None:
    for function, left in ((r.remove_resource, [(0, 4, 5, "a")]), (r.release_resource, [])):
        root = root_with(span(4, 5, "a"), outer := span(3, 9, "outer"))
        function(outer)
        assert shape(root) == left
        with pytest.raises(KernelError) as error:
            function(outer)
        assert error.value.errno == errno.EINVAL


@given(st.lists(ranges, max_size=12))
def test_insert_resource_refuses_exactly_what_crosses_another_resource(wanted: list[tuple[int, int]]) -> None:
    root = r.iomem_root()
    there: list[tuple[int, int]] = []
    for first, last in wanted:
        crosses = any(a < first <= b < last or first < a <= last < b for a, b in there)
        assert (r.insert_resource_conflict(root, span(first, last)) is not None) == crosses
        if not crosses:
            there.append((first, last))
        for unit in range(UNITS):
            depth = sum(a <= unit <= b for a, b in there)
            assert sum(first <= unit <= last for _, first, last, _ in shape(root)) == depth
    assert len(shape(root)) == len(there)


def test_adjust_resource_stops_at_parent_neighbours_and_children() -> None:
    res = span(10, 15, "res")
    root = root_with(span(5, 30, "parent"), span(6, 8), res, span(20, 22), span(12, 13))
    for first, last in ((4, 15), (8, 15), (1, 3), (10, 20), (24, 26), (13, 15), (10, 12)):
        with pytest.raises(KernelError) as error:
            r.adjust_resource(res, first * UNIT, (last - first + 1) * UNIT)
        assert error.value.errno == errno.EBUSY
    r.adjust_resource(res, 9 * UNIT, 11 * UNIT)
    assert (1, 9, 19, "res") in shape(root)


# Claiming: __request_region, __release_region.


def test_a_region_goes_below_idle_holders_and_takes_their_type_and_descriptor() -> None:
    window = span(0, 20, "virtio1", r.IORESOURCE_SYSTEM_RAM | r.IORESOURCE_EXCLUSIVE, r.IORES_DESC_SOFT_RESERVED)
    res = r.request_region(root_with(window), 4 * UNIT, 2 * UNIT, "System RAM (virtio_mem)")
    assert res.parent is window
    assert res.flags == RAM and res.desc == r.IORES_DESC_SOFT_RESERVED


@given(st.lists(st.tuples(ranges, st.booleans()), max_size=8), ranges)
def test_a_region_is_refused_when_anything_busy_or_smaller_is_in_its_range(
    inserted: list[tuple[tuple[int, int], bool]], wanted: tuple[int, int]
) -> None:
    root = r.iomem_root()
    for (first, last), busy in inserted:
        r.insert_resource_conflict(root, span(first, last, flags=BUSY if busy else r.IORESOURCE_MEM))
    # The holders of each unit, from the outside in: the region fits when no border of any lies within its range.
    holders = {
        unit: [res for _, res in r.iter_resources(root) if res.start <= unit * UNIT <= res.end]
        for unit in range(wanted[0], wanted[1] + 1)
    }
    chain = holders[wanted[0]]
    expected = all(these == chain for these in holders.values()) and not any(h.flags & r.IORESOURCE_BUSY for h in chain)
    start, size = wanted[0] * UNIT, (wanted[1] - wanted[0] + 1) * UNIT
    before = shape(root)
    if expected:
        assert r.request_region(root, start, size, "new").parent is (chain[-1] if chain else root)
        assert r.release_region(root, start, size)
    else:
        with pytest.raises(KernelError) as error:
            r.request_region(root, start, size, "new")
        assert error.value.errno == errno.EBUSY
    assert shape(root) == before


def test_release_region_wants_the_exact_busy_range() -> None:
    root = root_with(span(0, 9, "idle"), span(2, 5, "busy", BUSY))
    assert not r.release_region(root, 2 * UNIT, 2 * UNIT)
    assert not r.release_region(root, 0, 10 * UNIT)
    assert r.release_region(root, 2 * UNIT, 4 * UNIT)
    assert shape(root) == [(0, 0, 9, "idle")]


# System RAM: release_mem_region_adjustable, merge_system_ram_resource.


@pytest.mark.parametrize(
    ("cut", "left"),
    [
        ((10, 19), []),
        ((10, 12), [(13, 19)]),
        ((15, 19), [(10, 14)]),
        ((13, 15), [(10, 12), (16, 19)]),
        ((8, 12), [(10, 19)]),
        ((25, 26), [(10, 19)]),
    ],
)
def test_releasing_part_of_system_ram_cuts_it_to_fit(cut: tuple[int, int], left: list[tuple[int, int]]) -> None:
    root = root_with(span(10, 19, "System RAM", RAM))
    released = r.release_mem_region_adjustable(root, cut[0] * UNIT, (cut[1] - cut[0] + 1) * UNIT)
    assert shape(root) == [(0, first, last, "System RAM") for first, last in left]
    assert released == (left != [(10, 19)])


def test_a_cut_in_the_middle_moves_the_children_above_it_in_7_2_and_is_not_made_in_6_12() -> None:
    children = [span(11, 11, "low"), span(18, 18, "high")]
    cut: list[tuple[int, int, int, str]] = [(0, 10, 13, "ram"), (1, 11, 11, "low"), (0, 16, 19, "ram")]
    whole = [(0, 10, 19, "ram"), (1, 11, 11, "low"), (1, 18, 18, "high")]
    splits: dict[ResourceSplit, list[tuple[int, int, int, str]]] = {
        "children-move": [*cut, (1, 18, 18, "high")],
        "children-stay": whole,
        "children-move-after": [*cut, (1, 18, 18, "high")],
    }
    for split, left in splits.items():
        root = root_with(span(10, 19, "ram", RAM), *(span(c.start // UNIT, c.end // UNIT, c.name) for c in children))
        done = r.release_mem_region_adjustable(root, 14 * UNIT, 2 * UNIT, split=split)
        assert (shape(root), done) == (left, left != whole)


def test_a_cut_that_a_child_forbids_loses_those_above_it_unless_they_move_after_the_lower_half_shrinks() -> None:
    splits: tuple[tuple[ResourceSplit, bool], ...] = (("children-move", False), ("children-move-after", True))
    for split, kept in splits:
        root = root_with(span(10, 19, "ram", RAM), span(13, 14, "in the way"), span(18, 18, "high"))
        assert not r.release_mem_region_adjustable(root, 14 * UNIT, 2 * UNIT, split=split)
        assert shape(root) == [(0, 10, 19, "ram"), (1, 13, 14, "in the way"), *([(1, 18, 18, "high")] if kept else [])]


def test_a_child_in_the_way_keeps_the_edge_of_its_parent() -> None:
    root = root_with(span(10, 19, "ram", RAM), span(10, 11, "Kernel code"))
    assert not r.release_mem_region_adjustable(root, 10 * UNIT, 4 * UNIT)
    assert shape(root) == [(0, 10, 19, "ram"), (1, 10, 11, "Kernel code")]


def test_only_marked_neighbours_of_the_same_name_and_flags_merge() -> None:
    managed = RAM | r.IORESOURCE_SYSRAM_DRIVER_MANAGED
    unmarked, other, alike, new = (
        span(0, 3, "System RAM (x)", managed),
        span(12, 15, "System RAM (x)", RAM | r.IORESOURCE_SYSRAM_MERGEABLE),
        span(8, 11, "System RAM (x)", managed | r.IORESOURCE_SYSRAM_MERGEABLE),
        span(4, 7, "System RAM (x)", managed),
    )
    root = root_with(unmarked, other, alike, new)
    assert r.merge_system_ram_resource(new) is new
    assert shape(root) == [(0, 0, 3, unmarked.name), (0, 4, 11, new.name), (0, 12, 15, other.name)]
    assert r.merge_system_ram_resource(unmarked) is unmarked
    assert shape(root) == [(0, 0, 11, unmarked.name), (0, 12, 15, other.name)]


def test_a_device_window_is_never_merged() -> None:
    window = span(0, 3, "virtio1", r.IORESOURCE_SYSTEM_RAM)
    root_with(window)
    assert r.merge_system_ram_resource(window) is window
    assert not window.flags & r.IORESOURCE_SYSRAM_MERGEABLE


requests = st.tuples(st.sampled_from(["request", "release", "merge"]), ranges)


@given(st.lists(requests, max_size=30))
def test_request_release_and_merge_agree_with_a_map_of_every_unit(steps: list[tuple[str, tuple[int, int]]]) -> None:
    root = r.iomem_root()
    owner: dict[int, int] = {}
    merged: dict[int, bool] = {}
    for number, (what, (first, last)) in enumerate(steps):
        wanted = range(first, last + 1)
        owners = {owner.get(unit) for unit in wanted}
        start, size = first * UNIT, len(wanted) * UNIT
        if what == "request":
            try:
                r.request_region(root, start, size, "System RAM", r.IORESOURCE_SYSTEM_RAM)
            except KernelError:
                assert owners != {None}
            else:
                assert owners == {None}
                owner |= dict.fromkeys(wanted, number)
                merged[number] = False
        elif what == "release":
            holder = owner.get(first)
            expected = holder is not None and owners == {holder}
            assert r.release_mem_region_adjustable(root, start, size) == expected
            if expected:
                for unit in wanted:
                    del owner[unit]
                for unit in range(last + 1, UNITS):
                    if owner.get(unit) == holder:
                        owner[unit] = ~number
                merged[~number] = merged[holder or 0]
        elif (holder := owner.get(first)) is not None:
            r.merge_system_ram_resource(next(res for res in root.children if res.start <= start <= res.end))
            merged[holder] = True
            for step in (1, -1):
                unit = first
                while owner.get(unit) == holder:
                    unit += step
                neighbour = owner.get(unit)
                if neighbour is not None and merged[neighbour]:
                    owner = {unit: holder if who == neighbour else who for unit, who in owner.items()}
    model = [(owner[unit], unit) for unit in sorted(owner)]
    runs = [
        (min(unit for who, unit in model if who == holder), max(unit for who, unit in model if who == holder))
        for holder in dict.fromkeys(who for who, _ in model)
    ]
    assert [(first, last) for _, first, last, _ in shape(root)] == runs


# Looking up: walk_iomem_res_desc, walk_system_ram_range, region_intersects, request_free_mem_region.


def test_walk_system_ram_range_gives_whole_pages_of_busy_ram_below_device_windows() -> None:
    root = root_with(
        Resource(0x1000, 0x9FBFF, "System RAM", RAM),
        Resource(0x10_0000, 0x2F_FFFF, "System RAM", RAM),
        Resource(0x11_0000, 0x11_FFFF, "Kernel code"),
        Resource(0x100_0000, 0x1FF_FFFF, "virtio1", r.IORESOURCE_SYSTEM_RAM),
        Resource(0x100_0000, 0x10F_FFFF, "System RAM (virtio_mem)", RAM),
    )
    assert list(r.walk_system_ram_range(root, 0, 1 << 20, 12)) == [(1, 0x9E), (0x100, 0x200), (0x1000, 0x100)]
    assert list(r.walk_system_ram_range(root, 0x180, 0xE90, 12)) == [(0x180, 0x180), (0x1000, 0x10)]
    assert list(r.walk_system_ram_range(root, 0x9F, 1, 12)) == []


def test_a_first_resource_smaller_than_a_page_ends_the_walk() -> None:
    root = root_with(Resource(0x1000, 0x17FF, "System RAM", RAM), Resource(0x2000, 0x2FFF, "System RAM", RAM))
    assert list(r.walk_system_ram_range(root, 0, 16, 12)) == []


@given(st.lists(st.tuples(ranges, st.booleans()), max_size=8), ranges)
def test_region_intersects_agrees_with_looking_at_every_unit(
    inserted: list[tuple[tuple[int, int], bool]], wanted: tuple[int, int]
) -> None:
    root = r.iomem_root()
    for (first, last), is_ram in inserted:
        r.insert_resource_conflict(root, span(first, last, flags=RAM if is_ram else BUSY))
    matching = other = False
    for top in root.children:
        below = [top, *(res for _, res in r.iter_resources(top))]
        for unit in range(wanted[0], wanted[1] + 1):
            held = [res for res in below if res.start <= unit * UNIT <= res.end]
            ram = any(res.flags == RAM for res in held)
            matching |= ram
            other |= bool(held) and not ram
    expected = Region.REGION_DISJOINT
    if matching:
        expected = Region.REGION_MIXED if other else Region.REGION_INTERSECTS
    size = (wanted[1] - wanted[0] + 1) * UNIT
    assert r.region_intersects(root, wanted[0] * UNIT, size, r.IORESOURCE_SYSTEM_RAM) is expected


@given(st.lists(ranges, max_size=6), st.integers(1, 6 * UNIT), st.sampled_from([4, 16, 64]), st.integers(1, UNITS))
def test_request_free_mem_region_finds_what_a_loop_over_every_step_finds(
    taken: list[tuple[int, int]], size: int, align: int, limit: int
) -> None:
    root = r.iomem_root()
    for first, last in taken:
        r.insert_resource_conflict(root, span(first, last))
    end = limit * UNIT - 1
    wanted = -(-size // align) * align
    found = None
    addr = end - wanted + 1
    while addr > align and found is None:
        if all(res.end < addr or res.start >= addr + wanted for res in root.children):
            found = addr
        addr -= align
    if found is None:
        with pytest.raises(KernelError) as error:
            r.request_free_mem_region(root, root, size, "hmm", align=align, physmem_end=end)
        assert error.value.errno == errno.ERANGE
    else:
        res = r.request_free_mem_region(root, root, size, "hmm", align=align, physmem_end=end)
        assert (res.start, res.size, res.desc) == (found, wanted, r.IORES_DESC_DEVICE_PRIVATE_MEMORY)
        assert res.parent is root and res.flags == BUSY
