"""A debugger of a guest's x86-64 kernel, at QEMU's gdbstub: it has a task sleep at an instruction, or call a function.

That makes windows of a few instructions wide enough to look through, on a kernel as its distribution built it; what is
in tests/data/logs with lines ``(debugger)`` was made with it.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

REGISTERS = (
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rip",
)  # fmt: skip
FLAGS = slice(8 * len(REGISTERS), 8 * len(REGISTERS) + 4)
"""Where ``eflags`` are in what the stub shows."""
ARGUMENTS = ("rdi", "rsi", "rdx", "rcx", "r8", "r9")
ANSWER = 60.0
"""Seconds for the stub to answer while the guest stands still."""
PART = 512
"""Bytes that are asked for at once."""
SCRATCH = 256
"""Bytes below a task's stack pointer that are left alone: it may have stopped anywhere."""

Registers = dict[str, int]
Condition = Callable[[Registers], bool]


def extra(path: Path) -> tuple[str, ...]:
    """The words that have QEMU listen for a debugger (``GuestSpec.extra``)."""
    return ("-gdb", f"unix:{path},server=on,wait=off")


class Called(NamedTuple):
    """What a task that was made to call a function gets back: its registers, flags, and where its stack is then."""

    registers: Registers
    flags: bytes
    stack: int


class Function(NamedTuple):
    """Where the text of a kernel's function begins and ends."""

    start: int
    end: int

    def __contains__(self, address: object) -> bool:
        return isinstance(address, int) and self.start <= address < self.end


def functions(kallsyms: str) -> dict[str, Function]:
    """The functions of ``/proc/kallsyms`` by name, without what compilers append to it."""
    words = [line.split() for line in kallsyms.splitlines()]
    rows = sorted((int(row[0], 16), row[2]) for row in words if row[1] in "tT")
    starts = sorted({start for start, _ in rows})
    ends = dict(zip(starts, [*starts[1:], starts[-1] + 1], strict=True))
    found: dict[str, Function] = {}
    for start, name in rows:
        if not name.endswith(".cold"):
            found.setdefault(re.sub(r"\.(isra|constprop|part)\.\d+$", "", name), Function(start, ends[start]))
    return found


class Debugger:
    """A line to the stub; the guest stands still from its start, and whenever a method of it has returned."""

    def __init__(self, path: Path) -> None:
        self._line = socket.socket(socket.AF_UNIX)
        self._line.connect(str(path))
        self._read = b""
        self._thread = "1"
        self._breaks: set[int] = set()
        self._ask("?")

    def _send(self, text: str) -> None:
        data = text.encode()
        self._line.sendall(b"$" + data + b"#%02x" % (sum(data) & 255))

    def _answer(self, timeout: float | None = ANSWER) -> str:
        self._line.settimeout(timeout)
        while (found := re.search(rb"\$([^#]*)#..", self._read, re.DOTALL)) is None:
            part = self._line.recv(1 << 16)
            if not part:
                raise EOFError("the guest is gone")
            self._read += part
        self._read = self._read[found.end() :]
        self._line.sendall(b"+")
        return found[1].decode("latin1")

    def _ask(self, text: str) -> str:
        self._send(text)
        return self._answer()

    def _must(self, text: str) -> None:
        answer = self._ask(text)
        assert answer == "OK", (text, answer)

    def _all_registers(self) -> bytes:
        self._must(f"Hg{self._thread}")
        return bytes.fromhex(self._ask("g"))

    def registers(self) -> Registers:
        """Those of the task that stopped last."""
        return dict(zip(REGISTERS, struct.unpack_from("<17Q", self._all_registers()), strict=True))

    def set(self, **values: int) -> None:
        """Write registers."""
        for name, value in values.items():
            self._must(f"P{REGISTERS.index(name):x}={struct.pack('<Q', value & (1 << 64) - 1).hex()}")

    def word(self, address: int) -> int:
        """Eight bytes at a virtual address."""
        return int(struct.unpack("<Q", bytes.fromhex(self._ask(f"m{address:x},8")))[0])

    def text(self, function: Function) -> bytes:
        """The instructions of a function."""
        parts = (self._ask(f"m{at:x},{min(PART, function.end - at):x}") for at in range(*function, PART))
        return bytes.fromhex("".join(parts))

    def _break(self, address: int, *, there: bool) -> None:
        if there != (address in self._breaks):
            self._must(f"{'Z' if there else 'z'}0,{address:x},1")
            (self._breaks.add if there else self._breaks.remove)(address)

    def until(self, address: int, condition: Condition = lambda _: True) -> Registers:
        """Let the guest go on until a task comes to an instruction under a condition: its registers."""
        self._break(address, there=True)
        while True:
            self._send("vCont;c")
            stopped = re.search(r"thread:([^;]+)", self._answer(None))
            assert stopped is not None
            self._thread = stopped[1]
            found = self.registers()
            if found["rip"] == address and condition(found):
                self._break(address, there=False)
                return found
            self._break(address, there=False)
            self._ask(f"vCont;s:{self._thread}")
            self._break(address, there=True)

    def returned(self) -> Registers:
        """Let a task that stopped where a function begins go on until that is over."""
        here = self.registers()
        back = self.word(here["rsp"])
        return self.until(back, lambda now: now["rsp"] == here["rsp"] + 8)

    def begin(self, function: Function, *arguments: int) -> Called:
        """Have the task that stopped call a function."""
        saved, here = self._all_registers(), self.registers()
        stack = (here["rsp"] - SCRATCH & ~15) - 8
        self._must(f"M{stack:x},8:{struct.pack('<Q', here['rip']).hex()}")
        self.set(rip=function.start, rsp=stack, **dict(zip(ARGUMENTS, arguments, strict=False)))
        return Called(here, saved[FLAGS], stack + 8)

    def end(self, called: Called) -> int:
        """Let the guest go on until that is over, and put the task's registers back; what it returned.

        Not those of the CPU, such as the base of its per-CPU memory: a task that slept may go on on another one.
        """
        result = self.until(called.registers["rip"], lambda now: now["rsp"] == called.stack)
        self.set(**called.registers)
        self._must(f"P{len(REGISTERS):x}={called.flags.hex()}")
        return result["rax"]

    def call(self, function: Function, *arguments: int) -> int:
        """Have the task that stopped call a function; what it returned."""
        return self.end(self.begin(function, *arguments))

    def go(self) -> None:
        """Let the guest go on for good."""
        self._send("D")
        self._line.close()
