"""Faults that are known of kernels as they were posted: a table of the choices that make them.

No kernel is named here. Whoever makes the same choices has the same fault, and a kernel that changes one of them is
expected to be whole.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Mapping
from dataclasses import dataclass

from memhp.linux.config import Config


@dataclass(frozen=True)
class KnownFault:
    """A fault that a configuration's life cycle shows, and shows as these broken laws."""

    choices: Mapping[str, str]
    """Choices of the architecture's record that make it, all of them together."""
    laws: frozenset[str]
    why: str
    levels: tuple[int, ...] = (2, 3, 4, 5)
    """Levels of tables with which it shows."""
    vmemmap_huge: bool | None = None
    """Whether it takes PMD leaves in the vmemmap, or base pages; None: either."""

    def shows(self, config: Config) -> bool:
        """Whether a configuration has the fault."""
        made = all(getattr(config.choices, name, None) == value for name, value in self.choices.items())
        leaves = self.vmemmap_huge in {None, config.vmemmap_huge}
        return made and leaves and config.levels in self.levels


KNOWN = (
    KnownFault(
        choices={"folded_levels": "indexed"},
        levels=(2, 3, 4),
        laws=frozenset({"direct-map", "vmemmap", "page-tables", "round-trip"}),
        why="the removal walk adds the index of folded levels, so it reads behind the root table and removes nothing",
    ),
    KnownFault(
        choices={"leaf_flush": "none", "pte_table_flush": "range", "end_flush": "none"},
        vmemmap_huge=True,
        laws=frozenset({"flush-before-free"}),
        why="only tables of base pages are flushed, so the storage of struct pages goes while PMD leaves are cached",
    ),
    KnownFault(
        choices={"vmemmap_free": "nothing"},
        laws=frozenset({"vmemmap", "round-trip"}),
        why="vmemmap_free() is empty: leaves of struct pages stay when their sections go, and the storage is lost",
    ),
)


def known_fault(config: Config) -> KnownFault | None:
    """The fault that a configuration is known to have, if any."""
    return next((fault for fault in KNOWN if fault.shows(config)), None)
