"""Who has pages, as drgn tells it with debug information of the kernel: slab caches, callers of vmalloc, files.

Memory comes from wherever page tables are read (:mod:`memhp.facts.table_source`), and addresses are translated here, so
that architectures which drgn does not walk are no exception. A kernel that runs, or a damaged dump, may lead it astray:
it works in a process of its own, for so long.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from memhp.errors import BadInput
from memhp.facts.kdump import drgn_there
from memhp.facts.own_process import OwnProcess
from memhp.facts.table_source import TableSource
from memhp.hw.reader import MissingTables
from memhp.hw.walker import translate
from memhp.linux.arch.registry import arch_called
from memhp.linux.layout import Layout
from memhp.spans import Span
from memhp.units import div_round_up

MOST = 1 << 15
"""So many pages are looked at for slab, evenly spread."""
FRAMES = 1 << 12
"""So many frames of memory are kept, as page tables and what lies close are read again and again."""
KERNEL_HALF = 1 << 63
MAPPING_ANON = 1
"""``PAGE_MAPPING_ANON``, later ``FOLIO_MAPPING_ANON``: what `mapping` points to is an ``anon_vma``."""
MISSING = "MissingDebugInfoError"
FIX = "install the package with it, or give its vmlinux: --debug-info"

What = Literal["slab", "vmalloc", "file", "anonymous"]


class PageUser(msgspec.Struct, frozen=True, kw_only=True):
    """Who has so many pages: a slab cache, the function that called vmalloc, the file, or processes' own memory."""

    what: What
    name: str
    pages: int


class PageUsers:
    """Asks drgn. Raises BadInput where it is not installed, or has no debug information of that kernel."""

    def __init__(self, source: TableSource, layout: Layout, debug_info: Path | None) -> None:
        if not drgn_there():
            raise BadInput("drgn is not installed", fix="pip install 'memhp[drgn]'")
        serve = partial(_serve, source, layout, debug_info)
        self._process = OwnProcess(serve, who="drgn", where=source.where)
        if error := self._process.answer():
            assert source.info is not None
            told = f"no debug information of {source.info.release}" if error == MISSING else f"drgn: {error}"
            raise BadInput(told, where=str(debug_info or ""), fix=FIX)

    def of(self, pfns: Span, pinned: Sequence[Span]) -> list[PageUser]:
        """Who has the pages of a range that do not move, and the `pinned` ones; those with most first."""
        found: Counter[tuple[What, str]] = self._process.ask((pfns, list(pinned)))
        return [PageUser(what=what, name=name, pages=pages) for (what, name), pages in found.most_common()]


def _serve(source: TableSource, layout: Layout, debug_info: Path | None, line: Connection) -> None:
    """The process of its own: what stands in the way, "" if nothing does; then an answer for each range."""
    try:
        program = _program(source)
        _load(program, debug_info)
    except Exception as error:
        # What drgn raises has no common class, and libdw's complaints come as plain Exception.
        name = type(error).__name__
        line.send(name if name == MISSING else str(error).partition("\n")[0] or name)
        return
    line.send("")
    while True:
        try:
            pfns, pinned = line.recv()
        except EOFError:
            return
        line.send(_users(program, layout, pfns, pinned))


def _program(source: TableSource) -> Any:
    """The kernel's memory, for drgn."""
    drgn: Any = import_module("drgn")
    assert source.info is not None
    page, fmt = source.root.fmt.page_size, source.root.fmt

    @lru_cache(FRAMES)
    def frame(va: int) -> bytes:
        found = translate(source.memory, fmt, source.root.pfn, np.array([va], np.uint64), root_index=source.root.index)
        try:
            if found.mapped[0]:
                return source.memory.tables(found.pa // np.uint64(page)).tobytes()
        except MissingTables:
            pass
        raise drgn.FaultError("not in the dump", va)

    def read(address: int, count: int, _offset: int, _physical: bool) -> bytes:
        first = address & -page
        whole = b"".join(frame(va) for va in range(first, address + count, page))
        return whole[address - first : address - first + count]

    platform = next(each for each in drgn.Architecture if arch_called(each.name.lower()) == fmt.arch)
    program = drgn.Program(drgn.Platform(platform))
    note = "".join(f"{key}={value}\n" for key, value in source.info.lines.items())
    program.set_linux_kernel_custom(note, source.live)
    program.add_memory_segment(KERNEL_HALF, KERNEL_HALF, read)
    return program


def _load(program: Any, debug_info: Path | None) -> None:
    """Load debug information of the kernel itself: a file's, or what is installed where drgn looks for it."""
    program.set_enabled_debug_info_finders(["standard"])
    program.load_debug_info([debug_info] if debug_info is not None else [], main=True)


def _users(program: Any, layout: Layout, pfns: Span, pinned: Sequence[Span]) -> "Counter[tuple[What, str]]":
    """Pages by who has them; what cannot be followed, as in a kernel that goes on, is left out."""
    drgn: Any = import_module("drgn")
    found: Counter[tuple[What, str]] = Counter()
    each = div_round_up(pfns.size, MOST)
    for pfn in range(pfns.start, pfns.end, each):
        with suppress(drgn.FaultError, LookupError, ValueError):
            if name := _slab_cache(drgn, _page(drgn, program, layout, pfn)):
                found["slab", name] += each
    with suppress(drgn.FaultError, LookupError, ValueError):
        for name, pages in _vmalloc(program, layout, pfns):
            found["vmalloc", name] += pages
    for pfn in (pfn for span in pinned for pfn in range(*span)):
        with suppress(drgn.FaultError, LookupError, ValueError):
            found[_mapped_from(drgn, _page(drgn, program, layout, pfn))] += 1
    return found


def _page(drgn: Any, program: Any, layout: Layout, pfn: int) -> Any:
    """The first page of what a page is a part of."""
    mm: Any = import_module("drgn.helpers.linux.mm")
    return mm.compound_head(drgn.Object(program, "struct page *", layout.pfn_to_page(pfn)))


def _slab_cache(drgn: Any, page: Any) -> str:
    """The name of the cache whose slab a page is, "" if it is none."""
    mm: Any = import_module("drgn.helpers.linux.mm")
    if not mm.PageSlab(page):
        return ""
    try:
        slab = drgn.cast("struct slab *", page)
    except LookupError:
        slab = page  # before 5.17 a part of struct page
    return str(slab.slab_cache.name.string_().decode("utf-8", "replace"))


def _vmalloc(program: Any, layout: Layout, pfns: Span) -> Iterator[tuple[str, int]]:
    """Areas of vmalloc with pages of a range, stacks among them: who asked for the area, how many pages."""
    mm: Any = import_module("drgn.helpers.linux.mm")
    low, high = layout.pfn_to_page(pfns.start), layout.pfn_to_page(pfns.end)
    for area in mm.for_each_vmap_area(program):
        vm = area.vm.read_()
        count = int(vm.nr_pages) if vm and vm.pages else 0
        if not 0 < count <= MOST << 5:
            continue
        pages = np.frombuffer(program.read(vm.pages.value_(), count * 8), "<u8")
        here = int(((pages >= np.uint64(low)) & (pages < np.uint64(high))).sum())
        if here:
            try:
                name = program.symbol(vm.caller.value_()).name
            except LookupError:
                name = f"{vm.caller.value_():#x}"
            yield name, here


def _mapped_from(drgn: Any, page: Any) -> tuple[What, str]:
    """What a page of a process or of the page cache is a copy of."""
    fs: Any = import_module("drgn.helpers.linux.fs")
    mapping = page.mapping.read_()
    if not mapping or mapping.value_() & MAPPING_ANON:
        return "anonymous", "memory of processes"
    path = fs.inode_path(mapping.host)
    return "file", path.decode("utf-8", "replace") if path else f"inode {int(mapping.host.i_ino)}"
