"""Pages that DMA holds, where the kernel's memory can be read: they never move, whichever zone they are in."""
# SPDX-License-Identifier: GPL-2.0-or-later

from pathlib import Path

from memhp.errors import BadInput
from memhp.facts.source import Source
from memhp.facts.struct_pages import StructPages
from memhp.facts.table_source import KCORE, open_tables
from memhp.operate.remedies import NEED
from memhp.spans import Span


class Pins:
    """Reads counts of pages in `memory` (a dump, a VM's RAM), or of this host in ``/proc/kcore``.

    `missing` says why nothing is read; "" if it is. Raises :class:`BadInput` for a `memory` that cannot be read.
    """

    def __init__(self, source: Source, memory: Path | None) -> None:
        self.missing = ""
        self._pages: StructPages | None = None
        if memory is not None:
            self._pages = StructPages(open_tables(memory))
        elif source.kind != "live":
            self.missing = NEED["pins"]
        else:
            try:
                self._pages = StructPages(open_tables(KCORE))
            except BadInput as error:
                self.missing = f"{NEED['pins']} ({error})"

    def held(self, pfns: Span) -> list[Span]:
        """Those of some pages that DMA holds, ascending; none where nothing is read."""
        return [] if self._pages is None else self._pages.pinned(pfns)
