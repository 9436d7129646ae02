"""How fast page tables are dumped, with merged ranges and attributes in words: beside drgn's walker and a plain loop.

Run as ``python bench/dump.py [--json] [--gib N]``. All three read the same memory: a direct map of N GiB in 4 KiB
leaves (256 by default: 64 Mi entries) with a few read-only pages and holes in it. drgn and the loop see only a part of
it, and what they find must be what we find there. Rates count every entry read, valid or not; drgn's count the
addresses that it translates, one leaf entry each.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import argparse
import json
import time
import tracemalloc
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from memhp.facts.ptwalk import ptwalk, ptwalk_lines
from memhp.hw.decode import attribute_text, text_bits
from memhp.hw.format import HEIGHT_NAMES, U64, Format
from memhp.hw.reader import ArrayReader
from memhp.hw.walker import translate
from memhp.linux.formats import format_for
from memhp.linux.port import Root
from memhp.units import GiB, KiB, MiB

RUNS = 3
TARGET = 50e6
"""Entries a second that a dump must reach."""

ROOT_PFN = 0x1000
PROTS = {
    "x86_64": ({"RW": 1, "A": 1, "D": 1, "G": 1, "XD": 1}, {"A": 1, "D": 1, "G": 1, "XD": 1}),
    "arm64": ({"SH": 3, "AF": 1, "DBM": 1, "PXN": 1, "UXN": 1}, {"SH": 3, "AF": 1, "AP": 2, "PXN": 1, "UXN": 1}),
    "riscv64": ({"R": 1, "W": 1, "G": 1, "A": 1, "D": 1}, {"R": 1, "G": 1, "A": 1, "D": 1}),
}
"""Writable and read-only kernel memory."""


class Row(NamedTuple):
    """One line of the report. `ratio` is how many times faster our dump of the same format is."""

    format: str
    what: str
    entries: int
    seconds: float
    ratio: float | None
    holds: bool | None


class Memory(NamedTuple):
    """Page tables in neighbouring frames from ROOT_PFN on: the root, then each level, the leaves' tables last."""

    root: Root
    reader: ArrayReader
    va: int
    leaf_tables: U64


def direct_map(fmt: Format, size: int) -> Memory:
    """A direct map of `size` bytes at the start of the kernel's half, to physical memory from 0 on."""
    per = fmt.levels[0].entries
    counts = [size // (per * fmt.page_size)]
    while len(counts) < fmt.root_height:
        counts.append(-(-counts[-1] // per))
    counts.append(1)
    starts = np.cumsum([0, *counts[:0:-1]])[::-1]
    rows = np.zeros((sum(counts), per), dtype=np.uint64)
    at = fmt.levels[-1].entries // 2 if fmt.sign_extended else 0
    for height in range(fmt.root_height, 0, -1):
        children = np.arange(counts[height - 1], dtype=np.uint64) + np.uint64(ROOT_PFN + int(starts[height - 1]))
        first = int(starts[height]) * per + (at if height == fmt.root_height else 0)
        rows.reshape(-1)[first : first + children.size] = fmt.table_entry(children)
    writable, read_only = (fmt.bits(**prot) for prot in PROTS[fmt.arch])
    leaves = rows[int(starts[0]) :].reshape(-1)
    leaves[:] = fmt.leaf_entry(np.arange(leaves.size, dtype=np.uint64), 0, writable)
    random = np.random.default_rng(1)
    for pick in random.integers(0, leaves.size, leaves.size // 4096).tolist():
        leaves[pick : pick + 8] = fmt.leaf_entry(
            np.arange(pick, min(pick + 8, leaves.size), dtype=np.uint64), 0, read_only
        )
    leaves[random.integers(0, leaves.size, leaves.size // 4096)] = 0
    reader = ArrayReader(np.arange(len(rows), dtype=np.uint64) + np.uint64(ROOT_PFN), rows)
    return Memory(Root(fmt, ROOT_PFN), reader, fmt.canonical(at << fmt.levels[-1].shift), rows[int(starts[0]) :])


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """The least of several timings, and the last result."""
    times = []
    result = None
    for _ in range(RUNS):
        before = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - before)
    return min(times), result


def our_dump(memory: Memory) -> Row:
    """Every range of the kernel's half as text."""
    entries = 0

    def dump() -> list[str]:
        nonlocal entries
        found = ptwalk(memory.reader, memory.root)
        entries = found.entries
        return list(ptwalk_lines(found))

    seconds, _ = timed(dump)
    return Row(memory.root.fmt.name, "memhp dump", entries, seconds, None, entries / seconds >= TARGET)


def peak(memory: Memory) -> int:
    """The most bytes that a dump needs at one time beside the tables themselves, its text included."""
    tracemalloc.start()
    list(ptwalk_lines(ptwalk(memory.reader, memory.root)))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


def plain_loop(memory: Memory, tables: int) -> Row:
    """The same text from an ordinary loop over the entries of the first tables."""
    fmt = memory.root.fmt
    rows = memory.leaf_tables[:tables]
    seconds, lines = timed(lambda: list(loop_lines(fmt, rows, memory.va)))
    end = memory.va + rows.size * fmt.page_size
    ours = list(ptwalk_lines(ptwalk(memory.reader, memory.root, va_start=memory.va, va_end=end)))
    if lines != ours:
        raise SystemExit("the loop and memhp disagree")
    return Row(fmt.name, "plain loop", rows.size, seconds, None, None)


def loop_lines(fmt: Format, rows: U64, va: int) -> Iterator[str]:
    """One entry at a time: valid? its frame, its attributes, does it continue the range?"""
    shown = text_bits(fmt)[0]
    start = size = pa = bits = 0
    for row in rows:
        for entry in row.tolist():
            if entry & fmt.valid:
                frame = fmt.table_pfn(entry) << fmt.page_shift
                if size and start + size == va and pa + size == frame and entry & shown == bits:
                    size += fmt.page_size
                else:
                    if size:
                        yield line(fmt, start, size, bits, pa)
                    start, size, pa, bits = va, fmt.page_size, frame, entry & shown
            va += fmt.page_size
    if size:
        yield line(fmt, start, size, bits, pa)


def line(fmt: Format, va: int, size: int, bits: int, pa: int) -> str:
    """A range as memhp prints it."""
    text = attribute_text(fmt, bits, 0)
    return f"0x{va:016x}-0x{va + size:016x} {size // KiB:>12}K {HEIGHT_NAMES[0]} {text:40s} pa=0x{pa:x}"


def drgn_walk(memory: Memory, count: int) -> Row | None:
    """Drgn's follow_phys of page after page; None where it is not installed or does not know the architecture."""
    fmt = memory.root.fmt
    try:
        drgn: Any = import_module("drgn")
        follow_phys = import_module("_drgn")._linux_helper_follow_phys
    except ImportError:
        return None
    known = {"x86_64": drgn.Architecture.X86_64, "arm64": drgn.Architecture.AARCH64}
    if fmt.arch not in known:
        return None
    program = drgn.Program(drgn.Platform(known[fmt.arch]))
    pgd = 0xFFFF_FFFF_8100_0000
    program.set_linux_kernel_custom(vmcoreinfo(fmt, pgd), False)
    rows: Any = memory.reader.rows
    contents = memoryview(rows).cast("B")
    base = ROOT_PFN << fmt.page_shift
    program.add_memory_segment(base, contents.nbytes, lambda _, size, at, __: contents[at : at + size], True)
    vas = memory.va + np.arange(count, dtype=np.uint64) * np.uint64(fmt.page_size)

    def follow() -> list[int | None]:
        found: list[int | None] = []
        for va in vas.tolist():
            try:
                found.append(follow_phys(program, pgd, va))
            except drgn.FaultError:
                found.append(None)
        return found

    seconds, found = timed(follow)
    ours = translate(memory.reader, fmt, memory.root.pfn, vas)
    if found != [pa if mapped else None for pa, mapped in zip(ours.pa.tolist(), ours.mapped.tolist(), strict=True)]:
        raise SystemExit("drgn and memhp disagree")
    return Row(fmt.name, f"drgn {drgn.__version__} follow_phys", count, seconds, None, None)


def vmcoreinfo(fmt: Format, pgd: int) -> str:
    """What drgn must know of a kernel to walk its page tables."""
    base = ROOT_PFN << fmt.page_shift
    lines = {
        "OSRELEASE": "6.12.0",
        "PAGESIZE": fmt.page_size,
        "SYMBOL(init_uts_ns)": f"{pgd:x}",
        "OFFSET(uts_namespace.name)": 0,
        "SYMBOL(swapper_pg_dir)": f"{pgd:x}",
        "KERNELOFFSET": 0,
        "NUMBER(phys_base)": base - (pgd - 0xFFFF_FFFF_8000_0000),
        "NUMBER(pgtable_l5_enabled)": int(fmt.va_bits == 57),
        "NUMBER(VA_BITS)": fmt.va_bits,
        "NUMBER(TCR_EL1_T1SZ)": hex(64 - fmt.va_bits),
        "NUMBER(kimage_voffset)": hex(pgd - base),
        "NUMBER(PHYS_OFFSET)": "0x0",
    }
    return "".join(f"{key}={value}\n" for key, value in lines.items())


def with_ratio(row: Row, ours: Row) -> Row:
    """The row with how many times as many entries a second our dump reads."""
    return row._replace(ratio=(ours.entries / ours.seconds) / (row.entries / row.seconds))


def main() -> None:
    """Run every format and print the rates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--gib", type=int, default=256, help="size of the direct map in GiB")
    options = parser.parse_args()
    rows: list[Row] = []
    for arch, va_bits in (("x86_64", 48), ("arm64", 48), ("riscv64", 48)):
        memory = direct_map(format_for(arch, 4 * KiB, va_bits), options.gib * GiB)
        ours = our_dump(memory)
        rows.append(ours._replace(what=f"{ours.what}, {peak(memory) / MiB:.0f} MiB at most"))
        peers = (drgn_walk(memory, 100_000), plain_loop(memory, 1024))
        rows += [with_ratio(row, ours) for row in peers if row is not None]
        del memory
    if options.json:
        print(json.dumps({"rows": [row._asdict() | {"rate": row.entries / row.seconds} for row in rows]}, indent=2))
        return
    print(f"{'format':20} {'what':28} {'entries':>10} {'seconds':>9} {'M entries/s':>12}")
    for row in rows:
        note = f"memhp is {row.ratio:.0f}×" if row.ratio else ""
        if row.holds is not None:
            note = f"at least {TARGET / 1e6:.0f}: {'holds' if row.holds else 'MISSED'}"
        rate = row.entries / row.seconds / 1e6
        print(f"{row.format:20} {row.what:28} {row.entries:10} {row.seconds:9.3f} {rate:12.2f}  {note}")


if __name__ == "__main__":
    main()
