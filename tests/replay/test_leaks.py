"""No fact of a real machine can be false unnoticed: each kind of fact, falsified in a later moment, is told.

What happened up to that moment is taken from the false facts then, as it would be from true ones; so what the model
follows blindly, a name or a number that it is told and never computes, would show here as a falsehood that passes.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest

from captures import facts
from memhp.conform.amounts import changed
from memhp.errors import BadInput, KernelError
from memhp.facts.derive import derive
from memhp.facts.iomem import Resource, is_system_ram
from memhp.facts.observed import Facts
from memhp.target.model.replay import replay, steps_between
from memhp.units import MiB
from replay.machines import boot
from replay.test_captures import compared
from replay.test_changes import unequal
from replay.unequal import unnamed

Falsehood = Callable[[Facts], Facts]
Change = Callable[[Resource], Resource | None]
Tree = tuple[Resource, ...]

MOMENTS = [
    ("x86_64-6.12.117+deb13-cloud-amd64-automovable301", "0-before", "1-dimm-1024M"),
    ("arm64-6.12.117+deb13-arm64-vmem-numa2", "0-before", "1-vm0-1000M"),
    ("x86_64-6.12.107+deb13-cloud-amd64-virtio-mem-movable-clean", "0-before", "1-plugged"),
    ("riscv64-6.12.107+deb13-riscv64-kmem-map-ram-mom0", "1-devdax", "3-online"),
    ("loongarch64-7.2.13+deb14-loong64-dimm-pt", "0-before", "1-plugged-offline"),
]
"""A DIMM, virtio-mem by firmware's tables and by a device tree, kmem; on each architecture."""


def resources(change: Change, which: Callable[[Resource], bool]) -> Falsehood:
    """The last resource of some kind, changed or left out."""

    def falsify(observed: Facts) -> Facts:
        found = [res for res in _flat(observed.iomem) if which(res)]
        return replace(observed, iomem=_with(observed.iomem, found[-1], change)) if found else observed

    return falsify


def _flat(tree: Tree) -> list[Resource]:
    return [each for res in tree for each in (res, *_flat(res.children))]


def _with(
    tree: tuple[Resource, ...], one: Resource, change: Callable[[Resource], Resource | None]
) -> tuple[Resource, ...]:
    changed = [change(res) if res == one else replace(res, children=_with(res.children, one, change)) for res in tree]
    return tuple(res for res in changed if res is not None)


def last_block(**false: object) -> Falsehood:
    """The last memory block with other attributes."""

    def falsify(observed: Facts) -> Facts:
        *others, last = observed.memory.blocks
        blocks = (*others, replace(last, **false))  # type: ignore[arg-type]
        return replace(observed, memory=replace(observed.memory, blocks=blocks))

    return falsify


def zone(name: str, by: int = 1) -> Falsehood:
    """The last populated zone with a number that is larger."""

    def falsify(observed: Facts) -> Facts:
        told = [each for each in observed.zones if each.populated and getattr(each, name) is not None]
        if not told:
            return observed
        false = replace(told[-1], **{name: getattr(told[-1], name) + by})
        return replace(observed, zones=tuple(false if each is told[-1] else each for each in observed.zones))

    return falsify


def protection(observed: Facts) -> Facts:
    first, *others = observed.zones
    return replace(observed, zones=(replace(first, protection=(*first.protection[:-1], 1)), *others))


def less_free(observed: Facts) -> Facts:
    """100 MiB that are in use, and not told."""
    pages = 100 * MiB // (observed.page_size or 4096)
    most = max(observed.zones, key=lambda each: each.free)
    false = replace(most, free=most.free - pages)
    return replace(observed, zones=tuple(false if each is most else each for each in observed.zones))


def counter(of: str, name: str, false: Callable[[int], int]) -> Falsehood:
    """A number of ``/proc/meminfo`` or ``/proc/vmstat``."""

    def falsify(observed: Facts) -> Facts:
        counters = getattr(observed, of)
        if name not in counters:
            return observed
        return replace(observed, **{of: {**counters, name: false(counters[name])}})  # type: ignore[arg-type]

    return falsify


def parameter(name: str, false: object) -> Falsehood:
    """A parameter of memory_hotplug."""

    def falsify(observed: Facts) -> Facts:
        if getattr(observed.params, name) is None:
            return observed
        return replace(observed, params=replace(observed.params, **{name: false}))  # type: ignore[arg-type]

    return falsify


LEAVES = ("4k", "2M", "1G")
"""Sizes of leaves that x86 counts."""


def dax(**false: object) -> Falsehood:
    """The last dax device with other attributes."""

    def falsify(observed: Facts) -> Facts:
        if not observed.dax:
            return observed
        *others, last = observed.dax
        return replace(observed, dax=(*others, replace(last, **false)))  # type: ignore[arg-type]

    return falsify


def nodes(state: str) -> Falsehood:
    """A list of nodes with one too many."""

    def falsify(observed: Facts) -> Facts:
        assert observed.nodes is not None
        states = observed.nodes.states
        return replace(observed, nodes=replace(observed.nodes, states={**states, state: (*states[state], 7)}))

    return falsify


def movable_pageblocks(observed: Facts) -> Facts:
    """One block of zone Movable is of another type."""
    told = [node for node in observed.pagetypeinfo if any(blocks.zone == "Movable" for blocks in node.blocks)]
    if not told:
        return observed
    blocks = told[-1].blocks
    false = tuple(
        replace(each, count=(each.count[0] + 1, each.count[1] - 1, *each.count[2:])) if each.zone == "Movable" else each
        for each in blocks
    )
    shown = tuple(replace(node, blocks=false) if node is told[-1] else node for node in observed.pagetypeinfo)
    return replace(observed, pagetypeinfo=shown)


def renamed(res: Resource) -> Resource:
    return replace(res, name="System RAM (kmem)" if res.name == "System RAM" else "System RAM")


def is_device(res: Resource) -> bool:
    return not is_system_ram(res)


FALSEHOODS: dict[str, Falsehood] = {
    "memory under another driver's name": resources(renamed, is_system_ram),
    "memory that ends earlier": resources(lambda res: replace(res, end=res.end - 4096), is_system_ram),
    "memory that is not there": resources(lambda res: None, is_system_ram),
    "a device under another name": resources(lambda res: replace(res, name=f"{res.name} 2"), is_device),
    "a device that is not there": resources(lambda res: None, lambda res: is_device(res) and not res.children),
    "a block's state": last_block(state="offline"),
    "a block's zones": last_block(valid_zones=("DMA",)),
    "a block that is not removable": last_block(removable=False),
    "a block's physical device": last_block(phys_device=3),
    "a block's node": last_block(nodes=(7,)),
    "a block's number": last_block(index=4000),
    "what is to be done with new blocks": lambda observed: replace(
        observed, memory=replace(observed.memory, auto_online="online_movable")
    ),
    "the size of blocks": lambda observed: replace(
        observed, memory=replace(observed.memory, block_size=2 * observed.memory.block_size)
    ),
    **{f"a zone's {name}": zone(name) for name in ("spanned", "present", "managed", "start_pfn", "cma")},
    **{f"a zone's {name} watermark": zone(name) for name in ("min", "low", "high", "promo")},
    "a zone's protection": protection,
    "free memory": less_free,
    "MemTotal": counter("meminfo", "MemTotal", lambda kbytes: kbytes + 4),
    "VmallocTotal": counter("meminfo", "VmallocTotal", lambda kbytes: kbytes + 1),
    "CommitLimit": counter("meminfo", "CommitLimit", lambda kbytes: 2 * kbytes),
    **{f"DirectMap{size}": counter("meminfo", f"DirectMap{size}", lambda kb: kb + (1 << 19)) for size in LEAVES},
    "a dax device's node": dax(target_node=7),
    "a dax device's alignment": dax(align=1 << 30),
    "a dax device's place": dax(resource=1 << 40),
    "a dax device's size": dax(size=1 << 20),
    "a dax device that is not there": lambda observed: replace(observed, dax=observed.dax[:-1]),
    "struct pages since boot": counter("vmstat", "nr_memmap_pages", lambda pages: pages + 1),
    "struct pages of boot": counter("vmstat", "nr_memmap_boot_pages", lambda pages: pages + 1),
    "memmap_on_memory": parameter("memmap_on_memory", "Y"),
    "online_policy": parameter("online_policy", "somehow"),
    "auto_movable_ratio": parameter("auto_movable_ratio", 1),
    "auto_movable_numa_aware": parameter("auto_movable_numa_aware", False),
    **{f"nodes that are {state}": nodes(state) for state in ("possible", "online", "has_memory", "has_normal_memory")},
    "nodes with CPUs": nodes("has_cpu"),
    "pageblocks of Movable": movable_pageblocks,
}


def noticed(name: str, step: str, later: str, false: Facts) -> set[str]:
    """The facts that differ, or what kept the model from following."""
    before, true = facts(name, step), facts(name, later)
    try:
        same = steps_between(before, false, "offline") == steps_between(before, true, "offline")
        was, derived = truly_led_to(name, step, later) if same else led_to(name, step, false)
    except (BadInput, KernelError) as refused:
        return {str(refused)}
    real, mine = compared(false, derived)
    differ = {fact for fact in real.keys() | mine.keys() if real.get(fact) != mine.get(fact)}
    surprising, _ = unnamed(false, differ)
    return {*surprising, *unequal(changed(before, false), changed(was, derived))}


def led_to(name: str, step: str, after: Facts) -> tuple[Facts, Facts]:
    """What the model shows at a moment, and what it shows when the steps are taken that lead to some facts."""
    session = boot(name, step)
    was = derive(session.k)
    replay(session, facts(name, step), after)
    return was, derive(session.k)


@cache
def truly_led_to(name: str, step: str, later: str) -> tuple[Facts, Facts]:
    """The same of the facts that are true."""
    return led_to(name, step, facts(name, later))


@pytest.mark.parametrize("what", FALSEHOODS)
@pytest.mark.parametrize(("name", "step", "later"), MOMENTS)
def test_what_is_false_is_noticed(name: str, step: str, later: str, what: str) -> None:
    true = facts(name, later)
    false = FALSEHOODS[what](true)
    if false != true:
        assert noticed(name, step, later, false)


@pytest.mark.parametrize(("name", "step", "later"), MOMENTS)
def test_what_is_true_is_not(name: str, step: str, later: str) -> None:
    assert noticed(name, step, later, facts(name, later)) == set()


def test_every_kind_of_falsehood_is_one_on_some_machine() -> None:
    true = [facts(name, later) for name, _, later in MOMENTS]
    assert [what for what, falsify in FALSEHOODS.items() if all(falsify(each) == each for each in true)] == []
