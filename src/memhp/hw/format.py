"""What a page-table entry is: fields and levels as data, so that one walker serves every architecture.

A height counts from the leaf level up, as the kernel's names do: 0 is a PTE, 1 a PMD, 2 a PUD, 3 a P4D, 4 a
PGD entry. A format's root table is at height ``len(levels) - 1``. Entries are 64 bits wide. The functions that
take an entry take one ``int`` or a NumPy array of ``uint64`` alike, and answer in kind.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property, reduce
from operator import or_
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from memhp.hw.attribute_text import Word
from memhp.hw.unchanging import Unchanging

U64 = npt.NDArray[np.uint64]
Entries = TypeVar("Entries", int, U64)
Truth = bool | npt.NDArray[np.bool_]

ENTRY_BYTES = 8
_ALL = 0xFFFF_FFFF_FFFF_FFFF
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


class Reserved(NamedTuple):
    """An encoding on which the hardware faults although the valid bit is set.

    An entry is reserved when ``entry & mask == value`` and at least one of the bits `any_of`, if there are any, is set.
    `why` is the rule in the manual's terms.
    """

    why: str
    mask: int
    value: int
    any_of: int


class PfnPiece(NamedTuple):
    """Where a run of PFN bits lies in an entry: PFN bits from `pfn_lo` up stand at entry bits from `lo` up."""

    lo: int
    width: int
    pfn_lo: int


def sum_bits(masks: Iterable[int]) -> int:
    """All bits that any of the masks has."""
    return reduce(or_, masks, 0)


@dataclass(frozen=True)
class Level:
    """One level of the tree: an entry at this height maps ``1 << shift`` bytes, a table holds `entries` of them.

    `leaf` says whether the architecture allows a leaf here and kernels make use of it, `cont` how many neighbouring
    leaves the contiguous hint joins (1: no such hint).
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
class Format(Unchanging):
    """One page-table format, for instance riscv Sv48 or arm64 with 16K pages and 47-bit addresses.

    `valid` is the bit that makes an entry valid, `invalid` by height the bit without which it is. Above height 0 a
    valid entry is a leaf when ``(entry & leaf_mask != 0) == leaf_if_set``; at height 0 every valid entry is one. An
    entry that `reserved` names is neither leaf nor table: the hardware faults on it. `leaf_bits[height]` are the bits
    that a leaf of that height carries to be one, `table_bits` the bits of an entry that points to a table.
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
    reserved: tuple[tuple[Reserved, ...], ...] = ()
    """By height: encodings that fault."""
    invalid: tuple[int, ...] = ()
    """By height: the bit that makes an entry invalid, where none makes it valid (s390: I)."""
    byte_order: Literal["little", "big"] = "little"
    """How an entry lies in memory, whatever the order of the CPU's own numbers (radix trees of Power: big)."""
    frame_shift: int = 0
    """Tables begin at multiples of ``1 << frame_shift`` bytes, and each takes one such frame, or as many as its entries
    need; 0: frames are pages."""
    table_piece: PfnPiece | None = None
    """Where an entry has the frame of the table that it points to, if not where a leaf has its own."""
    sign_extended: bool = True
    """Whether the tree serves both halves of the address space; else ``1 << va_bits`` bytes of it (TTBR1: the top)."""
    high: int = _ALL
    """Where it serves a part only: the address bits above `va_bits` there."""
    cont_mask: int = 0
    """The contiguous hint: joins ``Level.cont`` neighbouring leaves, each of which still names its own frame."""
    napot_mask: int = 0
    """Svnapot's N: the leaf is one of ``1 << napot_order`` equal ones that map a naturally aligned run of pages."""
    napot_order: int = 0
    rights_and: int = 0
    """Rights that a leaf has only if every table entry above it grants them too (x86: RW, US)."""
    rights_or: int = 0
    """Prohibitions that hold if the leaf or any table entry above it carries them (x86: XD)."""
    none: tuple[int, ...] = ()
    """By height: what an entry holds that leads nowhere, which may be the address of a table that all share; () where
    it is zero."""
    pointer_mask: int = 0
    """Bits by which an entry that points to a table is known, where pointers have no valid bit: those that all virtual
    addresses of tables have in common. 0 where the valid bit tells, and pointers are physical addresses."""
    pointer: int = 0
    """What stands there; among `table_bits`."""
    words: tuple[Word, ...] = field(default=(), compare=False)
    """What the attribute bits of a leaf are called in reports."""

    @property
    def page_size(self) -> int:
        """Bytes of a page, which is also the size of a table unless `frame_shift` says otherwise."""
        return 1 << self.page_shift

    @cached_property
    def table_shift(self) -> int:
        """Frames of tables are ``1 << table_shift`` bytes."""
        return self.frame_shift or self.page_shift

    @cached_property
    def frame_entries(self) -> int:
        """How many entries a frame of tables holds."""
        return (1 << self.table_shift) // ENTRY_BYTES

    def frames_at(self, height: int) -> int:
        """How many frames a table at `height` takes, one after the other."""
        return max(1, self.levels[height].entries // self.frame_entries)

    def table_size(self, height: int) -> int:
        """Bytes of a table at `height`, what its frame has to spare included."""
        return self.frames_at(height) << self.table_shift

    @cached_property
    def memory_dtype(self) -> np.dtype[np.uint64]:
        """An entry as it lies in memory."""
        return np.dtype(np.uint64).newbyteorder(self.byte_order)

    def rows(self, memory: bytes) -> U64:
        """Frames of tables as they lie in memory, one after the other: a row each."""
        return np.frombuffer(memory, self.memory_dtype).astype(np.uint64, copy=False).reshape(-1, self.frame_entries)

    @property
    def start(self) -> int:
        """The first address that belongs to the kernel: its half, or all where it has an address space of its own."""
        return 0 if not self.sign_extended and not self.high else 1 << 63

    @property
    def root_height(self) -> int:
        """The height of the root table."""
        return len(self.levels) - 1

    @cached_property
    def empty(self) -> tuple[int, ...]:
        """By height: what an entry holds that leads nowhere."""
        return self.none or (0,) * len(self.levels)

    def is_none(self, entry: Entries, height: int) -> Truth:
        """Where an entry leads nowhere, and was left or made so: ``pte_none()``, ``pmd_none()`` and their kin."""
        none: Any = self.empty[height]
        nowhere: Truth = entry == none
        return nowhere

    @cached_property
    def pfn_mask(self) -> int:
        """Every entry bit that can belong to a frame number."""
        return sum(((1 << piece.width) - 1) << piece.lo for piece in self.pfn_pieces)

    def bits(self, **values: int) -> int:
        """The entry bits of some fields by name: ``fmt.bits(V=1, R=1)``. Raises KeyError for an unknown field."""
        total = 0
        for name, value in values.items():
            place = self.field(name)
            if value >> place.width:
                raise ValueError(f"field {name} of {self.name} is {place.width} bits wide, {value:#x} does not fit")
            total |= value << place.lo
        return total

    def field(self, name: str) -> Field:
        """A field by its manual's name."""
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, Field]:
        return {each.name: each for each in self.fields}

    def index(self, va: int, height: int) -> int:
        """Which entry of a table at `height` translates `va`."""
        level = self.levels[height]
        return (va >> level.shift) & (level.entries - 1)

    def canonical(self, va: Entries) -> Entries:
        """The 64-bit address whose low ``va_bits`` are those of `va`.

        Sign-extended where one tree serves both halves; else with the bits `high` above.
        """
        mask: Any = (1 << self.va_bits) - 1
        high: Any = ~mask & (_ALL if self.sign_extended else self.high)
        low: Any = va & mask
        sign = low >> (self.va_bits - 1) if self.sign_extended else low * 0 + 1
        whole: Entries = low | (sign * high)
        return whole

    def is_canonical(self, va: Entries) -> Truth:
        """Whether this tree translates `va` at all."""
        same: Truth = self.canonical(va) == va
        return same

    def is_marked(self, entry: Entries, height: int) -> Truth:
        """Where an entry's valid bit is set, or its invalid bit is not."""
        bits: Any = entry
        marked: Truth = (bits & self.invalid[height]) == 0 if self.invalid else (bits & self.valid) != 0
        return marked

    def is_valid(self, entry: Entries, height: int) -> Truth:
        """Where hardware goes by the entry: it is marked valid, reserved or not, or it points to a table without."""
        valid = self.is_marked(entry, height)
        return valid | self.is_table(entry, height) if self.pointer_mask else valid

    def is_reserved(self, entry: Entries, height: int) -> Truth:
        """Where an entry is marked valid but the hardware faults on the entry all the same."""
        words: Any = entry
        found: Truth = (words & 0) != 0
        if not self.reserved:
            return found
        if isinstance(entry, int):
            return any(
                entry & rule.mask == rule.value and (not rule.any_of or entry & rule.any_of != 0)
                for rule in self.reserved[height]
            )
        some = int(np.bitwise_or.reduce(words, axis=None))
        for rule in self.reserved[height]:
            # Of many entries rarely any has the bits at all: one pass over them tells.
            if not rule.value & ~some and (not rule.any_of or rule.any_of & some):
                found = found | (((words & rule.mask) == rule.value) & (not rule.any_of or (words & rule.any_of) != 0))
        return found

    def is_leaf(self, entry: Entries, height: int) -> Truth:
        """Where an entry is valid and maps memory (rather than pointing to a table)."""
        if type(entry) is int and not self.pointer_mask:
            return self._leaf_or_table(entry, height)[0]
        bits: Any = entry
        leaf: Truth = self.is_marked(entry, height) & (self.is_reserved(entry, height) ^ True)
        if height:
            leaf = leaf & (((bits & self.leaf_mask) != 0) == self.leaf_if_set)
        return leaf

    def is_table(self, entry: Entries, height: int) -> Truth:
        """Where an entry is valid and points to a table of the next height down."""
        bits: Any = entry
        if self.pointer_mask:
            pointer: Any = self.pointer
            named: Truth = ((bits & self.pointer_mask) == pointer) & (bits != self.empty[height])
            return named if height else named & False
        if type(entry) is int:
            return self._leaf_or_table(entry, height)[1]
        table: Truth = self.is_marked(entry, height) & (self.is_reserved(entry, height) ^ True)
        points: Truth = ((bits & self.leaf_mask) != 0) != self.leaf_if_set
        return table & points if height else table & False

    def _leaf_or_table(self, entry: int, height: int) -> tuple[bool, bool]:
        """Whether a single entry is a leaf and whether it is a table, where no mask tells pointers."""
        decides, known = self._kinds[height]
        word = entry & decides
        if word not in known:
            sound = bool(self.is_marked(word, height)) and not self.is_reserved(word, height)
            leaf = not height or bool(word & self.leaf_mask) == self.leaf_if_set
            known[word] = sound and leaf, sound and not leaf
        return known[word]

    @cached_property
    def _kinds(self) -> tuple[tuple[int, dict[int, tuple[bool, bool]]], ...]:
        """By height: every bit that decides what a single entry is, and what was found of those seen."""
        rules = self.reserved or ((),) * len(self.levels)
        marks = self.invalid or (0,) * len(self.levels)
        return tuple(
            (self.valid | self.leaf_mask | mark | sum_bits(rule.mask | rule.any_of for rule in reserved), {})
            for mark, reserved in zip(marks, rules, strict=True)
        )

    def encode_pfn(self, pfn: Entries) -> Entries:
        """The entry bits that hold a frame number."""
        number: Any = pfn
        total: Entries = number & 0
        for piece in self.pfn_pieces:
            total = total | (((number >> piece.pfn_lo) & ((1 << piece.width) - 1)) << piece.lo)
        return total

    def table_pfn(self, entry: Entries) -> Entries:
        """The first frame of the table that an entry points to."""
        return self._frame(entry, self.pfn_pieces if self.table_piece is None else (self.table_piece,))

    @staticmethod
    def _frame(entry: Entries, pieces: tuple[PfnPiece, ...]) -> Entries:
        bits: Any = entry
        total: Entries = bits & 0
        for piece in pieces:
            total = total | (((bits >> piece.lo) & ((1 << piece.width) - 1)) << piece.pfn_lo)
        return total

    def leaf_pfn(self, entry: Entries, height: int) -> Entries:
        """The first frame that a leaf maps: of its whole run of pages, if it is a Svnapot leaf."""
        keep: Any = _ALL & ~(self.leaf_ignored_bits[height] if self.leaf_ignored_bits else 0)
        pfn: Any = self._frame(entry & keep, self.pfn_pieces)
        if self.napot_mask and height == 0:
            pfn = pfn & (self._napot(entry) * ((1 << self.napot_order) - 1) ^ _ALL)
        first: Entries = pfn
        return first

    def leaf_pa(self, entry: Entries, height: int, va: Entries) -> Entries:
        """The physical address, in bytes, to which a leaf translates `va`."""
        bits: Any = entry
        inside: Any = (bits & 0) + (self.levels[height].size - 1)
        if self.napot_mask and height == 0:
            inside = inside | self._napot(entry) * ((1 << (self.page_shift + self.napot_order)) - 1)
        first: Any = self.leaf_pfn(entry, height)
        pa: Entries = (first << self.page_shift) | (va & inside)
        return pa

    def leaf_span(self, entry: int, height: int) -> int:
        """Bytes of the naturally aligned block that a leaf shares with its neighbours through Svnapot or the contiguous
        hint; its own size where there is neither.
        """
        level = self.levels[height]
        if height == 0 and entry & self.napot_mask:
            return level.size << self.napot_order
        return level.size * level.cont if entry & self.cont_mask else level.size

    def _napot(self, entry: Entries) -> Any:
        """1 where the leaf at height 0 is a Svnapot one, else 0."""
        bits: Any = entry
        return (bits & self.napot_mask) >> (self.napot_mask.bit_length() - 1)

    def table_entry(self, pfn: Entries) -> Entries:
        """The entry that points to a table in frame `pfn`, with the bits that kernels give it."""
        bits: Any = self.table_bits
        entry: Entries = self.encode_pfn(pfn) | bits
        return entry

    def leaf_entry(self, pfn: Entries, height: int, prot: int) -> Entries:
        """The leaf at `height` that maps frames from `pfn` on with the attribute bits `prot`."""
        bits: Any = prot | self.leaf_bits[height]
        entry: Entries = self.encode_pfn(pfn) | bits
        return entry

    def attribute_mask(self, height: int) -> int:
        """The bits of a leaf at `height` that are not its frame number."""
        ignored = self.leaf_ignored_bits[height] if self.leaf_ignored_bits else 0
        return _ALL & ~(self.pfn_mask & ~ignored)

    def attributes(self, entry: Entries, height: int) -> Entries:
        """The entry without its frame number: attribute bits only."""
        mask: Any = self.attribute_mask(height)
        bits: Entries = entry & mask
        return bits

    @cached_property
    def structure(self) -> tuple[int, ...]:
        """By height: every bit outside the frame number that decides whether an entry is a leaf, a table or neither."""
        return tuple((decides | self.pointer_mask) & ~self.pfn_mask for decides, _ in self._kinds)

    def decode(self, entry: int) -> dict[str, int]:
        """Every field of an entry by name."""
        return {each.name: entry >> each.lo & ((1 << each.width) - 1) for each in self.fields}

    def pages_at(self, height: int) -> int:
        """How many base pages one entry at `height` maps."""
        return 1 << (self.levels[height].shift - self.page_shift)
