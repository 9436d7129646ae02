"""How much changed between two moments of a captured machine, where tasks left both with amounts that nobody knows.

Free memory, with the per-CPU lists, and the direct map of x86 by sizes of leaves, which boot splits in other places
than the model.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable, Sequence
from itertools import pairwise

from memhp.conform.compare import Comparison
from memhp.conform.rules import Context
from memhp.facts import iomem
from memhp.facts.hotplug import changes
from memhp.facts.observed import Facts
from memhp.facts.usage import free_pages
from memhp.facts.virtio_mem import virtio_mem_devices
from memhp.units import KiB, MiB

FREE_WITHIN = 44 * MiB // 10
"""What tasks and caches of captured machines took or gave back from one moment to the next, at most."""
FREE = "change of free memory, within 4.4 MiB"
LEAVES = ("DirectMap4k", "DirectMap2M", "DirectMap1G")

OUT_OF_MEMORY = "vmemmap alloc failure: "
"""``mm/sparse-vmemmap.c:vmemmap_alloc_block``."""
ADD_FAILED = ("add_memory failed", "failed with error -12", "add fail")
"""``acpi_memory_enable_device()``, the driver core's ``call_driver_probe()``, ``dev_dax_kmem_probe()``."""
OOPS = "Oops: "


def changed(before: Facts, after: Facts) -> dict[str, int]:
    """Bytes by which memory changed; files that somebody keeps in memory count as free."""
    page = after.page_size or 4 * KiB
    now, then = (
        sum(map(free_pages, each.zones)) * page + each.meminfo.get("Shmem", 0) * KiB for each in (after, before)
    )
    told = {name: (after.meminfo[name] - before.meminfo[name]) * KiB for name in LEAVES if name in after.meminfo}
    return {"free": now - then, **told}


def compare_changes(
    found: Comparison, step: str, real: tuple[Facts, Facts], mine: tuple[Facts, Facts], last: Facts, context: Context
) -> None:
    """Compare what changed from one moment to the next; `last` is the capture's last, which has the whole log."""
    told, foretold = changed(*real), changed(*mine)
    off = told["free"] - foretold["free"]
    found.add(step, FREE, 0, 0 if abs(off) <= FREE_WITHIN else -off, context)
    if "DirectMap4k" in told and splits_leaves(*real, last):
        foretold = with_split(told, foretold)
    for name in LEAVES:
        if name in told:
            found.add(step, f"change of {name}, bytes", told[name], foretold.get(name, 0), context)


def splits_leaves(before: Facts, after: Facts, last: Facts) -> bool:
    """Whether kmem's module was loaded or pages poisoned, which splits 2 MiB leaves (``set_memory_ro()`` and kin)."""
    kmem = [{ram.name for ram in iomem.system_ram(each.iomem)} for each in (before, after)]
    poisoned = any("Memory failure: " in text for text in _lines(last))
    return poisoned or "System RAM (kmem)" in kmem[1] - kmem[0]


def with_split(told: dict[str, int], foretold: dict[str, int]) -> dict[str, int]:
    """What was foretold, with as many whole 2 MiB leaves split besides as were."""
    size = max(told["DirectMap4k"] - foretold["DirectMap4k"], 0) // (2 * MiB) * (2 * MiB)
    split = {"DirectMap4k": foretold["DirectMap4k"] + size, "DirectMap2M": foretold["DirectMap2M"] - size}
    return {**foretold, **split}


def partly_unplugged(observed: Facts) -> bool:
    """Whether sub-blocks are missing of a virtio-mem device whose requested size nothing tells."""
    untold = any(device.added and not device.told for device in virtio_mem_devices(observed))
    return untold and any(zone.present > zone.managed for zone in observed.zones if zone.name in ("Normal", "Movable"))


def an_add_failed(observed: Facts) -> bool:
    """Whether memory was added since boot that could not be, of which the facts of no moment tell."""
    return died(observed) or any(words in text for text in _lines(observed) for words in ADD_FAILED)


def ran_out_of_memory(observed: Facts) -> bool:
    """Whether such an add left struct pages behind."""
    lines = _lines(observed)
    return any(OUT_OF_MEMORY in text for text in lines) and any(words in text for text in lines for words in ADD_FAILED)


def died(observed: Facts) -> bool:
    """Whether the kernel oopsed."""
    return any(text.startswith(OOPS) for text in _lines(observed))


def untold_adds(moments: Sequence[Facts]) -> bool:
    """Whether the log has adds that no two moments tell of: those that failed, and those that were undone between."""
    came = sum(text.endswith("Memory device configured by ACPI") for text in _lines(moments[-1]))
    shown = sum(each.kind == "add" for pair in pairwise(moments) for each in changes(*pair))
    return came > shown or an_add_failed(moments[-1])


def _lines(observed: Facts) -> Iterable[str]:
    return [line.text for line in observed.log.lines] if observed.log is not None else []
