"""Where drivers of a domain get pages to map other domains' memory: drivers/xen/unpopulated-alloc.c."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from memhp.check import check_all
from memhp.errors import KernelError
from memhp.linux.drivers.xen.unpopulated_alloc import XEN_SCRATCH, Unpopulated, xen_alloc_unpopulated_pages
from memhp.linux.kernel.resource import iter_resources
from memhp.linux.mm.dev_pagemap import get_dev_pagemap
from memhp.linux.mm.sparse import pfn_to_online_page, pfn_valid
from memhp.linux.state import Kernel
from memhp.scenario.load import loads
from memhp.target.model.run import rehearse_scenario
from memhp.units import GiB, MiB

SECTION = 128 * MiB
PAGES = SECTION >> 12


def domain(*steps: str, preset: str = "x86-vm", memory: str = "2G") -> Kernel:
    text = f'[machine]\npreset = "{preset}"\nmemory = "{memory}"\n'
    done, k = rehearse_scenario(loads(f"steps = [{', '.join(f'{{ {step} }}' for step in steps)}]\n{text}"))
    assert done.ok, [step.outcome for step in done.steps]
    assert check_all(k) == []
    return k


def wants(size: str) -> str:
    return f'do = "xen-target", unpopulated = "{size}"'


def scratch(k: Kernel) -> list[tuple[int, int]]:
    return [(res.start, res.size) for _, res in iter_resources(k.iomem_resource) if res.name == XEN_SCRATCH]


def managed(k: Kernel) -> int:
    return sum(zone.managed for zone in k.zones())


def test_a_section_of_addresses_behind_ram_gets_struct_pages_and_no_memory() -> None:
    """``fill_list()`` rounds up to sections; they are a device's of type generic, and no memory blocks."""
    k, idle = domain(wants("64M")), domain()
    assert scratch(k) == [(2 * GiB, SECTION)]
    first = 2 * GiB >> 12
    assert pfn_valid(k, first) and not pfn_to_online_page(k, first)
    pgmap = get_dev_pagemap(k, first + PAGES - 1)
    assert pgmap is not None and pgmap.type == "MEMORY_DEVICE_GENERIC"
    assert len(list(k.memory_blocks)) == len(list(idle.memory_blocks))
    # Struct pages of 64 bytes, and nothing is given up for what they describe.
    assert 0 <= managed(k) == managed(idle)
    assert sum(z.free.size for z in idle.zones()) - sum(z.free.size for z in k.zones()) < PAGES * 64 // 4096 + 16


def test_what_is_left_of_a_section_is_used_before_another_is_claimed() -> None:
    """The list is taken from its head, which is the highest page."""
    k = domain(wants("64M"), wants("64M"))
    assert scratch(k) == [(2 * GiB, SECTION)]
    assert k.statics(Unpopulated).page_list == []
    k = domain(wants("100M"), wants("100M"))
    assert scratch(k) == [(2 * GiB, SECTION), (2 * GiB + SECTION, SECTION)]
    assert sum(span.size for span in k.statics(Unpopulated).page_list) == (2 * SECTION - 200 * MiB) >> 12
    k = domain(wants("64M"))
    (took,) = xen_alloc_unpopulated_pages(k, 3)
    assert (took.start << 12, took.size) == (2 * GiB + 64 * MiB - 3 * 4096, 3)


def test_memory_that_is_added_later_comes_behind_it() -> None:
    k = domain('do = "xen-target", target = "2300M"', wants("64M"), 'do = "xen-target", target = "2500M"')
    (start, size) = scratch(k)[0]
    blocks = sorted(block for first, end, _ in k.memory_blocks for block in range(first, end) if block >= 16)
    assert (start, size) == (18 * SECTION, SECTION)
    assert blocks == [16, 17, 19, 20]


def test_a_place_that_is_refused_is_claimed_by_nobody() -> None:
    """No memory for struct pages: ``memremap_pages()`` fails, and the resource goes. The direct map stays (f-4)."""
    k = domain(memory="256M")
    with pytest.raises(KernelError) as error:
        xen_alloc_unpopulated_pages(k, 64 * GiB >> 12)
    assert error.value.errno
    assert scratch(k) == []


def test_where_no_addresses_are_named_pages_come_from_the_balloon() -> None:
    """arch/arm/xen/enlighten.c: without regions in the device tree the target resource is none."""
    k, idle = domain(wants("64M"), preset="arm64-vm"), domain(preset="arm64-vm")
    assert scratch(k) == []
    assert (managed(idle) - managed(k)) << 12 == 64 * MiB
