"""/sys/module/memory_hotplug/parameters: how the kernel was told to hotplug (``mm/memory_hotplug.c``)."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass, fields

from memhp.facts.source import Source

DIRECTORY = "/sys/module/memory_hotplug/parameters"

MEMMAP_ON_MEMORY = ("N", "Y", "force")
ONLINE_POLICIES = ("contig-zones", "auto-movable")


@dataclass(frozen=True)
class HotplugParams:
    """The module's parameters; None where the kernel has no such parameter.

    `memmap_on_memory` is ``N``, ``Y`` or ``force``; `auto_movable_ratio` is percent of MOVABLE to KERNEL memory.
    """

    memmap_on_memory: str | None = None
    online_policy: str | None = None
    auto_movable_ratio: int | None = None
    auto_movable_numa_aware: bool | None = None

    def files(self) -> dict[str, str]:
        """The parameter files by name, with the text that the kernel shows."""
        shown: dict[str, str] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None:
                shown[field.name] = f"{'NY'[value] if isinstance(value, bool) else value}\n"
        return shown


def read(source: Source) -> HotplugParams:
    """The parameters of a machine. Raises :class:`BadInput` naming the file whose value no kernel shows."""
    numa_aware = source.choice(f"{DIRECTORY}/auto_movable_numa_aware", ("Y", "N"))
    return HotplugParams(
        memmap_on_memory=source.choice(f"{DIRECTORY}/memmap_on_memory", MEMMAP_ON_MEMORY),
        online_policy=source.choice(f"{DIRECTORY}/online_policy", ONLINE_POLICIES),
        auto_movable_ratio=source.number(f"{DIRECTORY}/auto_movable_ratio"),
        auto_movable_numa_aware=None if numa_aware is None else numa_aware == "Y",
    )
