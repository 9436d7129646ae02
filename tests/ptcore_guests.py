"""The guests whose page tables are kept under tests/data/ptcores, as machines of the model that boot as they did."""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from captures import DATA
from memhp.facts.elfcore import ElfCore
from memhp.hw.memory import Owner, Use
from memhp.linux.config import Bases, Config
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.profiles import profile
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import MiB

NOTED: list[dict[str, Any]] = json.loads((DATA / "layout" / "guests.json").read_text())
BLOCK = 128 * MiB
"""The memory block of all of them; virtio-mem and kmem add and remove block by block."""


@dataclass(frozen=True)
class Guest:
    """One guest: what VMCOREINFO and /proc/iomem noted, its moments, and what was hot-plugged (physical bytes)."""

    name: str
    noted: dict[str, Any]
    before: str
    plugged: str
    after: str
    hot: Span

    @property
    def config(self) -> Config:
        """The configuration that it ran with; of KASLR only the bases that VMCOREINFO tells."""
        notes, arch = self.noted["vmcoreinfo"], self.noted["arch"]
        bases = Bases()
        if "kaslr" in self.name:
            start, _, phys = self.noted["direct_map_leaves"]
            bases = Bases(
                page_offset=start - phys, vmalloc_start=notes["VMALLOC_START"], vmemmap_start=notes["vmemmap"]
            )
        elif arch == "riscv64":
            bases = Bases(modules_start=notes["MODULES_VADDR"])
        config = Config(
            arch=arch,
            profile=profile(self.noted["profile"]),
            page_size=self.noted["page_size"],
            va_bits=self.noted["va_bits"],
            lva=self.noted.get("lva", True),
            bases=bases,
        )
        return config.validate()

    def boot(self) -> Kernel:
        """The guest before anything was plugged, with the device's memory in place."""
        start, end = self.noted["ram"]
        k = start_kernel(MachineSpec(self.name, self.config, (Ram(start, end - start),)))
        shift = k.config.page_shift
        k.hw.plug(Span(self.hot.start >> shift, self.hot.end >> shift), Owner(Use.DEVICE))
        return k

    def blocks(self) -> Iterator[tuple[int, int]]:
        """The memory blocks of what was plugged, as (start, size)."""
        return ((start, BLOCK) for start in range(self.hot.start, self.hot.end, BLOCK))

    def core(self, step: str) -> ElfCore:
        """Its page tables at a moment."""
        return _core(self.name, step)


@cache
def _core(name: str, step: str) -> ElfCore:
    return ElfCore(DATA / "ptcores" / name / step / "pt.elf.xz")


VIRTIO = ("0-before", "1-plugged-512M", "2-unplugged")
KMEM = ("0-before", "4-online", "6-removed")
HOT = {
    # Where the device of each guest lies: "hot" regions of its ptdiff.txt.
    "arm64-6.12.107+deb13-arm64-16k-kmem-map-pmem-mom0": (KMEM, 0xC800_0000, 896),
    "arm64-6.12.107+deb13-arm64-16k-virtio-mem-52bit": (VIRTIO, 0x8000_0000, 512),
    "arm64-6.12.107+deb13-arm64-virtio-mem-52bit": (VIRTIO, 0x8000_0000, 512),
    "arm64-6.12.107+deb13-arm64-virtio-mem-high-48bit": (VIRTIO, 0x81_0000_0000, 512),
    "arm64-7.2.13+deb14-arm64-virtio-mem-48bit": (VIRTIO, 0x8000_0000, 512),
    "riscv64-6.12.107+deb13-riscv64-virtio-mem-vhost-sv48": (VIRTIO, 0xC000_0000, 512),
    "riscv64-6.12.107+deb13-riscv64-virtio-mem-vhost-sv57": (VIRTIO, 0xC000_0000, 512),
    "riscv64-7.2.13+deb14-riscv64-kmem-map-pmem-mom1": (KMEM, 0x1_0800_0000, 896),
    "riscv64-7.2.13+deb14-riscv64-virtio-mem-vhost-sv39": (VIRTIO, 0xC000_0000, 512),
    "riscv64-7.2.13+deb14-riscv64-virtio-mem-vhost-sv57": (VIRTIO, 0xC000_0000, 512),
    "x86_64-6.12.107+deb13-cloud-amd64-virtio-mem-high-4level": (VIRTIO, 0x81_0000_0000, 512),
    "x86_64-6.12.107+deb13-cloud-amd64-virtio-mem-high-la57": (VIRTIO, 0x81_0000_0000, 512),
    "x86_64-6.12.107+deb13-cloud-amd64-virtio-mem-kaslr": (VIRTIO, 0x1_0000_0000, 512),
    "x86_64-6.12.107+deb13-cloud-amd64-virtio-mem-la57": (VIRTIO, 0x1_0000_0000, 512),
    "x86_64-7.2.13+deb14-cloud-amd64-virtio-mem-4level": (VIRTIO, 0x1_0000_0000, 512),
}


def guests() -> list[Guest]:
    """Every guest whose page tables are kept."""
    noted = {guest["name"]: guest for guest in NOTED}
    return [
        Guest(name, noted[name], *steps, Span(start, start + size * MiB)) for name, (steps, start, size) in HOT.items()
    ]
