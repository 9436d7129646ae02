"""Where an entry leads counts in whatever order somebody writes it and somebody frees what it leads to."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace

import pytest

from memhp.explore.case import Configuration, Variant
from memhp.explore.cases.actors import boot, dimm, hot_add, pfns
from memhp.explore.doors.run import KernelProgram
from memhp.explore.engine.shortest import decide
from memhp.hw.lifetime import walk
from memhp.hw.memory import Owner, Use
from memhp.hw.tlb import Table
from memhp.linux.drivers.base.memory_devices import remove_memory_block
from memhp.linux.drivers.base.memory_groups import memory_group_register_static, memory_group_unregister
from memhp.linux.mm.page_alloc import alloc_pages, free_pages
from memhp.linux.mm.pgd import copy_kernel_half
from memhp.linux.mm.vmalloc import Vmalloc, vfree, vmalloc
from memhp.linux.mm.vmap import vmap_pages_range_noflush, vmap_range_noflush, vunmap_range_noflush
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB

RISCV = Configuration("riscv64", 4096, 48)


def either_way(program: KernelProgram) -> list[str]:
    """What goes wrong with the actors in both orders; "" for nothing."""
    turned = replace(program, actors=program.actors[::-1], names=program.names[::-1], failures=frozenset())
    found = [decide(one.run()).failure for one in (program, turned)]
    return ["" if each is None else each.reason.partition(":")[0] for each in found]


def test_an_entry_that_comes_to_lead_to_struct_pages_that_another_frees() -> None:
    """The order in which it is written first and its storage freed then is one, whoever is listed first."""
    k = boot(Variant("", "", "broken", (RISCV,)).config(RISCV))
    hot_add(k)
    first = pfns(k, dimm(k)).start
    va = k.layout.memmap(first, first + 1).start
    *_, hop = walk(k.hw, k.init_mm, va)
    assert hop.frame is not None
    height, index = hop.table.height, hop.entry
    entry = int(k.hw.load_run(hop.table, index, 1)[0])
    k.hw.clear_run(hop.table, index, 1, "setup")
    k.port.flush_tlb_kernel_range(k, Span(va, va + k.hw.fmt.levels[height].size))
    count = k.hw.fmt.pages_at(height)
    storage = Span(hop.frame // count * count, hop.frame // count * count + count)

    def maps(k: Kernel) -> None:
        k.hw.store(hop.table, index, entry, "maps")

    def frees(k: Kernel) -> None:
        free_pages(k, [storage], "frees")
        order = count.bit_length() - 1
        alloc_pages(k, order, 0, owner=Owner(Use.KERNEL, "somebody"), where="mm/page_alloc.c:alloc_pages")

    assert either_way(KernelProgram(k, (maps, frees), ("maps", "frees"))) == ["flush-before-free"] * 2


def test_a_table_whose_entry_was_flushed_leads_nowhere_whatever_else_was_cleared_meanwhile() -> None:
    """arch/riscv/mm/pgtable.c:pud_free_pmd_page flushes what it unlinked, then frees the tables below; an area of
    others that is unmapped and not flushed yet has nothing to do with that.
    """
    k = boot(Variant("", "", "repaired", (RISCV,)).config(RISCV))
    vmalloc(k, 4096, "other")
    vmalloc(k, 4096, "pages")
    prot, base = k.port.page_kernel(k), (k.layout.vmalloc.start // GiB + 3) * GiB
    small, (_, pages) = Span(base, base + 4096), k.statics(Vmalloc).vmap_areas["pages"]
    vmap_pages_range_noflush(k, small, pages, prot, k.config.page_shift)
    vunmap_range_noflush(k, small)
    k.port.flush_tlb_kernel_range(k, small)

    def maps_a_gigabyte(k: Kernel) -> None:
        vmap_range_noflush(k, Span(base, base + GiB), 8 * GiB >> k.config.page_shift, prot, k.config.shift(2))
        taker = Owner(Use.KERNEL, "somebody")
        alloc_pages(k, 0, 0, count=4, owner=taker, where="mm/page_alloc.c:alloc_pages")

    program = KernelProgram(k, (maps_a_gigabyte, lambda k: vfree(k, "other")), ("maps", "vfree"))
    assert either_way(program) == ["", ""]


@pytest.mark.parametrize("machine", [RISCV, Configuration("x86_64", 4096, 48, "linux-7.2")], ids=str)
def test_whether_blocks_belong_to_a_group_is_asked_without_a_lock(machine: Configuration) -> None:
    """drivers/base/memory.c:memory_group_unregister: list_empty() reads what list_add() and list_del() write whole."""
    k = boot(Variant("", "", "repaired", (machine,)).config(machine))
    group = memory_group_register_static(k, 0, 4 * k.pages_per_block)
    hot_add(k)
    block = k.block_id(pfns(k, dimm(k)).start)
    k.memory_groups[group].memory_blocks = 1

    def leaves(k: Kernel) -> None:
        remove_memory_block(k, block, block + 1, group)

    def drops(k: Kernel) -> None:
        memory_group_unregister(k, group)

    assert "data race" not in either_way(KernelProgram(k, (leaves, drops), ("leaves", "drops")))


def test_struct_pages_that_are_freed_by_who_never_came_to_the_table_that_leads_there() -> None:
    """mm/page_alloc.c:__free_pages asks no page table: the entry in vmemmap is reachable all the same, whether or not
    anybody has loaded it before.
    """
    k = boot(Variant("", "", "broken", (RISCV,)).config(RISCV))
    hot_add(k)
    first = pfns(k, dimm(k)).start
    *_, hop = walk(k.hw, k.init_mm, k.layout.memmap(first, first + 1).start)
    assert hop.frame is not None
    count = k.hw.fmt.pages_at(hop.table.height)
    storage = Span(hop.frame // count * count, hop.frame // count * count + count)

    def frees(k: Kernel) -> None:
        free_pages(k, [storage], "frees")
        order = count.bit_length() - 1
        alloc_pages(k, order, 0, owner=Owner(Use.KERNEL, "somebody"), where="mm/page_alloc.c:alloc_pages")

    def loads(k: Kernel) -> int:
        return int(k.hw.load(hop.table, hop.entry + 1))

    assert either_way(KernelProgram(k, (frees,), ("frees",))) == ["flush-before-free"] * 2
    assert either_way(KernelProgram(k, (frees, loads), ("frees", "loads"))) == ["flush-before-free"] * 2


def test_pages_of_vmalloc_that_are_freed_before_their_entries_are_cleared() -> None:
    """mm/vmalloc.c:vfree unmaps an area before it frees the pages: the other way round whoever gets one shares it."""
    k = boot(Variant("", "", "broken", (RISCV,)).config(RISCV))
    vmalloc(k, 4096, "area")
    area, pages = k.statics(Vmalloc).vmap_areas["area"]

    def frees_first(k: Kernel) -> None:
        free_pages(k, pages, "frees_first")
        vunmap_range_noflush(k, area)
        k.port.flush_tlb_kernel_range(k, area)

    def takes(k: Kernel) -> None:
        alloc_pages(k, 0, 0, owner=Owner(Use.KERNEL, "somebody"), where="mm/page_alloc.c:alloc_pages")

    assert either_way(KernelProgram(k, (frees_first, takes), ("frees", "takes"))) == ["flush-before-free"] * 2
    assert either_way(KernelProgram(k, (lambda k: vfree(k, "area"), takes), ("vfree", "takes"))) == ["", ""]


def mapped(k: Kernel) -> tuple[list[Table], int, list[Span]]:
    """The tables on the way to a page that vmalloc maps, root first; its address, and its frames."""
    vmalloc(k, 4096, "area")
    area, pages = k.statics(Vmalloc).vmap_areas["area"]
    return [hop.table for hop in walk(k.hw, k.init_mm, area.start)], area.start, pages


def takes_again(k: Kernel, pages: list[Span]) -> None:
    free_pages(k, pages, "frees")
    alloc_pages(k, 0, 0, owner=Owner(Use.KERNEL, "somebody"), where="mm/page_alloc.c:alloc_pages")


@pytest.mark.parametrize("flushed", [True, False])
@pytest.mark.parametrize("above", [1, 2])
def test_a_page_below_a_table_that_was_unlinked_is_reached_until_a_flush(above: int, flushed: bool) -> None:
    """Whether the entry that is cleared is one level above the leaf or two."""
    k = boot(Variant("", "", "broken", (RISCV,)).config(RISCV))
    path, va, pages = mapped(k)
    upper = path[-1 - above]

    def unlinks(k: Kernel) -> None:
        k.hw.store(upper, k.hw.fmt.index(va, upper.height), 0, "unlinks")
        if flushed:
            k.port.flush_tlb_all(k)
        takes_again(k, pages)

    assert either_way(KernelProgram(k, (unlinks,), ("unlinks",))) == ["" if flushed else "flush-before-free"] * 2


def test_a_table_that_is_freed_or_linked_meets_who_frees_what_it_leads_to() -> None:
    """Whoever is listed first, and where the pages lie elsewhere than the table."""
    k = boot(Variant("", "", "broken", (RISCV,)).config(RISCV))
    path, va, pages = mapped(k)
    leaf, upper = path[-1], path[-2]
    entry = k.hw.fmt.index(va, upper.height)
    link = int(k.hw.load(upper, entry))

    def frees_table(k: Kernel) -> None:
        free_pages(k, [Span(leaf.frame, leaf.frame + 1)], "frees_table")

    def frees_pages(k: Kernel) -> None:
        takes_again(k, pages)

    program = KernelProgram(k, (frees_table, frees_pages), ("table", "pages"))
    assert either_way(program) == ["flush-before-free"] * 2
    k.hw.store(upper, entry, 0, "setup")
    k.port.flush_tlb_all(k)

    def links(k: Kernel) -> None:
        k.hw.store(upper, entry, link, "links")

    def looks(k: Kernel) -> int:
        return int(k.hw.load(leaf, 0))

    assert either_way(KernelProgram(k, (links, frees_pages), ("links", "pages"))) == ["flush-before-free"] * 2
    assert either_way(KernelProgram(k, (looks, frees_pages), ("looks", "pages"))) == ["", ""]


def test_a_root_of_a_process_leads_on_where_the_kernels_does_no_more() -> None:
    """And a root entry that is copied once more changes nothing of that."""
    k = boot(Variant("", "", "broken", (RISCV,)).config(RISCV))
    copy_kernel_half(k, "task", "arch/riscv/include/asm/pgalloc.h:pgd_alloc")
    path, va, pages = mapped(k)
    at = k.hw.fmt.index(va, path[0].height)
    own = k.pgd["task"]

    def clears(k: Kernel, *roots: Table) -> None:
        k.hw.store(own, at, int(k.hw.load(k.init_mm, at)), "syncs")
        for root in roots:
            k.hw.store(root, at, 0, "clears")
        k.port.flush_tlb_all(k)
        takes_again(k, pages)

    for roots, found in (((own,), "flush-before-free"), ((k.init_mm,), "flush-before-free"), ((own, k.init_mm), "")):
        program = KernelProgram(k, (lambda k, roots=roots: clears(k, *roots),), ("clears",))  # type: ignore[misc]
        assert either_way(program) == [found] * 2
