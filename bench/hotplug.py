"""How fast the model hot-adds memory: beside NumPy writing the same bytes, and over a sweep of sizes.

Run as ``python bench/hotplug.py [--json]``. Each figure is the best of several runs in this process; ratios compare
figures of the same run. Every case but the sweep's names the target that it is held against.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import argparse
import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from memhp.hw.memory import Owner, Use
from memhp.linux.init import MachineSpec, start_kernel
from memhp.linux.mm.memory_hotplug_add import MHP_NONE, add_memory
from memhp.linux.mm.memory_hotplug_remove import remove_memory
from memhp.linux.state import Kernel
from memhp.scenario.machine import machine_spec
from memhp.scenario.schema import Boot, MachineText
from memhp.spans import Span
from memhp.units import GiB, MiB, TiB, align_up, format_size

RUNS = 7


class Figure(NamedTuple):
    """One line of the report: a measured value, what it is held against, and whether that holds."""

    case: str
    value: float
    unit: str
    against: str
    ratio: float | None
    holds: bool | None


def machine(preset: str, memory: int, **boot: bool) -> MachineSpec:
    """A preset's machine with so much RAM."""
    return machine_spec(MachineText(preset=preset, memory=memory, boot=Boot(**boot)))


def best(work: Callable[[], float]) -> float:
    """The least of several timings, each of which times itself."""
    times = []
    for _ in range(RUNS):
        gc.collect()
        times.append(work())
    return min(times)


def plug_range(k: Kernel, size: int) -> int:
    """Plug memory above all that there is; the physical address."""
    start = align_up(max(k.max_pfn << k.config.page_shift, 4 * GiB), 2 * GiB)
    shift = k.config.page_shift
    k.hw.plug(Span(start >> shift, (start + size) >> shift), Owner(Use.DEVICE, "dimm"))
    return start


def base_page_maps() -> Figure:
    """256 GiB with base-page leaves in direct map and vmemmap, beside NumPy writing as many bytes of entries."""
    size = 256 * GiB
    written = 0

    def model() -> float:
        nonlocal written
        text = MachineText(
            preset="riscv-vm", memory=16 * GiB, boot=Boot(debug_pagealloc=True), choices={"vmemmap_leaves": "base"}
        )
        spec = machine_spec(text)
        k = start_kernel(spec)
        start = plug_range(k, size)
        before, stores = time.perf_counter(), k.hw.ledger.stores
        k.port.arch_add_memory(k, 0, start, size)
        took = time.perf_counter() - before
        written = (k.hw.ledger.stores - stores) * 8
        return took

    def numpy() -> float:
        """The same entries, one vector operation: leaves for neighbouring frames."""
        before = time.perf_counter()
        np.arange(0xE7, 0xE7 + (written // 8 << 10), 1 << 10, dtype=np.uint64)
        return time.perf_counter() - before

    ours, theirs = best(model), best(numpy)
    return Figure(
        f"256 GiB in base-page leaves: {format_size(written)} of entries",
        ours,
        "s",
        f"NumPy {theirs:.3f} s, at most 2×",
        ours / theirs,
        ours <= 2 * theirs,
    )


def huge_leaves() -> Figure:
    """1 TiB with 2 MiB leaves through add_memory(): blocks, resources, sections and all."""

    def model() -> float:
        k = start_kernel(machine("x86-vm", 64 * GiB, gbpages=False))
        start = plug_range(k, TiB)
        before = time.perf_counter()
        add_memory(k, 0, start, TiB, MHP_NONE)
        return time.perf_counter() - before

    took = best(model)
    return Figure("1 TiB in 2 MiB leaves, add_memory()", took, "s", "at most 0.5 s", took / 0.5, took <= 0.5)


def big_boot() -> list[Figure]:
    """A 64 TiB machine boots, in a process of its own, so that what is resident is this machine's."""
    child = subprocess.run(
        [sys.executable, __file__, "--boot-64tib"], check=True, capture_output=True, text=True, timeout=120
    )
    took, peak = json.loads(child.stdout)
    return [
        Figure("64 TiB machine, boot", took, "s", "at most 1 s", took, took <= 1),
        Figure(
            "64 TiB machine, peak memory of the process",
            peak / MiB,
            "MiB",
            "at most 200 MiB",
            peak / (200 * MiB),
            peak <= 200 * MiB,
        ),
    ]


def boot_64tib() -> None:
    """Print, as JSON, the seconds that booting 64 TiB takes and the most bytes that the process ever had resident."""
    spec = machine("x86-64tib", 64 * TiB)
    start = time.perf_counter()
    kernel = start_kernel(spec)
    took = time.perf_counter() - start
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
    assert kernel.max_pfn << kernel.config.page_shift >= 64 * TiB
    print(json.dumps([took, peak]))


def sweep() -> list[Figure]:
    """Add and remove of doubling sizes with base-page leaves: cost follows tables, not pages."""
    figures = []
    for size in (2 * GiB, 8 * GiB, 32 * GiB, 128 * GiB):
        k = start_kernel(machine("arm64-vm", 16 * GiB))
        start = plug_range(k, size)
        before = time.perf_counter()
        add_memory(k, 0, start, size, MHP_NONE)
        added = time.perf_counter()
        tables = sum(k.hw.ledger.tables_allocated.values())
        remove_memory(k, start, size)
        removed = time.perf_counter()
        for name, took in (("add", added - before), ("remove", removed - added)):
            per_table = took / (size // (2 * MiB)) * 1e6
            figures.append(
                Figure(
                    f"arm64 4K {name} {format_size(size)}",
                    took,
                    "s",
                    f"{per_table:.1f} µs a table ({tables} in all)",
                    None,
                    None,
                )
            )
    return figures


def main() -> None:
    """Run every case and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--boot-64tib", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.boot_64tib:
        boot_64tib()
        return
    figures = [base_page_maps(), huge_leaves(), *big_boot(), *sweep()]
    if options.json:
        print(json.dumps([figure._asdict() for figure in figures], indent=2))
        return
    for figure in figures:
        ratio = "" if figure.ratio is None else f"  {figure.ratio:.2f}×"
        mark = {True: "  holds", False: "  MISSED", None: ""}[figure.holds]
        print(f"{figure.case:52} {figure.value:9.3f} {figure.unit:4} {figure.against}{ratio}{mark}")


if __name__ == "__main__":
    main()
