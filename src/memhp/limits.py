"""How much memhp takes in: every limit on input stands here by its name, and a refusal says which one it is.

None is anywhere near what machines or people write; they are there so that a wrong file, a device or a file made to do
harm ends in one line and not in a machine without memory. docs/limits.md is this table in words.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass

from memhp.errors import BadInput
from memhp.units import GiB, MiB, format_size


@dataclass(frozen=True)
class Limit:
    """The most that is taken of something: bytes if `unit` is empty, else so many of what `unit` names."""

    name: str
    most: int
    unit: str = ""

    @property
    def text(self) -> str:
        """The limit in words."""
        return f"{self.most:,} {self.unit}".replace(",", " ") if self.unit else format_size(self.most)

    def refusal(self, where: str, *, fix: str = "") -> BadInput:
        """What to raise when there is more."""
        return BadInput(f"too large: {self.name} is {self.text} at most", where=where, fix=fix)


SCENARIO_SIZE = Limit("a scenario, a script or a plan", 4 * MiB)
SCENARIO_DEPTH = Limit("the depth of a scenario", 32, "levels")
SCENARIO_STEPS = Limit("a scenario", 100_000, "steps")
SECONDS = Limit("a length of time", 1_000_000_000, "seconds")
SIZE = Limit("a size or an address", 1 << 64)
COUNT = Limit("a list of a scenario", 1_000_000, "entries")

MEMORY_BLOCKS = Limit("what is plugged at once", 1_000_000, "memory blocks")
"""122 TiB of the smallest ones, which take some minutes and 1 GiB of memory."""
TABLE_MEMORY = Limit("the size of a modelled machine's page tables", 8 * GiB)
"""A direct map in base pages takes as much for 4 TiB, any other for all that is addressable."""

FILE_SIZE = Limit("a file of a machine", 256 * MiB)
ARCHIVE_SIZE = Limit("an archive, unpacked", 1 * GiB)
ARCHIVE_MEMBERS = Limit("an archive", 1_000_000, "files")
CAPTURE_STEPS = Limit("a capture", 10_000, "steps")

CORE_PACKED = Limit("a compressed core", 256 * MiB)
CORE_SIZE = Limit("a compressed core, unpacked", 1 * GiB)
CORE_HEADERS = Limit("a core", 1_000_000, "program headers")
KDUMP_RECORDS = Limit("a flattened dump", 1_000_000, "records")
DUMP_SEGMENTS = Limit("an s390 dump", 1_000_000, "segments")
CORE_NOTES = Limit("the notes of a core", 64 * MiB)
KCORE_HEADERS = Limit("what stands before the memory in /proc/kcore", 16 * MiB)
PAGES_LOOKED_AT = Limit("what is read of /proc/kpageflags", 1 << 25, "pages")
"""Of a larger machine every second memory block, or every third, and so on: some 10 s on one CPU."""
TABLE_ENTRIES = Limit("a walk of page tables", 1 << 31, "entries")
AGENT_ANSWER = Limit("an answer of a guest agent or a monitor", 64 * MiB)
RAM_PIECES = Limit("the pieces of a RAM file", 1000, "ranges")

SCHEDULE_STEPS = Limit("a schedule", 1_000_000, "steps")

PIPE_SECONDS = Limit("the wait for a pipe's writer", 10, "seconds")
"""How long nothing may come from a pipe that is read."""
ANSWER_SECONDS = Limit("the wait for an answer at a socket", 30, "seconds")
STEP_SECONDS = Limit("the wait for a step of a twin", 600, "seconds")
"""A twin's kernel may take as long over a step as a kernel does."""

LIMITS = tuple(value for value in list(globals().values()) if isinstance(value, Limit))
"""Every limit there is."""
