"""vmalloc() against hot-remove on arm64: where tables are shared, who frees them, and who must not."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Callable

import pytest

from memhp.explore.case import Configuration
from memhp.explore.cases.actors import pfns, reached
from memhp.explore.cases.vmalloc_vs_hot_remove import (
    APART,
    CASE,
    CHUNK,
    boot,
    build,
    chunk_is_mapped,
    dimm,
    placed,
    populate_chunk,
    shared_table,
)
from memhp.explore.doors.run import KernelProgram
from memhp.explore.engine.replay import replay
from memhp.explore.engine.search import Limits, search
from memhp.explore.engine.trace import Trace
from memhp.explore.engine.verdict import Verdict
from memhp.linux.layout import layout
from memhp.linux.mm.vmalloc import Vmalloc, vfree
from memhp.linux.state import Kernel
from memhp.units import GiB, KiB

MEET = {(4 * KiB, 48), (4 * KiB, 52), (16 * KiB, 47), (16 * KiB, 48), (16 * KiB, 52)}
"""linux-6.12 arch/arm64/include/asm/memory.h: the vmemmap ends 1 GiB below the top and its size is a power of two less
what 52 bits cut off, so its first GiB lies under the upper entry that vmalloc ends in, unless an entry is a GiB or the
table reaches to the top."""
REPAIRED = ("V6", "V7", "floor-ceiling")


def named(variant: str, page_size: int, va_bits: int, release: str = "linux-6.12") -> Configuration:
    return next(
        one
        for one in CASE.variant(variant).configurations
        if (one.page_size, one.va_bits, one.release) == (page_size, va_bits, release)
    )


def alone(variant: str, configuration: Configuration) -> Trace:
    """Hot-remove, and then vmalloc."""
    return replay(build(CASE.variant(variant), configuration).run(), "", extend=200_000)


def tables(trace: Trace, name: str) -> set[str]:
    """Frames of the page tables whose entries a CPU read or wrote."""
    texts = (line.text for line in trace.lines if line.name == name)
    return {found[1] for text in texts if (found := re.search(r"(?:load|store) P\w+ (0x[0-9a-f]+)\[", text))}


@pytest.mark.parametrize("variant", [one.name for one in CASE.variants])
def test_in_todays_layout_five_configurations_share_a_table_that_can_become_empty(variant: str) -> None:
    today = [one for one in CASE.variant(variant).configurations if one.release == "linux-6.12"]
    assert len(today) == 10
    assert {(one.page_size, one.va_bits) for one in today if not one.note} == MEET


def test_in_the_layouts_of_2019_and_2020_none_does() -> None:
    older = [one for one in CASE.variant("V6").configurations if one.release not in ("linux-6.12", "linux-7.2")]
    assert len(older) == 7 + 8 + 8
    assert all(one.note for one in older)
    shared = {(one.page_size, one.va_bits) for one in older if one.note != APART and one.release.endswith("v7")}
    assert shared == {(4 * KiB, 48), (16 * KiB, 48)}


def test_what_keeps_the_table_of_4k_48_in_the_layout_of_5_4_is_the_fixmap() -> None:
    """linux-5.4 arch/arm64/include/asm/memory.h: VMEMMAP_START is 2 MiB below 2 TiB, FIXADDR_TOP 20 MiB below that."""
    one = named("V6", 4 * KiB, 48, "arm64-hotremove-v7")
    config, ram = placed(CASE.variant("V6").config(one))
    shared = shared_table(layout(config, ram), ram)
    assert shared is not None
    assert (shared.level, shared.span.size, shared.tenants) == ("P4D", 512 * GiB, ("fixmap",))
    assert search(build(CASE.variant("V5"), one).run()).word == "safe"


@pytest.mark.parametrize("page_size, va_bits", [(4 * KiB, 48), (4 * KiB, 52), (16 * KiB, 47)])
def test_v5_frees_the_table_that_vmalloc_has_found(page_size: int, va_bits: int) -> None:
    one = named("V5", page_size, va_bits)
    verdict = search(CASE.program("V5", one.name).run())
    assert verdict.word == "broken"
    assert verdict.failure is not None
    assert verdict.failure.reason.startswith("freed-table: ")
    trace = replay(CASE.program("V5", one.name).run(), verdict.failure.schedule)
    assert (trace.end, trace.reason) == ("broken", verdict.failure.reason)
    last = trace.lines[-1]
    frame = re.search(r"load P\w+ (0x[0-9a-f]+)\[", last.text)
    assert last.name == "percpu"
    assert frame is not None
    released = [at for at, line in enumerate(trace.lines) if f"release PFN [{frame[1]}-" in line.text]
    found = [at for at, line in enumerate(trace.lines) if line.name == "percpu" and "load P" in line.text]
    assert len(released) == 1
    assert trace.lines[released[0]].name == "hot-remove"
    assert found[0] < released[0] < len(trace.lines) - 1


@pytest.mark.parametrize("variant", REPAIRED)
@pytest.mark.parametrize("page_size, va_bits", [(4 * KiB, 48), (16 * KiB, 47)])
def test_repaired_kernels_keep_the_shared_table(variant: str, page_size: int, va_bits: int) -> None:
    one = named(variant, page_size, va_bits)
    verdict = search(CASE.program(variant, one.name).run(), Limits(stop_at_failure=False))
    assert verdict.word == "safe"
    assert verdict.coverage.executions > 1


@pytest.mark.parametrize("variant", REPAIRED)
def test_a_safe_verdict_is_not_for_want_of_a_meeting(variant: str) -> None:
    """Both CPUs work on a table below the root where the case has no note, and on the root alone where it has."""
    meeting = alone(variant, named(variant, 4 * KiB, 48))
    apart = alone(variant, named(variant, 4 * KiB, 39))
    assert meeting.end == apart.end == "done"
    assert len(tables(meeting, "hot-remove") & tables(meeting, "percpu")) == 2
    assert len(tables(apart, "hot-remove") & tables(apart, "percpu")) == 1


def test_todays_kernels_are_explored_as_they_are() -> None:
    variant = CASE.variant("floor-ceiling")
    current = {one.release for one in variant.configurations if variant.current(one)}
    assert current == {"linux-6.12", "linux-7.2"}
    assert not any(variant.current(one) for name in ("V5", "V6", "V7") for variant in [CASE.variant(name)]
                   for one in variant.configurations)  # fmt: skip


def free_vmemmap(k: Kernel) -> None:
    """``vmemmap_free()`` of the DIMM alone."""
    start, end = pfns(k, dimm(k))
    memmap = k.layout.memmap(start, end)
    k.port.vmemmap_free(k, memmap.start, memmap.end, None)


def come_and_go(k: Kernel) -> None:
    """A chunk of per-CPU memory is mapped and unmapped again."""
    populate_chunk(k)
    vfree(k, CHUNK)


def explored(variant: str, actor: Callable[[Kernel], None], *, there: bool) -> Verdict:
    """4K pages, 48 bits, today's layout; `there`: whether the chunk is there from the start."""
    k = boot(CASE.variant(variant).config(named(variant, 4 * KiB, 48)))
    if there:
        populate_chunk(k)
    return search(KernelProgram(k, (free_vmemmap, actor), ("hot-remove", "percpu")).run())


@pytest.mark.parametrize("variant", [one.name for one in CASE.variants])
def test_a_chunk_that_is_there_keeps_the_table_while_it_is_unmapped(variant: str) -> None:
    """vunmap clears leaves and leaves tables: what hot-remove finds is never empty, whatever its rule."""
    verdict = explored(variant, lambda k: vfree(k, CHUNK), there=True)
    assert verdict.word == "safe"
    assert verdict.coverage.executions > 1


@pytest.mark.parametrize("variant", [one.name for one in CASE.variants])
def test_a_chunk_that_comes_and_goes_is_safe_if_no_shared_table_is_freed(variant: str) -> None:
    verdict = explored(variant, come_and_go, there=False)
    assert verdict.word == ("broken" if variant == "V5" else "safe")


def test_an_area_that_cannot_be_reached_is_an_oops() -> None:
    k = boot(CASE.variant("floor-ceiling").config(named("floor-ceiling", 4 * KiB, 48)))
    populate_chunk(k)
    assert chunk_is_mapped(k) is None
    area = k.statics(Vmalloc).vmap_areas[CHUNK][0]
    assert "oops" in (reached(k, area.start - k.config.page_size) or "")
