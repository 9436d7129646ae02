"""Sessions of tools, drawn at random: what they do in a machine by a shell, and outside of it by two monitors of QEMU.

An act is one tool's, or two clients' at once, which then do what neither changes for the other. Names, sizes and words
are often wrong: what is refused, and how, is compared as well. The numbers come from a seed, and what the machine has
from what its QEMU told, so that a session depends on nothing else.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal, Protocol

from memhp.units import GiB, KiB, MiB

SYS = "/sys/devices/system/memory"
NODE = "/sys/devices/system/node"
PARAMETERS = "/sys/module/memory_hotplug/parameters"
EJECT = "/sys/firmware/acpi/hotplug/memory/enabled"
BLOCK = 128 * MiB
BOOT_BLOCKS = 8
"""Memory blocks of the guest's own RAM, 1 GiB."""
REGION = 4 * GiB
"""Where QEMU puts memory devices of a machine with so little RAM."""

Then = tuple[Literal["answered"]] | tuple[Literal["gone"], int] | tuple[Literal["size"], str, int]
"""What an act is over with: ACPI's answer about a DIMM, so many deletions, or a size of a virtio-mem device."""


@dataclass(frozen=True)
class Act:
    """What the shell carries out, and what a monitor (0 or 1) is asked, at the same time if both are told."""

    shell: str = ""
    ask: tuple[str, dict[str, Any]] | None = None
    by: int = 0
    then: Then | None = None


@dataclass
class World:
    """What there is, as QEMU tells it."""

    backends: dict[str, int] = field(default_factory=dict)
    """Bytes by name."""
    devices: dict[str, dict[str, Any]] = field(default_factory=dict)
    """``query-memory-devices`` by name, with ``type``."""

    def learn(self, memory_devices: Iterable[dict[str, Any]], memdevs: Iterable[dict[str, Any]]) -> None:
        """Take note of what QEMU answered."""
        self.devices = {each["data"]["id"]: {**each["data"], "type": each["type"]} for each in memory_devices}
        self.backends = {each["id"]: each["size"] for each in memdevs if each["id"].startswith("m")}

    def of_kind(self, kind: str) -> list[str]:
        """The names of devices of a kind."""
        return sorted(name for name, device in self.devices.items() if device["type"] == kind)

    def blocks(self, kind: str) -> list[int]:
        """The memory blocks that devices of a kind may have."""
        found: list[int] = []
        for name in self.of_kind(kind):
            device = self.devices[name]
            start = device["memaddr" if kind == "virtio-mem" else "addr"]
            found += range(start // BLOCK, (start + device.get("max-size", device["size"])) // BLOCK)
        return found


class Asked(Protocol):
    """Who answers a monitor's requests."""

    def ask(self, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """A reply."""


NAMES = ("m0", "m1", "m2", "m3", "m4")
SIZES = (128 * MiB, 256 * MiB, 384 * MiB, 512 * MiB, GiB)
ODD_SIZES = (0, 1, 4 * KiB, 130 * MiB, 3 * MiB, "1G")
STATES = ("offline", "online_movable", "online_movable", "offline")
WRONG_WORDS = ("on", "", "Offline", "online_", "offline online", "0", "1")
FILES = ("state", "online", "removable", "valid_zones", "phys_index", "phys_device")
ALONE = (
    f"cat {SYS}/block_size_bytes", f"cat {SYS}/auto_online_blocks", f"cat {PARAMETERS}/online_policy",
    f"cat {PARAMETERS}/auto_movable_ratio", f"cat {PARAMETERS}/auto_movable_numa_aware", f"cat {EJECT}",
    f"cat {NODE}/online", f"cat {NODE}/has_memory", f"cat {NODE}/has_normal_memory", f"cat {NODE}/possible",
    f"cd {SYS}; echo memory[0-9]*", f"cd {NODE}/node0; echo memory[0-9]*", "grep 'System RAM' /proc/iomem",
    f"cat {SYS}/hard_offline_page", f"ls {SYS}/memory7", f"readlink {SYS}/memory0/node0",
)  # fmt: skip
"""Commands of readers that are of no one block; some fail."""
QUERIES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("query-memory-devices", {}), ("query-memory-size-summary", {}), ("query-status", {}), ("query-nothing", {}),
    ("query-command-line-options", {"option": "memory"}), ("query-hotpluggable-cpus", {"no": 1}),
    ("query-memory-devices", {"x": 0}), ("qom-get", {"path": "/objects/nobody", "property": "size"}),
    ("query-balloon", {}), ("device_del", {}), ("device_del", {"id": 7}), ("object-del", {"id": "nobody"}),
    ("object-add", {"qom-type": "memory-backend-nothing", "id": "m9", "size": MiB}),
    ("device_add", {"driver": "pc-nothing"}), ("device_add", {"driver": "pc-dimm", "id": "d9", "memdev": "nobody"}),
    ("device_add", {"driver": "pc-dimm", "id": "9d"}), ("device_add", {"driver": "pc-dimm", "id": "d9"}),
    ("device_add", {"driver": "virtio-mem-pci", "id": "v9", "bus": "port0", "nonsense": 1}),
)  # fmt: skip
"""What is asked, or refused, and changes nothing."""


class Drawn:
    """The acts of one session."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.world = World()
        self._kinds: dict[Callable[[], Act | None], int] = {
            self.read: 16, self.alone: 8, self.state: 26, self.several: 8, self.parameter: 6, self.event: 3,
            self.query: 8, self.qom_get: 6, self.object_add: 10, self.object_del: 4, self.dimm: 12, self.virtio_mem: 6,
            self.device_del: 8, self.resize: 14, self.at_once: 12, self.racing_writers: 6,
        }  # fmt: skip

    def learn(self, machine: "Asked") -> None:
        """See what a machine has now."""
        told = (machine.ask(query, {})["return"] for query in ("query-memory-devices", "query-memdev"))
        self.world.learn(*told)

    def act(self) -> Act:
        """What is done next; where there is no device yet, one comes soon."""
        table = dict(self._kinds)
        if not self.world.devices:
            table |= {self.dimm: 40, self.virtio_mem: 30} if self.world.backends else {self.object_add: 40}
        while True:
            drawn = self.random.choices(list(table), list(table.values()))[0]()
            if drawn is not None:
                return drawn

    # In the machine ------------------------------------------------------------------------------------------

    def block(self) -> int:
        """Some block: mostly one of a device, else one of boot memory or one that is not there."""
        here = self.world.blocks("dimm") + self.world.blocks("virtio-mem")
        if here and self.random.random() < 0.85:
            return self.random.choice(here)
        return self.random.choice((0, BOOT_BLOCKS - 1, BOOT_BLOCKS, REGION // BLOCK, REGION // BLOCK + 9, 4000))

    def read(self) -> Act:
        return Act(shell=f"cat {SYS}/memory{self.block()}/{self.random.choice(FILES)}")

    def alone(self) -> Act:
        return Act(shell=self.random.choice(ALONE))

    def _word(self, block: int) -> str:
        """What somebody writes to a block's state: kernel memory only where it is in nobody's way."""
        if self.random.random() < 0.15:
            return self.random.choice(WRONG_WORDS)
        if block in self.world.blocks("dimm") and self.random.random() < 0.15:
            return self.random.choice(("online", "online_kernel"))
        return self.random.choice(STATES)

    def _write(self, block: int) -> str:
        word = self._word(block)
        if block < BOOT_BLOCKS and word == "offline" and self.random.random() < 0.7:
            word = "online_movable"
        if self.random.random() < 0.1:
            return f"echo {self.random.choice('012')} > {SYS}/memory{block}/online"
        return f"echo {word} > {SYS}/memory{block}/state"

    def state(self) -> Act:
        return Act(shell=self._write(self.block()))

    def several(self) -> Act | None:
        here = self.world.blocks("dimm") + self.world.blocks("virtio-mem")
        if not here:
            return None
        first, word = self.random.choice(here), self.random.choice(STATES)
        blocks = " ".join(str(first + place) for place in range(1 + self.random.randrange(4)))
        return Act(shell=f"for b in {blocks}; do echo {word} > {SYS}/memory$b/state; cat {SYS}/memory$b/state; done")

    def parameter(self) -> Act:
        path, words = self.random.choice((
            (f"{SYS}/auto_online_blocks", ("offline", "online_movable", "online_movable", "nothing", "1")),
            (f"{PARAMETERS}/auto_movable_ratio", ("0", "100", "301", "-1", "x", "4294967296")),
            (f"{PARAMETERS}/auto_movable_numa_aware", ("0", "1", "Y", "n", "2")),
            (f"{PARAMETERS}/online_policy", ("contig-zones", "auto-movable", "auto")),
            (EJECT, ("0", "1", "1", "1", "2", "yes")),
            (f"{SYS}/block_size_bytes", ("1",)),
            (f"{SYS}/hard_offline_page", ("nonsense",)),
        ))  # fmt: skip
        return Act(shell=f"echo {self.random.choice(words)} > {path}; cat {path}")

    def event(self) -> Act:
        return Act(shell=f"echo {self.random.choice(('change', 'add', 'nothing'))} > {SYS}/memory{self.block()}/uevent")

    def racing_writers(self) -> Act | None:
        """Two processes write to two blocks at the same time."""
        here = self.world.blocks("dimm")
        if len(here) < 2:
            return None
        blocks = self.random.sample(here, 2)
        acts = [f"echo {self.random.choice(STATES)} > {SYS}/memory{block}/state" for block in blocks]
        begun = " ".join(f"{{ {act}; echo $?; }} > $d/{place} 2>&1 &" for place, act in enumerate(acts))
        return Act(shell=f"d=$(mktemp -d); {begun} wait; cat $d/0 $d/1; rm -r $d")

    # Outside -------------------------------------------------------------------------------------------------

    def _by(self) -> int:
        return self.random.randrange(2)

    def query(self) -> Act:
        return Act(ask=self.random.choice(QUERIES), by=self._by())

    def qom_get(self) -> Act:
        name = self.random.choice((*NAMES, *self.world.devices, "nobody"))
        known = ("size", "node", "memdev", "addr", "slot", "hotplugged", "requested-size", "block-size", "memaddr", "x")
        arguments = {"path": name, "property": self.random.choice(known)}
        return Act(ask=("qom-get", arguments), by=self._by())

    def object_add(self) -> Act:
        size: object = self.random.choice(SIZES if self.random.random() < 0.85 else ODD_SIZES)
        arguments = {"qom-type": "memory-backend-ram", "id": self.random.choice(NAMES), "size": size}
        if self.random.random() < 0.1:
            arguments |= self.random.choice(({"size": None}, {"share": "yes"}, {"id": "-m"}, {"colour": 1}))
        told = {key: value for key, value in arguments.items() if value is not None}
        return Act(ask=("object-add", told), by=self._by())

    def object_del(self) -> Act:
        return Act(ask=("object-del", {"id": self.random.choice(NAMES)}), by=self._by())

    def dimm(self) -> Act | None:
        if not self.world.backends:
            return None
        arguments: dict[str, Any] = {
            "driver": "pc-dimm",
            "id": self.random.choice(("d0", "d1", "d2", "d3")),
            "memdev": self.random.choice(sorted(self.world.backends)),
        }
        for key, values in {
            "addr": (REGION, REGION + 8 * BLOCK, REGION + 16 * BLOCK, REGION + 4 * KiB, BLOCK, 0),
            "slot": (0, 1, 2, 15, 16, -1, -2),
            "node": (0, 0, 1, 7),
        }.items():
            if self.random.random() < 0.15:
                arguments[key] = self.random.choice(values)
        return Act(ask=("device_add", arguments), by=self._by(), then=("answered",))

    def virtio_mem(self) -> Act | None:
        name = self.random.choice(("vm0", "vm1"))
        if not self.world.backends:
            return None
        memdev = self.random.choice(sorted(self.world.backends))
        size = self.world.backends[memdev]
        bad = self.random.random() < 0.2
        requested = 3 if bad else 2 * MiB * self.random.randint(1, max(1, size // (2 * MiB)))
        bus = {"vm0": "port0", "vm1": "port1"}[name]
        arguments = {
            "driver": "virtio-mem-pci", "id": name, "memdev": memdev, "requested-size": requested, "bus": bus,
        }  # fmt: skip
        if name in self.world.devices and not bad:
            return None
        return Act(ask=("device_add", arguments), by=self._by(), then=("size", name, requested))

    def device_del(self) -> Act | None:
        names = sorted(self.world.devices)
        name = self.random.choice((*names, *names, "d9"))
        kind = self.world.devices.get(name, {}).get("type")
        then: Then = ("gone", 2) if kind == "virtio-mem" else ("answered",)
        return Act(ask=("device_del", {"id": name}), by=self._by(), then=then)

    def resize(self) -> Act | None:
        names = self.world.of_kind("virtio-mem")
        if not names:
            return None
        name = self.random.choice(names)
        most = self.world.devices[name]["max-size"]
        size = self.random.choice((0, most, 2 * MiB * self.random.randint(0, most // (2 * MiB))))
        wrong = self.random.random() < 0.12
        value: object = self.random.choice((5, most + 2 * MiB, -2, "1G", True)) if wrong else size
        then: Then | None = None if wrong or size == self.world.devices[name]["size"] else ("size", name, size)
        arguments = {"path": name, "property": "requested-size", "value": value}
        return Act(ask=("qom-set", arguments), by=self._by(), then=then)

    def at_once(self) -> Act:
        """Somebody in the machine and somebody outside, neither of whom changes what the other sees."""
        inside = self.random.choice((self.read, self.alone, self.state, self.several))() or self.read()
        outside = self.random.choice((self.query, self.qom_get, self.object_add, self.object_del))()
        return Act(shell=inside.shell, ask=outside.ask, by=outside.by)
