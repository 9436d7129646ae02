"""/proc/buddyinfo: free blocks by order, as ``mm/vmstat.c:frag_show_print`` prints them."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from dataclasses import dataclass

from memhp.facts.lines import bad_line, lines

_LINE = re.compile(r"Node (\d+), zone +(\S+) ((?: *\d+ )+)")


@dataclass(frozen=True)
class BuddyZone:
    """The free blocks of one populated zone: `free[order]` blocks of ``1 << order`` pages."""

    node: int
    zone: str
    free: tuple[int, ...]

    @property
    def pages(self) -> int:
        """Free pages of all orders."""
        return sum(count << order for order, count in enumerate(self.free))


def parse(text: str, *, where: str = "/proc/buddyinfo") -> tuple[BuddyZone, ...]:
    """Every populated zone, in the order of the file.

    Raises :class:`BadInput` naming a line of another form, or of another number of orders than the first.
    """
    zones: list[BuddyZone] = []
    for number, line in lines(text, where):
        match = _LINE.fullmatch(line)
        if match is None:
            raise bad_line(where, number, line, "'Node N, zone NAME' and a count for each order")
        free = tuple(int(count) for count in match[3].split())
        if zones and len(free) != len(zones[0].free):
            raise bad_line(where, number, line, f"{len(zones[0].free)} counts, one an order")
        zones.append(BuddyZone(int(match[1]), match[2], free))
    return tuple(zones)


def render(zones: tuple[BuddyZone, ...]) -> str:
    """The text of /proc/buddyinfo."""
    return "".join(
        f"Node {zone.node}, zone {zone.zone:>8} {''.join(f'{count:6d} ' for count in zone.free)}\n" for zone in zones
    )
