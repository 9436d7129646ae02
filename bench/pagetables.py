"""How fast the page tables of real guests' dumps are walked, beside drgn's walker in the same run.

Run as ``python bench/pagetables.py [--json] [DUMP ...]``; by default the largest dump of each architecture under
tests/data/ptcores. Rates count every entry read, valid or not; drgn's count the addresses that it translates. What drgn
finds must be what we find. drgn translates one address after the other and keeps no tables, so the ratio says what a
whole dump takes with either, no more. Exits with 1 where one of them is walked slower than TARGET.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import argparse
import json
import sys
import time
from importlib import import_module
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, NamedTuple

import numpy as np

from memhp.facts.elfcore import ElfCore
from memhp.facts.ptwalk import ptwalk
from memhp.facts.table_source import TableSource, open_tables
from memhp.hw.walker import leaves
from memhp.inputs import unpack_xz
from memhp.limits import CORE_PACKED, CORE_SIZE
from memhp.linux.arch.registry import ARCHES

RUNS = 25
TARGET = 20e6
"""Entries a second that a walk of a real dump must reach."""
DRGN_ADDRESSES = 20_000
CORES = Path(__file__).parents[1] / "tests" / "data" / "ptcores"


class Row(NamedTuple):
    """One line of the report; `ratio` is how many times as fast our walk is."""

    dump: str
    what: str
    entries: int
    seconds: float
    ratio: float | None = None

    @property
    def rate(self) -> float:
        """Entries, or addresses, a second."""
        return self.entries / self.seconds


def walked(path: Path, source: TableSource) -> Row:
    """Every entry of the kernel's half, as merged ranges with attributes and physical addresses."""
    times = []
    entries = 0
    for _ in range(RUNS):
        before = time.perf_counter()
        entries = ptwalk(source.reader, source.root).entries
        times.append(time.perf_counter() - before)
    return Row(path.parts[-3], "memhp", entries, min(times))


def drgn_walked(path: Path, source: TableSource) -> Row | None:
    """Drgn's follow_phys of base-page leaves; None where it is not installed or does not know the architecture."""
    try:
        drgn: Any = import_module("drgn")
        follow_phys = import_module("_drgn")._linux_helper_follow_phys
    except ImportError:
        return None
    known = {"x86_64": drgn.Architecture.X86_64, "arm64": drgn.Architecture.AARCH64}
    if source.root.fmt.arch not in known:
        return None
    core = ElfCore(path)
    program = drgn.Program()
    with NamedTemporaryFile() as plain:
        plain.write(unpack_xz(path, CORE_SIZE, CORE_PACKED) if path.suffix == ".xz" else path.read_bytes())
        plain.flush()
        program.set_core_dump(plain.name)
    root = source.root
    found = leaves(source.reader, root.fmt, root.pfn, root_index=root.index, va_start=root.fmt.start)
    some = np.linspace(0, found.va.size - 1, min(DRGN_ADDRESSES, found.va.size)).astype(np.intp)
    vas, pas = found.va[some].tolist(), found.pa[some].tolist()
    pgd = core.info.symbol("swapper_pg_dir")
    before = time.perf_counter()
    theirs = [follow_phys(program, pgd, va) for va in vas]
    seconds = time.perf_counter() - before
    if theirs != pas:
        raise SystemExit("drgn and memhp disagree")
    return Row(path.parts[-3], f"drgn {drgn.__version__} follow_phys", len(vas), seconds)


def largest() -> list[Path]:
    """The dump with most table frames of each architecture."""
    cores: dict[str, tuple[int, Path]] = {}
    for path in sorted(CORES.glob("*/*/pt.elf.xz")):
        core = ElfCore(path)
        size = sum(span.size for span in core.frames) * core.page_size
        cores[core.arch] = max(cores.get(core.arch, (0, path)), (size, path))
    return [cores[arch][1] for arch in ARCHES if arch in cores]


def main() -> int:
    """Walk each dump and print the rates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("dumps", nargs="*", type=Path)
    options = parser.parse_args()
    rows: list[Row] = []
    for path in options.dumps or largest():
        source = open_tables(path)
        rows.append(walked(path, source))
        theirs = drgn_walked(path, source)
        if theirs is not None:
            rows.append(theirs._replace(ratio=rows[-1].rate / theirs.rate))
    slowest = min(row.rate for row in rows if row.what == "memhp")
    if options.json:
        print(json.dumps({"target": TARGET, "rows": [row._asdict() | {"rate": row.rate} for row in rows]}, indent=2))
    else:
        for row in rows:
            note = f"memhp is {row.ratio:.0f}×" if row.ratio else ""
            print(f"{row.dump[:48]:48} {row.what:24} {row.entries:8} {row.rate / 1e6:8.2f} M/s  {note}")
        print(f"at least {TARGET / 1e6:.0f} M/s on each: {'holds' if slowest >= TARGET else 'MISSED'}")
    return 0 if slowest >= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
