"""All that a kernel's variables lead to announces its accesses while it is explored; forgetting is impossible."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import fields
from enum import Enum
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from types import FunctionType, MethodType
from typing import Any

import pytest

import memhp.linux
from bench.virtio_mem_pairs import NO_MEMORY, _program
from memhp.explore.case import Configuration, Variant
from memhp.explore.cases import CASES, case
from memhp.explore.cases.actors import boot, dimm, hot_add, hot_remove, pfns
from memhp.explore.doors.announced import SETTLED, Field, announce, announcing
from memhp.explore.doors.containers import AnnouncedDict, AnnouncedList, AnnouncedSet
from memhp.explore.doors.kernel_image import KernelImage
from memhp.explore.doors.marked_field import MarkedField
from memhp.explore.doors.run import Actor, KernelProgram
from memhp.explore.engine.search import search
from memhp.explore.engine.shortest import decide
from memhp.hw.counted import CountedSet
from memhp.hw.devices.backing import MachineBacking
from memhp.hw.devices.virtio_mem import Geometry, VirtioMemDevice
from memhp.hw.marked_map import MarkedMap, MarkedSet
from memhp.hw.shared import SharedDict, SharedMap, SharedSet
from memhp.hw.stepper import Access, EachAlone, Level, Part
from memhp.hw.tlb import Table
from memhp.linux.drivers.base.core import Device
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.drivers.base.node import register_node
from memhp.linux.drivers.firmware.memmap import firmware_map, firmware_map_add_early
from memhp.linux.drivers.virtio.virtio_mem import virtio_mem_probe
from memhp.linux.drivers.virtio.virtio_mem_state import VirtioMem
from memhp.linux.kernel.power.main import PmChain
from memhp.linux.kernel.resource import Resource, iter_resources, request_resource
from memhp.linux.lib.percpu_refcount import PercpuRef
from memhp.linux.mm.altmap import VmemAltmap
from memhp.linux.mm.dev_pagemap import DevPagemap
from memhp.linux.mm.sparse import usage_of
from memhp.linux.mmzone import Node, Zone, ZoneType
from memhp.linux.state import Kernel
from memhp.spans import SpanMap, SpanSet
from memhp.units import GiB, KiB

IMMUTABLE = (int, str, bytes, float, tuple, frozenset, type(None), Enum, FunctionType, MethodType, type, BaseException)
"""What memhp's own kernel state leads to and what nobody changes."""

MACHINE = Configuration("riscv64", 4 * KiB, 39)


@cache
def machine() -> Kernel:
    """A machine that has booted; explored are copies of it."""
    return boot(Variant("as it is", "", "repaired", (MACHINE,)).config(MACHINE))


def touch(change: Callable[[Kernel], object], *, lock: bool) -> Actor:
    def actor(k: Kernel) -> None:
        with k.hw.locked("a_lock") if lock else nullcontext():
            change(k)

    return actor


PLAIN: dict[str, tuple[Callable[[Kernel], object], Callable[[Kernel], object]]] = {
    "nodes[0].zones[DMA32].present": (
        lambda k: setattr(k.nodes[0].zones[ZoneType.DMA32], "present", 1),
        lambda k: k.nodes[0].zones[ZoneType.DMA32].present,
    ),
    "nodes[0].spanned": (lambda k: setattr(k.nodes[0], "spanned", 1), lambda k: k.nodes[0].end_pfn),
    "nodes[0].zones": (lambda k: k.nodes[0].zones.pop(ZoneType.DEVICE), lambda k: len(k.nodes[0].zones)),
    "memblock.memory": (lambda k: k.memblock.memblock_remove(0, 4096), lambda k: list(k.memblock.memory)),
    "iomem_resource.children": (
        lambda k: request_resource(k.iomem_resource, Resource(0, 4095, "new")),
        lambda k: list(iter_resources(k.iomem_resource)),
    ),
    "node_states.possible": (lambda k: k.node_states.possible.add(1), lambda k: 1 in k.node_states.possible),
    "node_states.devices": (lambda k: register_node(k.node_states, 1, k.hw), lambda k: len(k.node_states.devices)),
    "altmaps": (lambda k: k.altmaps.update({0: VmemAltmap(0, 0, 0)}), lambda k: k.altmaps.get(0)),
    "pointers": (lambda k: k.pointers.update(page=1), lambda k: k.pointers.get("page")),
    "map_entries": (
        lambda k: firmware_map_add_early(k, 0, 4096, "System RAM"),
        lambda k: [entry.type for entry in firmware_map(k)],
    ),
    "auto_online_blocks": (lambda k: setattr(k, "auto_online_blocks", "online"), lambda k: k.auto_online_blocks),
}
"""By what a data race on it is told as: a change, and a look."""


@pytest.mark.parametrize("name", PLAIN)
def test_kernel_state_of_every_sort_announces_itself(name: str) -> None:
    change, look = PLAIN[name]
    for locks in ((True, True), (False, True)):
        actors = (touch(change, lock=locks[0]), touch(look, lock=locks[1]))
        verdict = search(KernelProgram(machine(), actors, ("changer", "looker")).run())
        if all(locks):
            assert verdict.word == "safe"
        else:
            assert verdict.failure is not None
            assert f"of {name} by changer" in verdict.failure.reason
            assert f"read of {name} by looker" in verdict.failure.reason


def test_what_is_put_into_shared_state_announces_itself_from_then_on() -> None:
    """A resource that one actor has put into the tree, and another changes while a third looks."""

    def grow(k: Kernel) -> None:
        for child in k.iomem_resource.children:
            child.end += 0

    def add(k: Kernel) -> None:
        with k.hw.locked("a_lock"):
            request_resource(k.iomem_resource, Resource(0, 4095, "new"))
        grow(k)

    program = KernelProgram(machine(), (add, touch(grow, lock=True)), ("adder", "grower"))
    failure = decide(program.run()).failure
    assert failure is not None
    assert "iomem_resource.children" in failure.reason


SHARED_STATE = (SharedMap, SharedSet, SharedDict, MarkedMap, MarkedSet)


def walk(value: object, path: str, seen: set[int], left_out: set[str]) -> Iterator[str]:
    """Paths from a kernel to whatever can change and does not announce it; fields that are not to are `left_out`."""
    if id(value) in seen or isinstance(value, IMMUTABLE):
        return
    seen.add(id(value))
    if isinstance(value, SHARED_STATE):
        if not value.is_heard:
            yield path
        for part in _values(value):
            yield from walk(part, f"{path}[]", seen, left_out)
    elif type(value).__module__.startswith("memhp.hw."):
        return
    elif isinstance(value, AnnouncedDict):
        for key, part in dict.items(value):
            yield from walk(part, f"{path}[{key}]", seen, left_out)
    elif isinstance(value, AnnouncedList):
        for part in list.__iter__(value):
            yield from walk(part, f"{path}[]", seen, left_out)
    elif "_announces_to" in getattr(value, "__dict__", {}):
        for one in fields(value):  # type: ignore[arg-type]
            where = (type(value).__name__, one.name)
            is_marked = "marked" in one.metadata
            if where in SETTLED:
                left_out.add(".".join(where))
            elif one.name in vars(value):
                if not isinstance(vars(type(value)).get(one.name), MarkedField if is_marked else Field):
                    yield f"{path}.{one.name}"
                yield from walk(vars(value)[one.name], f"{path}.{one.name}", seen, left_out)
    elif not (isinstance(value, AnnouncedSet | partial) or value.__dataclass_params__.frozen):  # type: ignore[attr-defined]
        yield path


def _values(value: Any) -> list[Any]:
    """What is in shared state, of which nobody is told here."""
    if isinstance(value, SharedDict):
        return list(value._items.values())
    return (value._map if isinstance(value, SpanSet) else value)._values


def unannounced(k: Kernel) -> tuple[list[str], set[str]]:
    """What of a kernel can change without being announced, and the fields that are left out."""
    announce(k, None)
    left_out: set[str] = set()
    roots = [k, *k._statics.values()]
    return [path for root in roots for path in walk(root, type(root).__name__, set(), left_out)], left_out


LEFT_OUT = {
    "Kernel.hw", "Kernel.config", "Kernel.layout", "Kernel.port", "Kernel.memory_block_size", "Kernel._statics",
    "Node.machine",  # set for good at boot
    "Arrival.search_from",  # no kernel has it: it saves the allocator a search
    "Resource.written",  # no kernel has it: what checks have logged
}  # fmt: skip


def test_nothing_that_a_kernel_leads_to_changes_unannounced() -> None:
    k = deepcopy(machine())
    hot_add(k)
    usage_of(k, 0)
    assert unannounced(k) == ([], LEFT_OUT)
    assert not isinstance(vars(type(machine().nodes[0])).get("spanned"), Field), "others' kernels stay as they are"


@pytest.mark.parametrize("name", [case.name for case in CASES])
def test_nothing_that_changes_is_silent_on_the_machine_of_any_race(name: str) -> None:
    """Device mappings, reference counts, files of sysfs, virtio-mem: each race has some that the others have not."""
    for variant in case(name).variants[:: max(1, len(case(name).variants) // 6)]:
        silent, left_out = unannounced(case(name).program(variant.name).kernel)
        assert silent == []
        assert left_out <= LEFT_OUT


@pytest.mark.parametrize("owner", [Kernel, Zone, Node, VirtioMem, DevPagemap, PercpuRef, Device])
def test_a_field_is_plain_or_each_access_to_it_is_a_step(owner: type) -> None:
    """There is no third sort: whoever watches is told of every access, whatever code makes it."""
    told = announcing(owner, frozenset(one.name for one in fields(owner)))
    for one in fields(owner):
        if (owner.__name__, one.name) not in SETTLED:
            assert isinstance(vars(told)[one.name], MarkedField if one.metadata else Field)
            assert set(one.metadata) <= {"marked"} and all(map(callable, one.metadata.values()))


def test_shared_state_that_belongs_to_no_machine_is_refused() -> None:
    k = deepcopy(machine())
    k.nodes[0].zones[ZoneType.DMA32].free = CountedSet()
    with pytest.raises(TypeError, match="free is a CountedSet that belongs to no machine"):
        announce(k, None)


class Listener(EachAlone):
    """A stepper that lets everything happen at once and keeps the names of what is written."""

    listens = True
    put_in = None

    def __init__(self) -> None:
        self.watched: frozenset[str] = frozenset()
        self.written: set[str] = set()

    def data(self, name: str, start: int, end: int, *, write: bool) -> None:
        if write:
            self.written.add(name)

    def step(self, access: Access) -> None:
        target = access.target
        if access.kind not in ("read", "load") and isinstance(target, Part | Level | str):
            self.written.add(target if isinstance(target, str) else target.name)

    def marked(self, *names: str, write: bool, by_cpu: bool = False, whole: bool = False) -> bool:
        """A marked field is accessed: changes of what is in it are as good as said."""
        self.written |= set(names) if write else set()
        return True

    def wrote(self, sort: str) -> None:
        """A sort of state was written whose reads are not watched."""

    def takes_in(self, name: str) -> str:
        return name

    def loads(self, table: Table, index: int, count: int) -> int:
        return count

    def fails(self, site: str) -> bool:
        return False

    def wait(self, ready: Callable[[], bool], why: str, on: str) -> None:
        assert ready()


def plain_state(value: Any, found: dict[str, object], seen: set[int]) -> None:
    """What a kernel leads to, by the names under which it announces accesses."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, SharedSet):
        value = value._map
    if isinstance(value, SharedMap):
        found[value.name] = [*SpanMap.__iter__(value)]
    elif isinstance(value, dict | list | AnnouncedSet) and hasattr(value, "_to"):
        found[value._to[1]] = repr([_text(one) for one in value])
        for part in value.values() if isinstance(value, dict) else value:
            plain_state(part, found, seen)
    elif "_announces_to" in getattr(value, "__dict__", {}):
        prefix = value.__dict__["_announces_to"][1]
        for one in fields(value):
            if one.name in vars(value) and (type(value).__name__, one.name) not in SETTLED:
                part = vars(value)[one.name]
                name = one.metadata["marked"](value) if one.metadata else prefix + one.name
                if isinstance(part, IMMUTABLE):
                    found[name] = f"{found.get(name, '')}, {part!r}" if one.metadata else repr(part)
                elif one.metadata and isinstance(part, dict | AnnouncedSet):
                    found[name] = sorted(map(_text, dict.items(part) if isinstance(part, dict) else part))
                else:
                    plain_state(part, found, seen)


def _text(value: object) -> str:
    """A value, or what sort of record it is, whose fields are looked at by themselves."""
    return type(value).__name__ if "_announces_to" in getattr(value, "__dict__", {}) else str(value)


@pytest.mark.parametrize("order", [0, 1])
def test_no_attribute_of_a_kernel_changes_after_boot_without_the_stepper_being_told(order: int) -> None:
    """Everything that differs after a hot-add, an online, an offline or a removal was announced as written."""
    k = deepcopy(machine())
    announce(k, frozenset())
    k.hw.stepper = heard = Listener()
    steps: tuple[Callable[[], object], ...] = (
        lambda: hot_add(k),
        lambda: state_store(k, k.block_id(pfns(k, dimm(k)).start), ("online", "online_movable")[order]),
        lambda: state_store(k, k.block_id(pfns(k, dimm(k)).start), "offline"),
        lambda: hot_remove(k),
    )
    for step in steps:
        before: dict[str, object] = {}
        after: dict[str, object] = {}
        seen_before: set[int] = set()
        seen_after: set[int] = set()
        heard.written.clear()
        for root in (k, *k._statics.values()):
            plain_state(root, before, seen_before)
        step()
        for root in (k, *k._statics.values()):
            plain_state(root, after, seen_after)
        changed = {name for name in before.keys() & after.keys() if before[name] != after[name]}
        assert changed
        assert changed - heard.written == set()


def test_a_sort_of_state_that_is_not_known_is_refused() -> None:
    k = deepcopy(machine())
    k.altmaps = object()  # type: ignore[assignment]
    with pytest.raises(TypeError, match="altmaps is a object"):
        announce(k, None)


def names(value: Any, seen: set[int]) -> Iterator[str]:
    """The names of all that a value leads to and that announces accesses, once for each thing."""
    if id(value) in seen or isinstance(value, IMMUTABLE):
        return
    seen.add(id(value))
    if isinstance(value, SharedSet):
        yield from names(value._map, seen)
    elif isinstance(value, SharedMap):
        yield value.name
    elif isinstance(value, partial):
        for part in (*value.args, *value.keywords.values()):
            yield from names(part, seen)
    elif hasattr(value, "_to"):
        yield value._to[1]
        for part in dict.values(value) if isinstance(value, dict) else list(value):
            yield from names(part, seen)
    elif "_announces_to" in getattr(value, "__dict__", {}):
        prefix = value.__dict__["_announces_to"][1]
        for one in fields(value):
            part = vars(value).get(one.name)
            if not one.metadata.get("marked") and (type(value).__name__, one.name) not in SETTLED:
                if not isinstance(part, SharedMap | SharedSet) and not hasattr(part, "_to"):
                    yield f"{prefix}{one.name}"
                yield from names(part, seen)


def all_names(k: Kernel) -> list[str]:
    seen: set[int] = set()
    return [name for root in (k, *k._statics.values()) for name in names(root, seen)]


def two_devices() -> Kernel:
    k = deepcopy(machine())
    for number in range(2):
        geometry = Geometry((8 + number) * GiB, GiB, k.memory_block_size // 2, usable_extent=k.port.virtio_mem_extent)
        virtio_mem_probe(k, VirtioMemDevice(geometry, MachineBacking(k.hw, f"vm{number}")), f"virtio{number}")
    k.altmaps.update({0: VmemAltmap(0, 0, 0)})
    k.statics(PmChain).notifiers += [partial(quiet, VmemAltmap(0, 0, 0), VmemAltmap(0, 0, 0)) for _ in range(2)]
    return k


def quiet(*_: object) -> str:
    return ""


def test_no_two_things_have_one_name_and_every_copy_has_the_same_ones() -> None:
    k = two_devices()
    copy = deepcopy(k)
    announce(k, None)
    announce(copy, frozenset())
    found = all_names(k)
    assert all_names(copy) == found == all_names(KernelImage(k).copy())
    assert sorted(set(found)) == sorted(found)
    assert {"memory[virtio0].VirtioMem.removing", "memory[virtio1].VirtioMem.removing"} <= set(found)
    twice = {name for name in found if name.startswith("notifiers[") and name.endswith(".free")}
    assert len(twice) == 4


def test_fields_of_all_records_have_names_of_their_own() -> None:
    """A record's fields are announced by their names alone."""
    records = {Kernel}
    for module in walk_packages(memhp.linux.__path__, "memhp.linux."):
        found = vars(import_module(module.name))
        text = Path(found["__file__"]).read_text(encoding="utf-8")
        records |= {found[name] for name in re.findall(r"statics\((\w+)\)", text) if isinstance(found.get(name), type)}
    assert len(records) > 10
    count = Counter(one.name for record in records for one in fields(record))
    assert [name for name, times in count.items() if times > 1] == []


def bring(k: Kernel) -> None:
    """Put something of one's own where others put theirs, and go on with that alone."""
    mine = VmemAltmap(0, 0, 0)
    with k.hw.locked("a_lock"):
        k.altmaps[0] = mine
    mine.alloc += 1


def test_what_two_bring_to_one_place_are_two_things() -> None:
    program = KernelProgram(machine(), (bring, bring), ("one", "other"))
    assert decide(program.run()).word == "safe"
    failure = decide(KernelProgram(machine(), (bring, touch(bring_and_change_any, lock=False)), ("one", "other")).run())
    assert failure.failure is not None
    assert "altmaps[0](CPU 0).alloc" in failure.failure.reason


def bring_and_change_any(k: Kernel) -> None:
    with k.hw.locked("a_lock"):
        found = k.altmaps.get(0)
    if found is not None:
        found.alloc += 1


@pytest.mark.parametrize("pair", [("bind", "bind-third"), ("bind", "unbind"), ("sleep", "unbind")])
def test_devices_that_come_and_go_at_the_same_time_do_not_race(pair: tuple[str, str]) -> None:
    assert decide(_program(*pair, NO_MEMORY).run()).word == "safe"
