"""A program for a guest as the system calls that it makes: a static ELF file, so that no compiler is needed.

An architecture is the numbers of its registers and how it says three things: a register becomes a number, it becomes
another register, the kernel is called. What a call answered can be kept, to be an argument of later ones.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from memhp.facts.elfcore import LITTLE_ENDIAN, PT_LOAD, headers_of

BASE = 0x400000
"""Where the file is mapped, headers included."""
DATA = BASE + 0x400
"""Where the data of a program begins."""
_HEADER, _SEGMENT, *_ = headers_of("<")
_EXECUTABLE, _RWX = 2, 7


@dataclass(frozen=True)
class Call:
    """A system call by its number; `keep` says that others may have its answer, which stands for :data:`KEPT`."""

    number: int
    arguments: tuple[int | Literal["kept"], ...] = ()
    keep: bool = False


KEPT: Literal["kept"] = "kept"


@dataclass(frozen=True)
class Code:
    """How an architecture says it."""

    machine: int
    """``e_machine`` (``include/uapi/linux/elf-em.h``)."""
    arguments: tuple[int, ...]
    """The registers of a system call's arguments,"""
    number: int
    """of its number,"""
    answer: int
    """and of its answer."""
    kept: int
    """A register that no call changes."""
    load: Callable[[int, int], bytes]
    """A register becomes a number of up to 31 bits."""
    move: Callable[[int, int], bytes]
    """A register becomes another one."""
    call: bytes


def _word(value: int) -> bytes:
    return struct.pack("<I", value)


def _x86_load(to: int, value: int) -> bytes:
    """``movabs``."""
    return bytes((0x48 | to >> 3, 0xB8 | to & 7)) + struct.pack("<Q", value)


def _x86_move(to: int, source: int) -> bytes:
    return bytes((0x48 | source >> 3 << 2 | to >> 3, 0x89, 0xC0 | (source & 7) << 3 | to & 7))


def _arm64_load(to: int, value: int) -> bytes:
    """``movz`` and ``movk``."""
    return _word(0xD2800000 | (value & 0xFFFF) << 5 | to) + _word(0xF2A00000 | value >> 16 << 5 | to)


def _arm64_move(to: int, source: int) -> bytes:
    """``orr`` with the register that is zero."""
    return _word(0xAA0003E0 | source << 16 | to)


def _riscv_load(to: int, value: int) -> bytes:
    """``lui`` and ``addiw``, whose 12 bits are signed."""
    upper = value + 0x800 >> 12 & 0xFFFFF
    return _word(0x37 | to << 7 | upper << 12) + _word(0x1B | to << 7 | to << 15 | (value & 0xFFF) << 20)


def _riscv_move(to: int, source: int) -> bytes:
    """``addi`` of nothing."""
    return _word(0x13 | to << 7 | source << 15)


def _loongarch_load(to: int, value: int) -> bytes:
    """``lu12i.w`` and ``ori``."""
    return _word(0x14000000 | value >> 12 << 5 | to) + _word(0x03800000 | (value & 0xFFF) << 10 | to << 5 | to)


def _loongarch_move(to: int, source: int) -> bytes:
    """``or`` with the register that is zero."""
    return _word(0x00150000 | source << 5 | to)


CODES = {
    "x86_64": Code(62, (7, 6, 2, 10), 0, 0, 3, _x86_load, _x86_move, b"\x0f\x05"),
    "arm64": Code(183, (0, 1, 2, 3), 8, 0, 19, _arm64_load, _arm64_move, _word(0xD4000001)),
    "riscv64": Code(243, (10, 11, 12, 13), 17, 10, 9, _riscv_load, _riscv_move, _word(0x73)),
    "loongarch64": Code(258, (4, 5, 6, 7), 11, 4, 23, _loongarch_load, _loongarch_move, _word(0x002B0000)),
}
"""By memhp's names of architectures."""


def program(arch: str, calls: Sequence[Call], data: bytes, size: int) -> bytes:
    """An executable that makes these calls, one after the other, and has `data` at :data:`DATA`.

    From :data:`BASE` on it has `size` bytes; what is not in the file is zero.
    """
    code = CODES[arch]
    text = b""
    for call in calls:
        for register, argument in zip(code.arguments, call.arguments, strict=False):
            kept = argument == KEPT
            text += code.move(register, code.kept) if kept else code.load(register, int(argument))
        text += code.load(code.number, call.number) + code.call
        if call.keep:
            text += code.move(code.kept, code.answer)
    start = _HEADER.size + _SEGMENT.size
    body = text.ljust(DATA - BASE - start, b"\0") + data
    header = _HEADER.pack(
        LITTLE_ENDIAN, _EXECUTABLE, code.machine, 1, BASE + start, _HEADER.size, 0, 0,
        _HEADER.size, _SEGMENT.size, 1, 0, 0, 0,
    )  # fmt: skip
    return header + _SEGMENT.pack(PT_LOAD, _RWX, 0, BASE, BASE, start + len(body), size, 1 << 16) + body
