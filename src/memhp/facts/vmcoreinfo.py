"""VMCOREINFO: what a kernel says of itself in a dump, and where its page tables are.

Sources: Documentation/admin-guide/kdump/vmcoreinfo.rst; kernel/vmcore_info.c:crash_save_vmcoreinfo_init;
``arch_crash_save_vmcoreinfo`` of arch/{x86,arm64,riscv}.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import mmap
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from memhp.errors import BadInput
from memhp.linux.arch.registry import tables_port, tables_ports
from memhp.linux.port import Root

_HEADERS = tuple(struct.Struct(f"{order}III") for order in "<>")
_NAME = b"VMCOREINFO\0\0"
_BEGIN = _NAME + b"OSRELEASE="
LONGEST_NOTE = 64 * 1024
"""``VMCOREINFO_BYTES`` is a page, 64 KiB at most."""


@dataclass(frozen=True)
class VmCoreInfo:
    """The lines of a VMCOREINFO note, by key as it stands there (``NUMBER(VA_BITS)``); `where` names their file."""

    lines: Mapping[str, str]
    where: str = "VMCOREINFO"

    def text(self, key: str) -> str:
        """A value as it stands there. Raises BadInput when the kernel did not note it."""
        try:
            return self.lines[key]
        except KeyError:
            raise BadInput(f"no {key} in VMCOREINFO", where=self.where) from None

    def noted(self, key: str) -> bool:
        """Whether there is such a line, ``KEY=…``."""
        return key in self.lines

    def has(self, name: str, kind: str = "NUMBER") -> bool:
        """Whether the kernel noted ``KIND(name)``."""
        return f"{kind}({name})" in self.lines

    def number(self, name: str) -> int:
        """A ``NUMBER(name)``: hexadecimal with 0x, else signed decimal."""
        return self.integer(f"NUMBER({name})", 0)

    def symbol(self, name: str) -> int:
        """The virtual address of a symbol."""
        return self.integer(f"SYMBOL({name})", 16)

    def integer(self, key: str, base: int = 10) -> int:
        """A value as a number: signed decimal, or in another base. Raises BadInput."""
        value = self.text(key)
        try:
            return int(value, base)
        except ValueError:
            raise BadInput(f"{key} is not a number: {value!r}", where=self.where) from None

    @property
    def release(self) -> str:
        """``uname -r`` of the kernel."""
        return self.text("OSRELEASE")

    @property
    def page_size(self) -> int:
        """Bytes of a page."""
        size = self.integer("PAGESIZE", 10)
        if size not in (sizes := page_sizes()):
            raise BadInput(f"PAGESIZE must be one of {sizes}, not {size}", where=self.where)
        return size

    @property
    def arch(self) -> str:
        """The architecture, told by what only its ``arch_crash_save_vmcoreinfo`` notes."""
        for each in tables_ports():
            if each.vmcoreinfo_is_ours(self):
                return each.name
        raise BadInput(
            f"none of {', '.join(each.vmcoreinfo_mark for each in tables_ports())} in VMCOREINFO",
            where=self.where,
            fix=f"the kernel must be {', '.join(each.name for each in tables_ports())} and notes it",
        )

    def root(self) -> Root:
        """Where ``swapper_pg_dir`` is and how to read it. Raises BadInput when the notes do not tell."""
        root = tables_port(self.arch).vmcoreinfo_root(self)
        if root.pfn not in range(1 << 64 - root.fmt.table_shift):
            raise BadInput(f"the root table is noted at no physical address: {root.address:#x}", where=self.where)
        return root


def page_sizes() -> tuple[int, ...]:
    """The page sizes, in bytes, of all architectures."""
    return tuple(sorted({fmt.page_size for each in tables_ports() for fmt in each.formats}))


def parse_vmcoreinfo(text: str | bytes, *, where: str = "VMCOREINFO") -> VmCoreInfo:
    """Read the note's text. Raises BadInput when it is something else."""
    if isinstance(text, bytes):
        try:
            text = text.rstrip(b"\0").decode()
        except UnicodeDecodeError:
            raise BadInput("VMCOREINFO is not text", where=where) from None
    pairs = (line.partition("=") for line in text.splitlines())
    lines = {key: value for key, equals, value in pairs if equals}
    if "OSRELEASE" not in lines:
        raise BadInput("not a VMCOREINFO note: no OSRELEASE", where=where)
    return VmCoreInfo(lines, where)


def notes_in(data: bytes | mmap.mmap, where: str) -> Iterator[VmCoreInfo]:
    """Every VMCOREINFO note of a kernel known here that lies in memory, whole, where it lies first."""
    at = data.find(_BEGIN)
    while at >= 0:
        for header in _HEADERS:
            if at < header.size:
                continue
            name_size, size, kind = header.unpack_from(data, at - header.size)
            if name_size == len(_NAME) - 1 and kind == 0 and size <= LONGEST_NOTE:
                start = at + len(_NAME)
                try:
                    info = parse_vmcoreinfo(data[start : start + size], where=where)
                    info.root()
                    yield info
                except BadInput:
                    pass
        at = data.find(_BEGIN, at + 1)
