"""How fast a modelled guest plugs and unplugs a virtio-mem device of 1 TiB, beside real guests under emulation.

Run as ``python bench/virtio_mem.py [--json]``. Requests a second, the best of several runs; the real figures are those
of the guests in tests/data/ptcores, whose logs tell how many requests their devices saw in how many tenths of a second.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import argparse
import gc
import json
import lzma
import re
import time
from pathlib import Path
from typing import NamedTuple

from memhp.hw.devices.backing import MachineBacking
from memhp.hw.devices.virtio_mem import Geometry, VirtioMemDevice
from memhp.linux.drivers.virtio.virtio_mem import virtio_mem_probe
from memhp.linux.init import start_kernel
from memhp.linux.state import Kernel
from memhp.scenario.machine import machine_spec
from memhp.scenario.schema import Boot, MachineText
from memhp.units import GiB, MiB, TiB

RUNS = 3
BLOCK = 2 * MiB
GUESTS = Path(__file__).parent.parent / "tests" / "data" / "ptcores"
REQUESTS_OF_A_RESIZE = 4
"""In each of those guests, which go by memory blocks of 128 MiB from 0 to 512 MiB and back."""


class Figure(NamedTuple):
    """Requests a second in one case."""

    case: str
    rate: float


def machine() -> tuple[Kernel, VirtioMemDevice]:
    """A machine of 32 GiB, which onlines what comes as movable, and a device of 1 TiB."""
    boot = Boot(memhp_default_state="online_movable")
    k = start_kernel(machine_spec(MachineText(preset="x86-vm", memory="32G", boot=boot)))
    device = VirtioMemDevice(Geometry(TiB, TiB, BLOCK), MachineBacking(k.hw, "vm0"))
    virtio_mem_probe(k, device, "virtio1")
    k.hw.advance(0)
    return k, device


def resize(k: Kernel, device: VirtioMemDevice, sizes: range) -> float:
    """Requests a second while the device goes through these sizes."""
    seen = len(device.log)
    start = time.perf_counter()
    for size in sizes:
        device.resize(size)
        k.hw.advance(0)
    taken = time.perf_counter() - start
    if device.plugged_size != sizes[-1]:
        raise SystemExit(f"{device.plugged_size:#x} bytes are plugged, {sizes[-1]:#x} were requested")
    return (len(device.log) - seen) / taken


CASES = {
    "plug 1 TiB, a memory block a request": (range(TiB, TiB + 1),),
    "unplug it": (range(TiB, TiB + 1), range(1)),
    "plug 4 GiB, 2 MiB a request": (range(BLOCK, 4 * GiB + 1, BLOCK),),
    "unplug it, 2 MiB a request": (range(4 * GiB, 4 * GiB + 1), range(4 * GiB - BLOCK, -1, -BLOCK)),
}
"""Sizes that a device goes through from 0; the last range is the one that is timed."""


def modelled() -> list[Figure]:
    """What the model does."""
    figures = []
    for case, (*before, timed) in CASES.items():
        rates = []
        for _ in range(RUNS):
            gc.collect()
            k, device = machine()
            for sizes in before:
                resize(k, device, sizes)
            rates.append(resize(k, device, timed))
        figures.append(Figure(case, max(rates)))
    return figures


def real() -> list[Figure]:
    """What the fastest real guest did."""
    seconds: dict[str, list[float]] = {"plug": [], "unplug": []}
    for log in GUESTS.glob("*/log.txt.xz"):
        text = lzma.decompress(log.read_bytes()).decode()
        for size, taken in re.findall(r"^requested (\d+)M .* in ([\d.]+)s", text, re.M):
            seconds["plug" if int(size) else "unplug"].append(float(taken))
    return [
        Figure(f"a real guest under emulation: {what}, a memory block a request", REQUESTS_OF_A_RESIZE / min(times))
        for what, times in seconds.items()
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    figures = [*modelled(), *real()]
    if parser.parse_args().json:
        print(json.dumps([figure._asdict() for figure in figures], indent=1))
        return
    for figure in figures:
        print(f"{figure.rate:12,.0f} requests/s  {figure.case}")


if __name__ == "__main__":
    main()
