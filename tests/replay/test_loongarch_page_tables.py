"""Page tables of real LoongArch guests: the model has their vmemmap at every moment, with what never goes again.

Where struct pages are stored is the allocator's choice and differs.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from errno import EEXIST, ENOMEM
from functools import cache

import numpy as np
import pytest

from captures import DATA, facts
from memhp.check import check_all, snapshot
from memhp.errors import KernelError
from memhp.facts.derive import derive
from memhp.facts.elfcore import ElfCore
from memhp.hw.memory import Owner, Use
from memhp.linux.mm.memory_hotplug_add import add_memory
from memhp.linux.mm.memory_hotplug_remove import remove_memory
from memhp.linux.mm.users import allocate, fragment, free
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, MiB
from replay.areas import Area, of_core, of_model
from replay.diary import log_text
from replay.machines import boot, played

PLUGS = "loongarch64-7.2.13+deb14-loong64-dimm-pt"
LOOP = "loongarch64-7.2.13+deb14-loong64-dimm-leak-loop"
SCARCE = "loongarch64-7.2.13+deb14-loong64-oom-halfway-pt"
LEAF = 32 * MiB
PAGE = 16 * 1024
SECTION = 512 * MiB


@cache
def core(name: str, step: str) -> ElfCore:
    return ElfCore(DATA / "ptcores" / name / step / "pt.elf.xz")


def steps_with_tables(name: str) -> list[str]:
    return sorted(path.name for path in (DATA / "ptcores" / name).iterdir())


def vmemmaps(k: Kernel, name: str, step: str) -> tuple[Area, Area]:
    """The vmemmap of the model and of the guest."""
    return of_model(k, k.layout.vmemmap.span), of_core(core(name, step), k.layout.vmemmap.span)


def same(mine: Area, real: Area) -> bool:
    return mine.leaves.same(real.leaves, pa=False) and mine.tables == real.tables


def plug(k: Kernel, start: int, size: int) -> None:
    """A DIMM is there, and the kernel adds it, whether that succeeds or not."""
    shift = k.config.page_shift
    k.hw.plug(Span(start >> shift, start + size >> shift), Owner(Use.DEVICE, "dimm"))
    add_memory(k, 0, start, size)


def unplug(k: Kernel, start: int, size: int) -> None:
    remove_memory(k, start, size)
    shift = k.config.page_shift
    k.hw.unplug(Span(start >> shift, start + size >> shift), "dimm")


def memmap_pages(k: Kernel) -> int:
    return derive(k).vmstat["nr_memmap_pages"]


def test_every_moment_has_the_guests_leaves_and_tables() -> None:
    seen = {}
    for moment in played(PLUGS):
        if moment.step in steps_with_tables(PLUGS):
            mine, real = vmemmaps(moment.session.k, PLUGS, moment.step)
            assert same(mine, real), moment.step
            seen[moment.step] = (real.leaves.va.size, len(real.tables))
    # The leaf of boot reaches to 6.4 GiB; another comes with memory at 8 GiB and stays when that is gone.
    assert seen == {
        "0-before": (1, 1),
        "1-plugged-offline": (1, 1),
        "4-removed": (1, 1),
        "5-plugged-above-8G": (2, 2),
        "6-removed-above-8G": (2, 2),
        "7-replugged-above-8G": (2, 2),
    }


@pytest.mark.parametrize("name", [PLUGS, LOOP, SCARCE])
def test_the_address_space_is_the_guests(name: str) -> None:
    info = core(name, "0-before").info
    layout = boot(name, "0-before").k.layout
    noted = (info.symbol("vmemmap"), info.number("VMALLOC_START"), info.number("SECTION_SIZE_BITS"))
    assert (layout.vmemmap_base, layout.vmalloc.start, layout.config.section_size_bits) == noted
    assert (layout.config.struct_page_size, layout.config.max_physmem_bits) == (
        int(info.text("SIZE(page)")),
        info.number("MAX_PHYSMEM_BITS"),
    )


def test_a_leaf_stays_for_every_window_of_struct_pages_ever_touched() -> None:
    """Eight DIMMs of 512 MiB at 8, 16 … 64 GiB come and go, one after the other, and then the same again."""
    k = boot(LOOP, "0-before").k
    added = [int(at) for at in re.findall(r"device_add x\d 512M node=None \{'addr': (\d+)\}", log_text(LOOP))]
    assert added == [each * 8 * GiB for each in range(1, 9)] * 2
    before, free = snapshot(k), sum(zone.free.size for zone in k.zones())
    assert same(*vmemmaps(k, LOOP, "0-before"))
    counted = []
    for number, step in enumerate(steps_with_tables(LOOP)[1:]):
        for at in added[8 * number : 8 * number + 8]:
            plug(k, at, SECTION)
            counted.append(memmap_pages(k))
            unplug(k, at, SECTION)
        mine, real = vmemmaps(k, LOOP, step)
        assert same(mine, real)
        assert real.leaves.va.size == 1 + 8
        # One leaf for each window, and the table of the root entry that they are under.
        assert free - sum(zone.free.size for zone in k.zones()) == 8 * LEAF // PAGE + 1
    told = re.findall(r"nr_memmap_pages (\d+)", log_text(LOOP))
    assert [counted[0], memmap_pages(k)] == [int(told[1]), int(told[2])] == [160, 0]
    broken = check_all(k, before)
    assert {breach.law for breach in broken} == {"vmemmap", "round-trip"}
    assert sum("struct pages of PFN" in breach.text for breach in broken if breach.law == "vmemmap")


def leave(k: Kernel, pages: int) -> None:
    """Use up memory, so that no 32 MiB are free in a piece and as many pages can be had."""
    fragment(k, LEAF, tag="fragments")
    allocate(k, pages * PAGE, "kernel", "spare")
    size = sum(zone.free.size for zone in k.zones())
    number = 0
    while size:
        try:
            allocate(k, size * PAGE, "kernel", f"hog {number}")
            number += 1
        except KernelError:
            size //= 2
    free(k, "spare")


def test_an_add_that_runs_out_of_memory_leaves_what_it_mapped_for_good() -> None:
    """48 GiB at 8 GiB: fifteen sections come, and 96 pages of the sixteenth's struct pages, in PTE tables."""
    k = boot(SCARCE, "0-before").k
    before = snapshot(k)
    assert same(*vmemmaps(k, SCARCE, "0-before"))
    leave(k, 15 * 160 + 96 + 3)
    with pytest.raises(KernelError) as failed:
        plug(k, 8 * GiB, 48 * GiB)
    assert failed.value.errno == ENOMEM
    for step in steps_with_tables(SCARCE)[1:]:
        mine, real = vmemmaps(k, SCARCE, step)
        assert same(mine, real)
        assert np.count_nonzero(real.leaves.height == 0) == 15 * 160 + 96
    assert (
        derive(k).vmstat["nr_memmap_pages"] == facts(SCARCE, "2-hugepages-returned").vmstat["nr_memmap_pages"] == 2400
    )
    with pytest.raises(KernelError) as again:
        add_memory(k, 0, 8 * GiB, SECTION)
    assert again.value.errno == EEXIST
    assert {breach.law for breach in check_all(k, before)} >= {"vmemmap"}
