"""What real kernels printed in ``/proc/iomem`` before and after each hot-add and removal follows from the tree's rules.

Each capture's tree is read before a step, the step's drivers do to it what they do in the kernel, and the whole file
after the step must come out.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import random
from itertools import pairwise

import pytest

from captures import captures, open_capture
from memhp.linux.kernel import resource as r
from memhp.linux.kernel.resource import Resource

MEMORY_BLOCK = 128 << 20
VIRTIO_MEM = "System RAM (virtio_mem)"


def iomem_of(capture: str) -> list[str]:
    """The ``/proc/iomem`` of each step of a capture."""
    return [source.read("/proc/iomem") for source in open_capture(capture).values()]


def flags_of(name: str) -> int:
    """The flags with which the kernel's drivers request a resource of this name."""
    if name == VIRTIO_MEM:
        return r.BUSY_SYSTEM_RAM | r.IORESOURCE_SYSRAM_DRIVER_MANAGED | r.IORESOURCE_SYSRAM_MERGEABLE
    if name.startswith("System RAM ("):
        return r.BUSY_SYSTEM_RAM | r.IORESOURCE_SYSRAM_DRIVER_MANAGED
    if name == "System RAM":
        return r.BUSY_SYSTEM_RAM
    if name.startswith("virtio"):
        return r.IORESOURCE_SYSTEM_RAM | r.IORESOURCE_EXCLUSIVE
    if name.startswith(("dax", "namespace")):
        return r.IORESOURCE_MEM | r.IORESOURCE_BUSY
    return r.IORESOURCE_MEM


def read(text: str) -> list[Resource]:
    resources = []
    for line in text.splitlines():
        place, _, name = line.strip().partition(" : ")
        start, _, end = place.partition("-")
        resources.append(Resource(int(start, 16), int(end, 16), name, flags_of(name)))
    return resources


def tree(text: str) -> Resource:
    """The tree that prints as this text; outer resources stand before inner ones, so each is inserted below."""
    root = r.iomem_root()
    parents = [root]
    for line, res in zip(text.splitlines(), read(text), strict=True):
        depth = (len(line) - len(line.lstrip())) // 2
        del parents[depth + 1 :]
        r.request_resource(parents[-1], res)
        parents.append(res)
        if res.name.startswith("System RAM (kmem)"):
            parents[-2].flags = r.IORESOURCE_SYSTEM_RAM
    return root


def show(root: Resource) -> str:
    return "".join(
        f"{'  ' * depth}{res.start:08x}-{res.end:08x} : {res.name}\n" for depth, res in r.iter_resources(root)
    )


def blocks(ranges: set[tuple[int, int, str]]) -> set[tuple[int, str]]:
    return {(at, name) for start, end, name in ranges for at in range(start, end + 1, MEMORY_BLOCK)}


def replay(root: Resource, before: str, after: str, order: str) -> None:
    """Turn the tree before a step into the one after it, as memory hotplug and the drivers above it do."""
    old = {(res.start, res.end, res.name) for res in read(before)}
    new = {(res.start, res.end, res.name) for res in read(after)}
    gone, come = old - new, new - old
    ram_gone, ram_come = ({res for res in change if res[2].startswith("System RAM")} for change in (gone, come))

    def ordered(places: set[tuple[int, str]]) -> list[tuple[int, str]]:
        ascending = sorted(places)
        if order == "shuffled":
            random.Random(len(ascending)).shuffle(ascending)
        return ascending[::-1] if order == "descending" else ascending

    for start, _ in ordered(blocks(ram_gone) - blocks(ram_come)):
        assert r.release_mem_region_adjustable(root, start, MEMORY_BLOCK)
    for start, end, name in sorted(gone - ram_gone):
        held = next(res for _, res in r.iter_resources(root) if (res.start, res.end, res.name) == (start, end, name))
        if held.flags & r.IORESOURCE_BUSY:
            assert r.release_region(root, start, end - start + 1)
        else:
            r.remove_resource(held)  # dev_dax_kmem_remove()
    for start, end, name in sorted(come - ram_come):
        res = r.request_region(root, start, end - start + 1, name)
        if any(start <= ram[0] <= end for ram in ram_come):
            res.flags = r.IORESOURCE_SYSTEM_RAM  # dev_dax_kmem_probe(): no longer busy, memory is claimed below it
    for start, end, name in sorted(ram_come):
        if name != VIRTIO_MEM:
            r.request_region(root, start, end - start + 1, name, flags_of(name))
    for start, name in ordered(blocks(ram_come) - blocks(ram_gone)):
        if name == VIRTIO_MEM:
            flags = r.IORESOURCE_SYSTEM_RAM | r.IORESOURCE_SYSRAM_DRIVER_MANAGED
            r.merge_system_ram_resource(r.request_region(root, start, MEMORY_BLOCK, name, flags))


def changing() -> list[str]:
    names = [name for name in captures() if len(set(iomem_of(name))) > 1]
    assert len(names) > 20
    return names


@pytest.mark.parametrize("order", ["ascending", "descending", "shuffled"])
@pytest.mark.parametrize("capture", changing())
def test_every_step_of_a_capture_follows(capture: str, order: str) -> None:
    steps = iomem_of(capture)
    root = tree(steps[0])
    assert show(root) == steps[0]
    for before, after in pairwise(steps):
        replay(root, before, after, order)
        assert show(root) == after
