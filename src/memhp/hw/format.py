"""What a page-table entry is: fields and levels as data, so that one walker serves every architecture.

A height counts from the leaf level up, as the kernel's names do: 0 is a PTE, 1 a PMD, 2 a PUD, 3 a P4D, 4 a
PGD entry. A format's root table is at height ``len(levels) - 1``. Entries are 64 bits wide. The functions that
take an entry take one ``int`` or a NumPy array of ``uint64`` alike, and answer in kind.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

U64 = npt.NDArray[np.uint64]
Entries = TypeVar("Entries", int, U64)

HEIGHT_NAMES = ("PTE", "PMD", "PUD", "P4D", "PGD")


class Field(NamedTuple):
    """One field of an entry, under its manual's name: bits ``[lo + width - 1 : lo]``."""

    name: str
    lo: int
    width: int = 1

    @property
    def mask(self) -> int:
        """The field's bits, in place."""
        return ((1 << self.width) - 1) << self.lo


class PfnPiece(NamedTuple):
    """Where a run of PFN bits lies in an entry: PFN bits from `pfn_lo` up stand at entry bits from `lo` up."""

    lo: int
    width: int
    pfn_lo: int


@dataclass(frozen=True)
class Level:
    """One level of the tree: an entry at this height maps ``1 << shift`` bytes, a table holds `entries` of them.

    `leaf` says whether the architecture allows a leaf here, `cont` how many neighbouring leaves the
    contiguous hint joins (1: no such hint).
    """

    name: str
    shift: int
    entries: int
    leaf: bool
    cont: int = 1

    @property
    def size(self) -> int:
        """Bytes that one entry maps."""
        return 1 << self.shift


@dataclass(frozen=True)
class Format:
    """One page-table format, for instance riscv Sv48 or arm64 with 16K pages and 47-bit addresses.

    `valid` is the bit that makes an entry valid. Above height 0 a valid entry is a leaf when
    ``(entry & leaf_mask != 0) == leaf_if_set``; at height 0 every valid entry is one. `leaf_bits[height]` are the
    bits that a leaf of that height carries to be one, `table_bits` the bits of an entry that points to a table.
    """

    name: str
    arch: str
    page_shift: int
    va_bits: int
    pa_bits: int
    levels: tuple[Level, ...]
    fields: tuple[Field, ...]
    pfn_pieces: tuple[PfnPiece, ...]
    valid: int
    leaf_mask: int
    leaf_if_set: bool
    leaf_bits: tuple[int, ...]
    table_bits: int
    leaf_ignored_bits: tuple[int, ...] = ()
    """PFN bits of the entry that mean something else in a leaf of that height (x86: PAT at bit 12)."""

    @property
    def page_size(self) -> int:
        """Bytes of a page, which is also the size of a table."""
        return 1 << self.page_shift

    @property
    def root_height(self) -> int:
        """The height of the root table."""
        return len(self.levels) - 1

    @cached_property
    def pfn_mask(self) -> int:
        """Every entry bit that can belong to a frame number."""
        return sum(((1 << piece.width) - 1) << piece.lo for piece in self.pfn_pieces)

    def bits(self, **values: int) -> int:
        """The entry bits of some fields by name: ``fmt.bits(V=1, R=1)``. Raises KeyError for an unknown field."""
        total = 0
        for name, value in values.items():
            field = self.field(name)
            if value >> field.width:
                raise ValueError(f"field {name} of {self.name} is {field.width} bits wide, {value:#x} does not fit")
            total |= value << field.lo
        return total

    def field(self, name: str) -> Field:
        """A field by its manual's name."""
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, Field]:
        return {field.name: field for field in self.fields}

    def index(self, va: int, height: int) -> int:
        """Which entry of a table at `height` translates `va`."""
        level = self.levels[height]
        return (va >> level.shift) & (level.entries - 1)

    def canonical(self, va: int) -> int:
        """The 64-bit address whose low ``va_bits`` are those of `va`, sign-extended: a kernel-half address."""
        va &= (1 << self.va_bits) - 1
        return va | (~0 << self.va_bits & 0xFFFF_FFFF_FFFF_FFFF) if va >> (self.va_bits - 1) else va

    def is_valid(self, entry: Entries) -> Entries:
        """Non-zero where the entry is valid."""
        return entry & self.valid

    def is_leaf(self, entry: Entries, height: int) -> "bool | npt.NDArray[np.bool_]":
        """Where an entry is valid and maps memory (rather than pointing to a table)."""
        valid = (entry & self.valid) != 0
        if height == 0:
            return valid
        return valid & (((entry & self.leaf_mask) != 0) == self.leaf_if_set)

    def is_table(self, entry: Entries, height: int) -> "bool | npt.NDArray[np.bool_]":
        """Where an entry is valid and points to a table of the next height down."""
        valid = (entry & self.valid) != 0
        if height == 0:
            return valid & False
        return valid & (((entry & self.leaf_mask) != 0) != self.leaf_if_set)

    def encode_pfn(self, pfn: Entries) -> Entries:
        """The entry bits that hold a frame number."""
        if len(self.pfn_pieces) == 1:
            piece = self.pfn_pieces[0]
            return pfn << piece.lo
        total = pfn & 0
        for piece in self.pfn_pieces:
            total = total | (((pfn >> piece.pfn_lo) & ((1 << piece.width) - 1)) << piece.lo)
        return total

    def table_pfn(self, entry: Entries) -> Entries:
        """The frame of the table that an entry points to."""
        total = entry & 0
        for piece in self.pfn_pieces:
            total = total | (((entry >> piece.lo) & ((1 << piece.width) - 1)) << piece.pfn_lo)
        return total

    def leaf_pfn(self, entry: Entries, height: int) -> Entries:
        """The first frame that a leaf maps."""
        ignored = self.leaf_ignored_bits[height] if self.leaf_ignored_bits else 0
        return self.table_pfn(entry & ~ignored & 0xFFFF_FFFF_FFFF_FFFF if ignored else entry)

    def table_entry(self, pfn: Entries) -> Entries:
        """The entry that points to a table in frame `pfn`, with the bits that kernels give it."""
        return self.encode_pfn(pfn) | self.table_bits

    def leaf_entry(self, pfn: Entries, height: int, prot: int) -> Entries:
        """The leaf at `height` that maps frames from `pfn` on with the attribute bits `prot`."""
        return self.encode_pfn(pfn) | (prot | self.leaf_bits[height])

    def attributes(self, entry: Entries, height: int) -> Entries:
        """The entry without its frame number: attribute bits only."""
        ignored = self.leaf_ignored_bits[height] if self.leaf_ignored_bits else 0
        return entry & (0xFFFF_FFFF_FFFF_FFFF & ~(self.pfn_mask & ~ignored))

    def decode(self, entry: int) -> dict[str, int]:
        """Every field of an entry by name."""
        return {field.name: entry >> field.lo & ((1 << field.width) - 1) for field in self.fields}

    def pages_at(self, height: int) -> int:
        """How many base pages one entry at `height` maps."""
        return 1 << (self.levels[height].shift - self.page_shift)
