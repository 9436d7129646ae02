"""How fast a modelled guest plugs and unplugs a virtio-mem device of 1 TiB in 2 MiB blocks, beside real guests.

Run as ``python bench/virtio_mem.py [--json]``. Requests a second, the best of several runs, and how many times as many
that is as a real guest under emulation made. The real figures are those of the fastest of the guests in
tests/data/ptcores, whose logs tell how many requests their devices saw in how many tenths of a second: each plugged or
unplugged a memory block of 64 device blocks. A guest that is resized 2 MiB at a time makes a request for each device
block, half a million for the whole device.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import argparse
import gc
import json
import lzma
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from memhp.hw.devices.backing import MachineBacking
from memhp.hw.devices.virtio_mem import Geometry, VirtioMemDevice
from memhp.linux.drivers.virtio.virtio_mem import virtio_mem_probe
from memhp.linux.init import start_kernel
from memhp.linux.state import Kernel
from memhp.scenario.machine import machine_spec
from memhp.scenario.schema import Boot, MachineText
from memhp.units import MiB, TiB

BLOCK = 2 * MiB
GUESTS = Path(__file__).parent.parent / "tests" / "data" / "ptcores"
REQUESTS_OF_A_RESIZE = 4
"""In each of those guests, which go by memory blocks of 128 MiB from 0 to 512 MiB and back."""


class Figure(NamedTuple):
    """Requests a second in one case, and how many times as many that is as a real guest made, where there is one."""

    case: str
    rate: float
    ratio: float | None = None


def machine() -> tuple[Kernel, VirtioMemDevice]:
    """A machine of 32 GiB, which onlines what comes as movable, and a device of 1 TiB."""
    boot = Boot(memhp_default_state="online_movable")
    k = start_kernel(machine_spec(MachineText(preset="x86-vm", memory="32G", boot=boot)))
    device = VirtioMemDevice(Geometry(TiB, TiB, BLOCK), MachineBacking(k.hw, "vm0"))
    virtio_mem_probe(k, device, "virtio1")
    k.hw.advance(0)
    return k, device


def resize(k: Kernel, device: VirtioMemDevice, sizes: range) -> float:
    """Requests a second while the device goes through these sizes. Logs do not pile up."""
    requests = 0
    start = time.perf_counter()
    for size in sizes:
        device.resize(size)
        k.hw.advance(0)
        requests += len(device.log)
        device.log.clear()
        k.hw.log_lines.clear()
    taken = time.perf_counter() - start
    if device.plugged_size != sizes[-1]:
        raise SystemExit(f"{device.plugged_size:#x} bytes are plugged, {sizes[-1]:#x} were requested")
    return requests / taken


class Case(NamedTuple):
    """Sizes that a device goes through: to get ready, then timed; as often as said, beside what real guests do."""

    name: str
    before: range
    timed: range
    runs: int
    real: str


CASES = (
    Case("plug 1 TiB, a memory block a request", range(1), range(TiB, TiB + 1), 3, "plug"),
    Case("unplug it", range(TiB, TiB + 1), range(1), 3, "unplug"),
    Case("plug 1 TiB, 2 MiB a request", range(1), range(BLOCK, TiB + 1, BLOCK), 1, "plug"),
    Case("unplug it, 2 MiB a request", range(TiB, TiB + 1), range(TiB - BLOCK, -1, -BLOCK), 1, "unplug"),
)


def modelled(real: dict[str, float]) -> Iterator[Figure]:
    """What the model does, case by case."""
    for case in CASES:
        rates = []
        for _ in range(case.runs):
            gc.collect()
            k, device = machine()
            resize(k, device, case.before)
            rates.append(resize(k, device, case.timed))
        yield Figure(case.name, max(rates), max(rates) / real[case.real])


def real_rates() -> dict[str, float]:
    """Requests a second of the fastest real guest, by what it did."""
    seconds: dict[str, list[float]] = {"plug": [], "unplug": []}
    for log in GUESTS.glob("*/log.txt.xz"):
        text = lzma.decompress(log.read_bytes()).decode()
        for size, taken in re.findall(r"^requested (\d+)M .* in ([\d.]+)s", text, re.M):
            seconds["plug" if int(size) else "unplug"].append(float(taken))
    return {what: REQUESTS_OF_A_RESIZE / min(times) for what, times in seconds.items()}


def figures() -> Iterator[Figure]:
    """What real guests do, then what the model does."""
    real = real_rates()
    for what, rate in real.items():
        yield Figure(f"a real guest under emulation: {what}, a memory block a request", rate)
    yield from modelled(real)


def main() -> None:
    """Measure and print, each figure as soon as it is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    if parser.parse_args().json:
        print(json.dumps([figure._asdict() for figure in figures()], indent=1))
        return
    for figure in figures():
        ratio = "" if figure.ratio is None else f"{figure.ratio:,.0f} times as many"
        print(f"{figure.rate:12,.0f} requests/s  {ratio:>22}  {figure.case}", flush=True)


if __name__ == "__main__":
    main()
