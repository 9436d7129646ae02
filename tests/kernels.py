"""Small machines of every architecture, booted: for tests of hot add, online, offline and remove."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any

from memhp.errors import KernelError
from memhp.hw.memory import Owner, Use
from memhp.hw.stepper import Access, EachAlone
from memhp.hw.tlb import Table
from memhp.linux.choices import Arch
from memhp.linux.config import Config
from memhp.linux.drivers.base.memory_devices import walk_memory_blocks
from memhp.linux.drivers.firmware.memmap import firmware_map
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.mmzone import Zone
from memhp.linux.profiles import profile
from memhp.linux.state import Kernel
from memhp.spans import Span, SpanMap, SpanSet
from memhp.units import GiB, KiB, MiB

VA_BITS = {("riscv64", 4): 39, ("arm64", 4): 48, ("arm64", 16): 47, ("arm64", 64): 48, ("x86_64", 4): 48,
           ("loongarch64", 4): 48, ("loongarch64", 16): 47}  # fmt: skip
"""The usual width of addresses by architecture and page size in KiB."""

BOOT_RAM: dict[Arch, Span] = {
    "riscv64": Span(2 * GiB, 3 * GiB),
    "arm64": Span(1 * GiB, 2 * GiB),
    "x86_64": Span(1 * MiB, 1 * GiB),
    "loongarch64": Span(2 * GiB, 4 * GiB),
}
PLUG_AT = 8 * GiB
"""Where these tests plug: above all boot memory."""


def kernel(arch: Arch, release: str = "linux-6.12", *, page_size: int = 4 * KiB, **changes: Any) -> Kernel:
    """A machine with 1 GiB of RAM on node 0; node 1 is possible. `changes` go into its :class:`Config`.

    The first riscv posting runs with five levels: with fewer it does not find what it should remove.
    """
    ram = Ram(BOOT_RAM[arch].start, BOOT_RAM[arch].size)
    usual = 57 if release == "riscv-hotplug-v1" else VA_BITS[arch, page_size // KiB]
    changes.setdefault("va_bits", usual)
    config = Config(arch=arch, profile=profile(release), page_size=page_size, **changes)
    return start_kernel(MachineSpec("small", config, (ram,), nodes=(0, 1)))


def pfns(k: Kernel, start: int, size: int) -> Span:
    """Bytes as PFNs."""
    return Span(start >> k.config.page_shift, (start + size) >> k.config.page_shift)


def plug(k: Kernel, size: int, at: int = PLUG_AT) -> Span:
    """Memory appears, and the kernel does not know it yet: its PFNs."""
    span = pfns(k, at, size)
    k.hw.plug(span, Owner(Use.DEVICE, "dimm"))
    return span


def blocks(k: Kernel, size: int, at: int = PLUG_AT) -> list[int]:
    """The ids of the memory blocks in a range of bytes."""
    return list(walk_memory_blocks(k, at, size))


def base_page_table(k: Kernel, frame: int, number: int = 0) -> Table:
    """A frame as a table of base pages in the vmalloc area, of several there the one of this number."""
    size = k.hw.fmt.levels[1].size
    return Table(frame, 0, k.layout.vmalloc.span.start // size * size + (number + 1) * size)


def log(k: Kernel, *levels: str) -> list[str]:
    """The lines of the kernel log, of some levels only if any are named."""
    return [line.text for line in k.hw.log_lines if not levels or line.level in levels]


def refused(call: Callable[..., object], *args: Any, **named: Any) -> KernelError:
    """The error of a call that the kernel must refuse."""
    try:
        call(*args, **named)
    except KernelError as error:
        return error
    raise AssertionError(f"{call.__name__} succeeded")


def picture(k: Kernel) -> dict[str, Any]:
    """What the kernel and the machine hold, in a form that can be compared: tables by their contents."""
    root = k.init_mm
    return {
        "owners": list(k.hw.memory.owners),
        "tables": [
            (span, [view.tolist() for view in k.hw.memory.arena.views(span)]) for span in k.hw.memory.arena.frames()
        ],
        "root": root,
        "sections": list(k.mem_section),
        "subsections": list(k.subsection_map),
        "page zones": list(k.page_zone),
        "page flags": list(k.page_flags),
        "blocks": list(k.memory_blocks),
        "links": {nid: list(below) for nid, below in k.node_states.devices.items()},
        "node states": [
            set(each) for each in (k.node_states.online, k.node_states.normal_memory, k.node_states.memory)
        ],
        "altmaps": {block: copy(altmap) for block, altmap in k.altmaps.items()},
        "zones": [zone_picture(zone) for zone in k.zones() if zone.nid in k.node_states.online],
        "nodes": [(node.nid, node.start_pfn, node.spanned, node.present) for node in k.nodes.values() if node.spanned],
        "memblock": list(k.memblock.memory),
        "iomem": [(res.start, res.end, res.name, res.flags) for res in k.iomem_resource.children],
        "firmware map": [(entry.start, entry.end, entry.type) for entry in firmware_map(k)],
    }


def settled(seen: dict[str, Any]) -> dict[str, Any]:
    """A picture without what depends on the way there: migrate types of pageblocks, watermarks worked out anew."""
    names = [name for name in seen["zones"][0] if name not in ("migratetypes", "lowmem_reserve")]
    zones = [{name: zone[name] for name in names if not name.startswith("watermark")} for zone in seen["zones"]]
    return {**seen, "zones": zones}


UNSEEN = ("arrivals", "contiguous", "span_seqlock", "_announces_to")
"""What is only remembered to be faster, and whom a zone that is explored tells of its changes."""


def zone_picture(zone: Zone) -> dict[str, Any]:
    """A zone's fields, without what is none of the kernel's."""
    fields = {name: value for name, value in vars(zone).items() if name not in UNSEEN}
    return {
        name: list(value) if isinstance(value, SpanMap | SpanSet) else copy(value) for name, value in fields.items()
    }


class OneByOne(EachAlone):
    """A stepper that lets everything happen, one access at a time, and makes the `failing`-th allocation fail."""

    listens = True

    def __init__(self, failing: int | None = None) -> None:
        self.failing = failing
        self.asked: list[str] = []

    def step(self, access: Access) -> None:
        """Nobody else wants to run."""

    def data(self, name: str, start: int, end: int, *, write: bool) -> None:
        pass

    def fails(self, site: str) -> bool:
        """Whether it is this allocation's turn to fail."""
        self.asked.append(site)
        return len(self.asked) - 1 == self.failing

    def wait(self, ready: Callable[[], bool], why: str, on: str) -> None:
        """Nobody else could end the wait."""
        assert ready(), f"waits for {why}"


@contextmanager
def one_by_one(k: Kernel, failing: int | None = None) -> Iterator[OneByOne]:
    """Run the kernel as under the explorer: every access and every section, block and table for itself."""
    k.hw.stepper = stepper = OneByOne(failing)
    try:
        yield stepper
    finally:
        k.hw.stepper = None
