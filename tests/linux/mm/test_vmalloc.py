"""vmalloc(): areas next to each other, mapped page by page, gone without a trace but for tables."""
# SPDX-License-Identifier: GPL-2.0-or-later

import numpy as np
import numpy.typing as npt
import pytest

from architectures import DIRECT_MAPPED
from kernels import kernel
from memhp.check import check_all, snapshot
from memhp.errors import KernelError
from memhp.hw.memory import Use
from memhp.hw.walker import translate
from memhp.linux.choices import Arch
from memhp.linux.mm.vmalloc import Vmalloc, vfree, vmalloc
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import MiB


def translated(k: Kernel, area: Span) -> npt.NDArray[np.int64]:
    """Physical addresses of an area's pages, -1 where nothing is mapped."""
    vas = np.arange(area.start, area.end, k.config.page_size, dtype=np.uint64)
    found = translate(k.hw.memory, k.hw.fmt, k.init_mm.frame, vas)
    return np.where(found.mapped, found.pa.astype(np.int64), -1)


@pytest.mark.parametrize("name", DIRECT_MAPPED)
def test_an_area_is_mapped_to_its_pages_in_order(name: Arch) -> None:
    k = kernel(name, "linux-6.12")
    area = vmalloc(k, 3 * MiB, "a")
    pages = np.concatenate([np.arange(*span) for span in k.statics(Vmalloc).vmap_areas["a"][1]])
    assert area.start == k.layout.vmalloc.start
    assert (translated(k, area) == pages << k.config.page_shift).all()
    assert {k.hw.memory.use_of(int(pfn)) for pfn in pages} == {Use.KERNEL}
    assert check_all(k) == []


@pytest.mark.parametrize("name", DIRECT_MAPPED)
def test_a_guard_page_lies_between_areas_and_a_hole_is_used_again(name: Arch) -> None:
    k = kernel(name, "linux-6.12")
    first, second = vmalloc(k, MiB, "first"), vmalloc(k, MiB, "second")
    assert second.start == first.end + k.config.page_size
    vfree(k, "first")
    assert vmalloc(k, MiB // 2, "third").start == first.start
    assert vmalloc(k, 2 * MiB, "fourth").start == second.end + k.config.page_size


@pytest.mark.parametrize("name", DIRECT_MAPPED)
def test_vfree_unmaps_flushes_and_then_frees_but_keeps_tables(name: Arch) -> None:
    k = kernel(name, "linux-6.12")
    before, tables = snapshot(k), k.hw.memory.used(Use.TABLE)
    free = sum(zone.free.size for zone in k.zones())
    area = vmalloc(k, 4 * MiB, "a")
    flushes = k.hw.ledger.flushes.total()
    kept = k.hw.memory.used(Use.TABLE) - tables
    vfree(k, "a")
    assert (translated(k, area) == -1).all()
    assert k.hw.ledger.flushes.total() > flushes
    assert k.hw.tlb.exposed_frames == 0
    assert sum(zone.free.size for zone in k.zones()) == free - kept
    assert check_all(k, before) == []


def test_without_pages_nothing_is_mapped() -> None:
    k = kernel("riscv64", "linux-6.12")
    free = sum(zone.free.size for zone in k.zones())
    with pytest.raises(KernelError, match="no pages"):
        vmalloc(k, (free + 1) * k.config.page_size, "a")
    assert k.statics(Vmalloc).vmap_areas == {}
    assert sum(zone.free.size for zone in k.zones()) == free


def test_a_process_older_than_the_area_sees_it_where_root_entries_are_preallocated() -> None:
    k = kernel("x86_64", "linux-6.12")
    k.port.copy_pgd(k, "older")
    area = vmalloc(k, MiB, "a")
    assert k.port.kernel_access(k, "older", area.start) == "ok"
