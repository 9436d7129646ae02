"""VMCOREINFO: what a kernel says of itself in a dump, and where its page tables are.

Sources: Documentation/admin-guide/kdump/vmcoreinfo.rst; kernel/vmcore_info.c:crash_save_vmcoreinfo_init;
``arch_crash_save_vmcoreinfo`` of arch/{x86,arm64,riscv}.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Mapping
from dataclasses import dataclass, replace

from memhp.errors import BadInput
from memhp.hw.format import Format, PfnPiece
from memhp.hw.formats import format_for

_MASK = 0xFFFF_FFFF_FFFF_FFFF
PAGE_SIZES = (4096, 16384, 65536)
START_KERNEL_MAP = 0xFFFF_FFFF_8000_0000
"""x86 ``__START_KERNEL_map``: where the kernel image is mapped, ``phys_base`` bytes off (arch/x86 page_64_types.h)."""


@dataclass(frozen=True)
class Root:
    """The kernel's page tables: format, the PFN of the frame with the root table, and its first entry in that frame."""

    fmt: Format
    pfn: int
    index: int = 0


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

    def has(self, name: str, kind: str = "NUMBER") -> bool:
        """Whether the kernel noted ``KIND(name)``."""
        return f"{kind}({name})" in self.lines

    def number(self, name: str) -> int:
        """A ``NUMBER(name)``: hexadecimal with 0x, else signed decimal."""
        return self._integer(f"NUMBER({name})", 0)

    def symbol(self, name: str) -> int:
        """The virtual address of a symbol."""
        return self._integer(f"SYMBOL({name})", 16)

    def _integer(self, key: str, base: int) -> int:
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
        size = self._integer("PAGESIZE", 10)
        if size not in PAGE_SIZES:
            raise BadInput(f"PAGESIZE must be one of {PAGE_SIZES}, not {size}", where=self.where)
        return size

    @property
    def arch(self) -> str:
        """The architecture, told by what only its ``arch_crash_save_vmcoreinfo`` notes."""
        marks = {"phys_base": "x86_64", "kimage_voffset": "arm64", "va_kernel_pa_offset": "riscv64"}
        for mark, arch in marks.items():
            if self.has(mark):
                return arch
        raise BadInput(
            f"none of {', '.join(f'NUMBER({mark})' for mark in marks)} in VMCOREINFO",
            where=self.where,
            fix="the kernel must be x86-64, arm64, or riscv64 from 6.4 on",
        )

    def root(self) -> Root:
        """Where ``swapper_pg_dir`` is and how to read it. Raises BadInput when the notes do not tell."""
        return {"x86_64": _root_x86, "arm64": _root_arm64, "riscv64": _root_riscv}[self.arch](self)


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


def _root_x86(info: VmCoreInfo) -> Root:
    """``phys_base`` is the load address minus the link address: negative when KASLR moves the image up less than its
    mapping. With memory encryption the C-bit takes a frame bit's place and ends the physical address.
    """
    va = info.symbol("swapper_pg_dir") if info.has("swapper_pg_dir", "SYMBOL") else info.symbol("init_top_pgt")
    pa = (va - START_KERNEL_MAP + info.number("phys_base")) & _MASK
    levels = 5 if info.has("pgtable_l5_enabled") and info.number("pgtable_l5_enabled") else 4
    fmt = format_for("x86_64", info.page_size, 12 + 9 * levels)
    sme_mask = info.number("sme_mask") if info.has("sme_mask") else 0
    if sme_mask:
        c_bit = sme_mask.bit_length() - 1
        fmt = replace(fmt, pa_bits=c_bit, pfn_pieces=(PfnPiece(12, c_bit - 12, 0),))
    return Root(fmt, pa >> fmt.page_shift)


def _root_arm64(info: VmCoreInfo) -> Root:
    """TCR_EL1.T1SZ, not VA_BITS, tells the address size: a 52-bit kernel runs with 48 or 47 bits on an older CPU.

    With 64K pages such a kernel keeps the root of 52 bits and points TTBR1 at its last 64 entries
    (arch/arm64/include/asm/pgtable-hwdef.h: TTBR1_BADDR_4852_OFFSET).
    """
    pa = (info.symbol("swapper_pg_dir") - info.number("kimage_voffset")) & _MASK
    built = info.number("VA_BITS")
    va_bits = 64 - info.number("TCR_EL1_T1SZ") if info.has("TCR_EL1_T1SZ") else built
    large = info.page_size == 1 << 16
    fmt = format_for("arm64", info.page_size, va_bits, pa_bits=info.number("MAX_PHYSMEM_BITS") if large else None)
    index = 0
    if large and va_bits < built:
        whole = format_for("arm64", info.page_size, built, pa_bits=fmt.pa_bits)
        index = whole.levels[-1].entries - fmt.levels[-1].entries
    return Root(fmt, pa >> fmt.page_shift, index)


def _root_riscv(info: VmCoreInfo) -> Root:
    """``va_kernel_pa_offset`` holds for the kernel image, in which swapper_pg_dir stands."""
    pa = (info.symbol("swapper_pg_dir") - info.number("va_kernel_pa_offset")) & _MASK
    fmt = format_for("riscv64", info.page_size, info.number("VA_BITS"))
    return Root(fmt, pa >> fmt.page_shift)
