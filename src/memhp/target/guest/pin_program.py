"""The program that pins memory of a guest for long, as a buffer of io_uring: for DMA, so that it cannot move.

It has memory that was never touched registered as a buffer (``io_uring/rsrc.c``), which faults the pages in and moves
them out of ZONE_MOVABLE (``FOLL_LONGTERM``); then it stops itself. Going on it gives the memory back and ends.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import struct
from dataclasses import dataclass

from memhp.target.guest.program import BASE, DATA, KEPT, Call, program

RING_PARAMETERS, BUFFER = BASE + 0x10000, BASE + 0x400000
"""Where the program has what it tells io_uring, and the memory."""
IO_URING_SETUP, IO_URING_REGISTER = 425, 427
REGISTER_BUFFERS, UNREGISTER_BUFFERS = 0, 1
"""``include/uapi/linux/io_uring.h``."""
ENTRIES = 4
RING = 3
"""The file of the ring: the first after those that every process begins with."""
SIGSTOP = 19


@dataclass(frozen=True)
class Numbers:
    """Of system calls that differ between architectures (``arch/x86/entry/syscalls``, ``asm-generic/unistd.h``)."""

    getpid: int = 172
    kill: int = 129
    exit: int = 93


NUMBERS = {"x86_64": Numbers(getpid=39, kill=62, exit=60)}
"""Architectures that have numbers of their own."""


def pin_program(arch: str, size: int) -> bytes:
    """The program for an architecture and so many bytes."""
    numbers = NUMBERS.get(arch, Numbers())
    calls = (
        Call(IO_URING_SETUP, (ENTRIES, RING_PARAMETERS)),
        Call(IO_URING_REGISTER, (RING, REGISTER_BUFFERS, DATA, 1)),
        Call(numbers.getpid, keep=True),
        Call(numbers.kill, (KEPT, SIGSTOP)),
        Call(IO_URING_REGISTER, (RING, UNREGISTER_BUFFERS, 0, 0)),
        Call(numbers.exit, (0,)),
    )
    return program(arch, calls, struct.pack("<QQ", BUFFER, size), BUFFER - BASE + size)
