"""Programs of a guest: machine code as objdump reads it, in a file that the kernel loads."""
# SPDX-License-Identifier: GPL-2.0-or-later

import struct

import pytest

from memhp.target.guest.machines import MACHINES
from memhp.target.guest.pin_program import BUFFER, RING_PARAMETERS, pin_program
from memhp.target.guest.program import BASE, CODES, DATA, KEPT, Call, program
from memhp.units import MiB

CALLS = (Call(425, (4, 0x410000), keep=True), Call(427, (KEPT, DATA)))

SAID = {
    # movabs $0x4,%rdi; movabs $0x410000,%rsi; movabs $0x1a9,%rax; syscall; mov %rax,%rbx;
    # mov %rbx,%rdi; movabs $0x400400,%rsi; movabs $0x1ab,%rax; syscall
    "x86_64": "48bf0400000000000000 48be0000410000000000 48b8a901000000000000 0f05 4889c3"
    "4889df 48be0004400000000000 48b8ab01000000000000 0f05",
    # mov x0,#4; movk x0,#0,lsl #16; mov x1,#0; movk x1,#0x41,lsl #16; mov x8,#0x1a9; movk x8,#0,lsl #16; svc #0;
    # mov x19,x0; mov x0,x19; mov x1,#0x400; movk x1,#0x40,lsl #16; mov x8,#0x1ab; movk x8,#0,lsl #16; svc #0
    "arm64": "800080d2 0000a0f2 010080d2 2108a0f2 283580d2 0800a0f2 010000d4 f30300aa"
    "e00313aa 018080d2 0108a0f2 683580d2 0800a0f2 010000d4",
    # lui a0,0x0; addiw a0,a0,4; lui a1,0x410; sext.w a1,a1; lui a7,0x0; addiw a7,a7,425; ecall; mv s1,a0;
    # mv a0,s1; lui a1,0x400; addiw a1,a1,1024; lui a7,0x0; addiw a7,a7,427; ecall
    "riscv64": "37050000 1b054500 b7054100 9b850500 b7080000 9b88981a 73000000 93040500"
    "13850400 b7054000 9b850540 b7080000 9b88b81a 73000000",
    # lu12i.w a0,0; ori a0,a0,4; lu12i.w a1,0x410; ori a1,a1,0; lu12i.w a7,0; ori a7,a7,0x1a9; syscall 0; move s0,a0;
    # move a0,s0; lu12i.w a1,0x400; ori a1,a1,0x400; lu12i.w a7,0; ori a7,a7,0x1ab; syscall 0
    "loongarch64": "04000014 84108003 05820014 a5008003 0b000014 6ba58603 00002b00 97001500"
    "e4021500 05800014 a5009003 0b000014 6bad8603 00002b00",
}
"""What objdump of GNU binutils reads as the instructions above it."""


@pytest.mark.parametrize("arch", SAID)
def test_each_call_is_its_arguments_its_number_and_the_instruction_that_asks_the_kernel(arch: str) -> None:
    text = bytes.fromhex(SAID[arch])
    assert program(arch, CALLS, b"", MiB)[120 : 120 + len(text) + 4] == text + bytes(4)


def test_every_machine_has_such_code() -> None:
    assert set(CODES) == set(MACHINES)


@pytest.mark.parametrize("arch", CODES)
def test_the_file_is_one_that_the_kernel_loads_with_room_for_what_is_pinned(arch: str) -> None:
    """``struct elf64_hdr``, ``struct elf64_phdr`` of include/uapi/linux/elf.h."""
    data = pin_program(arch, 8 * MiB)
    assert data[:7] == b"\x7fELF\2\1\1"
    entry, headers = struct.unpack_from("<QQ", data, 24)
    kind, flags, offset, start, _, size, room, align = struct.unpack_from("<IIQQQQQQ", data, headers)
    assert (kind, flags & 5, offset, start, size) == (1, 5, 0, BASE, len(data))
    assert start < entry < DATA < RING_PARAMETERS < BUFFER < start + room == BUFFER + 8 * MiB
    assert start % align == 0
    assert struct.unpack_from("<QQ", data, DATA - BASE) == (BUFFER, 8 * MiB)
