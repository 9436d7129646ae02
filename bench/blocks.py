"""How long listing memory blocks takes, beside util-linux's lsmem in the same run.

Run as ``python bench/blocks.py [--json]``, with TMPDIR on a tmpfs. A sysfs of 32,768 blocks is listed by both with
``--sysroot``: in one range as a machine mostly has them, in as many ranges as there are blocks, and block by block
(``-a``). Then this host, by us alone. What both print must be the same but for spaces. Exits with 1 where we take more
than TIMES lsmem's time, or more than SECONDS for this host, interpreter and all.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory
from typing import NamedTuple

BLOCKS = 32_768
BLOCK = 128 << 20
RUNS = 5
TIMES = 3.0
SECONDS = 0.3
COLUMNS = "RANGE,SIZE,STATE,REMOVABLE,BLOCK"


class Row(NamedTuple):
    """One line of the report: the best of RUNS runs of each, in seconds; None where lsmem was not asked."""

    what: str
    seconds: float
    lsmem: float | None

    @property
    def ratio(self) -> float | None:
        """How many times lsmem's time we take."""
        return None if self.lsmem is None else self.seconds / self.lsmem

    @property
    def holds(self) -> bool:
        """Whether it is quick enough."""
        return self.seconds <= SECONDS if self.ratio is None else self.ratio <= TIMES


def write_sysfs(root: Path, *, alternate: bool) -> None:
    """The files of a machine: with `alternate` every other block is offline."""
    memory = root / "sys/devices/system/memory"
    node = root / "sys/devices/system/node/node0"
    memory.mkdir(parents=True)
    node.mkdir(parents=True)
    (memory / "block_size_bytes").write_text(f"{BLOCK:x}\n")
    (memory / "auto_online_blocks").write_text("offline\n")
    for index in range(BLOCKS):
        folder = memory / f"memory{index}"
        folder.mkdir()
        state = "offline" if alternate and index % 2 else "online"
        for name, text in (
            ("state", state), ("removable", "1"), ("phys_index", f"{index:08x}"), ("valid_zones", "Normal"),
            ("phys_device", "0"),
        ):  # fmt: skip
            (folder / name).write_text(f"{text}\n")
        (folder / "node0").symlink_to("../../node/node0")
        (node / folder.name).symlink_to(f"../../memory/{folder.name}")
    (root / "proc").mkdir()
    (root / "proc/iomem").write_text(f"00000000-{BLOCKS * BLOCK - 1:x} : System RAM\n")
    (root / "proc/zoneinfo").write_text("Node 0, zone   Normal\n  pages free     1\n")


def timed(command: Sequence[str]) -> tuple[float, str]:
    """The best time of a command, and what it prints."""
    best, out = float("inf"), ""
    for _ in range(RUNS):
        before = time.perf_counter()
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        best = min(best, time.perf_counter() - before)
    return best, out


def listed(what: str, root: Path, *more: str) -> Row:
    """Both list a tree."""
    ours, text = timed([sys.executable, "-m", "memhp", "blocks", "--sysroot", str(root), "-o", COLUMNS, *more])
    if which("lsmem") is None:
        return Row(what, ours, None)
    theirs, expected = timed(["lsmem", "--sysroot", str(root), "-o", COLUMNS, *more])
    if [line.split() for line in text.splitlines()] != [line.split() for line in expected.splitlines()]:
        raise SystemExit(f"{what}: lsmem prints something else")
    return Row(what, ours, theirs)


def main() -> int:
    """Measure, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = []
    with TemporaryDirectory() as folder:
        plain, ragged = Path(folder) / "plain", Path(folder) / "ragged"
        write_sysfs(plain, alternate=False)
        write_sysfs(ragged, alternate=True)
        rows = [
            listed(f"{BLOCKS} blocks in one range", plain),
            listed(f"{BLOCKS} blocks in as many ranges", ragged),
            listed(f"{BLOCKS} blocks, each by itself", plain, "-a"),
        ]
    rows.append(Row("this host", timed([sys.executable, "-m", "memhp", "blocks"])[0], None))
    if options.json:
        print(json.dumps([row._asdict() | {"ratio": row.ratio, "holds": row.holds} for row in rows], indent=2))
    else:
        for row in rows:
            beside = "" if row.lsmem is None else f"lsmem {row.lsmem:6.3f} s, {row.ratio:.2f}×"
            print(f"{row.what:34} {row.seconds:6.3f} s  {beside:24} {'holds' if row.holds else 'MISSED'}")
    return 0 if all(row.holds for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
