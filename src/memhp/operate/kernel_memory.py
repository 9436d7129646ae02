"""What the kernel's own memory tells of pages, where it can be read: those that DMA holds, those with struct pages."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Mapping, Sequence
from pathlib import Path

from memhp.errors import BadInput
from memhp.facts import kpageflags
from memhp.facts.kpageflags import PageRun
from memhp.facts.page_users import PageUser, PageUsers
from memhp.facts.source import OSRELEASE, Source
from memhp.facts.struct_pages import Storage, StructPages
from memhp.facts.table_source import KCORE, TableSource, open_tables
from memhp.operate.remedies import NEED
from memhp.spans import Span, SpanSet

BLOCKS = 8
"""Of so many blocks drgn tells whose pages are."""


class KernelMemory:
    """Reads `memory` (a dump, a VM's RAM), or of this host ``/proc/kcore``.

    `missing` says why nothing is read; "" if it is. Raises :class:`BadInput` for a `memory` without struct pages, and
    for that of another kernel than the machine runs.
    """

    def __init__(self, source: Source, memory: TableSource | None, debug_info: Path | None = None) -> None:
        self.missing = self.users_missing = ""
        self._pages: StructPages | None = None
        self._users: PageUsers | None = None
        self._debug_info = debug_info
        self.asked = 0
        """Of how many blocks drgn told whose pages are."""
        self._memory = memory
        if memory is not None:
            self._pages = StructPages(memory)
            _check_kernel(source, memory)
        elif source.kind != "live":
            self.missing = NEED["pins"]
        else:
            try:
                self._memory = open_tables(KCORE)
                self._pages = StructPages(self._memory)
            except BadInput as error:
                self.missing = f"{NEED['pins']} ({error})"

    def held(self, pfns: Span) -> list[Span]:
        """Those of some pages that DMA holds, ascending; none where nothing is read."""
        return [] if self._pages is None else self._pages.pinned(pfns)

    def storage(self, pfns: Span) -> list[Storage]:
        """Those of some pages that hold struct pages, and of which pages; none where nothing is read."""
        return [] if self._pages is None else list(self._pages.storage(pfns))

    def users(self, pfns: Span) -> list[PageUser]:
        """Who has those of some pages that do not move, and those that DMA holds, if drgn can tell.

        `users_missing` says why not, else; only some blocks are looked at, as it takes a second for each.
        """
        if self._pages is None or self._memory is None or self.users_missing:
            return []
        if self.asked == BLOCKS:
            self.users_missing = f"drgn told of {BLOCKS} blocks: ask about others by themselves"
            return []
        try:
            self._users = self._users or PageUsers(self._memory, self._pages.layout, self._debug_info)
            self.asked += 1
            return self._users.of(pfns, self.held(pfns))
        except BadInput as error:
            self.users_missing = str(error)
            return []

    def self_hosted(self, pfns: Span) -> bool | None:
        """Whether these pages begin with struct pages of their own, as an altmap has them; None where nothing is read.

        Memory of boot may hold its own as well, but anywhere.
        """
        if self.missing:
            return None
        return any(each.frames.start == pfns.start and each.pages.overlaps(pfns) for each in self.storage(pfns))


def _check_kernel(source: Source, memory: TableSource) -> None:
    """Raise :class:`BadInput` where memory is not that of the machine."""
    release, noted = (source.get(OSRELEASE) or "").strip(), memory.info.release if memory.info is not None else ""
    if release and release != noted:
        raise BadInput(
            f"it is the memory of Linux {noted}, and the machine runs {release}", where=memory.where,
            fix="name the machine of that moment: --machine CAPTURE, --sysroot DIR",
        )  # fmt: skip


def pins_held(vmstat: Mapping[str, int]) -> int | None:
    """How many pins there are in all memory (``mm/gup.c``); None of a kernel that does not count them, before 5.6.

    CPUs add theirs to the counters every second or so: what has been held for longer is in.
    """
    got, back = vmstat.get("nr_foll_pin_acquired"), vmstat.get("nr_foll_pin_released")
    return None if got is None or back is None else max(got - back, 0)


def pins_unseen(memory: KernelMemory, vmstat: Mapping[str, int]) -> str:
    """What is to be said of pins that nobody sees; "" where they are seen, or counters say that there are none."""
    count = pins_held(vmstat)
    if not memory.missing or count == 0:
        return ""
    return memory.missing if count is None else f"where the {count} pins are that counters tell of: {memory.missing}"


def use_of(source: Source, memory: KernelMemory, runs: Sequence[PageRun], pfns: Span, page: int) -> dict[str, int]:
    """Bytes of the pages of a block by kind, and of those that are ``pinned``, which do not count as movable.

    Struct pages are seen in the kernel's memory, and there only where they are of other blocks.
    """
    found = kpageflags.by_kind(runs, page)
    if pinned := sum(span.size for span in memory.held(pfns)) * page:
        found["movable"] = max(found.get("movable", 0) - pinned, 0)
        found["pinned"] = pinned
    frames = SpanSet.joined(sorted(each.frames for each in memory.storage(pfns)))
    if frames:
        shown = kpageflags.counts_of(source, frames, page) if runs else None
        for kind, size in (shown or _likely(found, frames.size * page)).items():
            found[kind] = found.get(kind, 0) - size
        found["memmap"] = frames.size * page
    return {kind: size for kind, size in found.items() if size > 0}


def _likely(found: Mapping[str, int], size: int) -> dict[str, int]:
    """As what kpageflags showed so many bytes of struct pages, where that cannot be asked any more."""
    taken: dict[str, int] = {}
    for kind in ("memmap", "reserved", "kernel"):
        taken[kind] = min(size, found.get(kind, 0))
        size -= taken[kind]
    return taken
