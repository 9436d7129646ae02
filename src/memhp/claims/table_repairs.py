"""The repairs of the findings: choices, machines and steps, by the finding's id."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from memhp.claims.repair import Repair

ADD_AND_REMOVE = ({"do": "plug", "size": "1G", "at": "16G"}, {"do": "remove"})
HIGHER_FIRST = ({"do": "plug", "size": "1G", "at": "16G"}, {"do": "plug", "size": "1G", "at": "8G"})
ONLINE_AND_REMOVE = ({"do": "plug", "size": "1G", "at": "4G", "online": "movable"}, {"do": "offline"}, {"do": "remove"})
OUT_OF_MEMORY = ({"do": "plug", "size": "16G", "expect": "ENOMEM"},)
BAD_PAGE_OF_DMA = (
    {"do": "plug", "size": "128M", "at": "4G", "online": "kernel"},
    {"do": "allocate", "kind": "pinned", "size": "64K", "at": "4G", "tag": "dma"},
    *({"do": "poison", "at": f"{0x100000 + page:#x}000", "expect": "EBUSY"} for page in range(16)),
    {"do": "offline", "at": "4G", "expect": "EBUSY"},
)
STAYS = (
    {"do": "plug", "size": "512M", "at": "4G"},
    {"do": "online", "zone": "movable", "at": "0x108000000", "size": "384M"},
    {"do": "online", "zone": "kernel", "at": "4G", "size": "128M"},
    {"do": "allocate", "kind": "kernel", "size": "4K", "at": "4G", "tag": "slab"},
    {"do": "eject", "expect": "EBUSY"},
)
SHRINKS = (
    {"do": "virtio-mem", "size": "2G", "requested": "2G", "big_blocks": True},
    {"do": "online", "zone": "movable"},
    {"do": "resize", "to": "1G"},
)
GROWS = (
    {"do": "virtio-mem", "size": "2G", "requested": "256M"},
    {"do": "online", "zone": "movable"},
    {"do": "resize", "to": "1G"},
)
BINDS_AND_UNBINDS = ({"do": "dax", "at": "8G", "size": "1G", "mode": "devdax"}, {"do": "dax", "mode": "none"})
BACKED_BY_HALVES = (
    {"do": "hv-add", "size": "64M"},
    {"do": "online", "zone": "movable"},
    {"do": "hv-add", "size": "64M"},
)
POISONS = ({"do": "plug", "size": "256M", "at": "4G", "online": "movable"}, {"do": "poison", "at": "4G"})
EMPTY_DEVICE_UNBOUND = (
    {"do": "plug", "size": "128M", "at": "4G"},
    {"do": "virtio-mem", "size": "1G"},
    {"do": "online"},
    {"do": "unbind"},
)
BOOT_BLOCK = ({"do": "offline", "blocks": [20]}, {"do": "online", "blocks": [20]})
TWO_ADDS_ONE_REMOVAL = (
    *({"do": "plug", "size": "128M", "at": at, "driver": "kmem"} for at in ("0xc0000000", "0xc8000000")),
    {"do": "remove", "at": "0xc0000000", "size": "256M"},
    {"do": "plug", "size": "128M", "at": "0xc0000000", "driver": "kmem"},
)
NOT_BOUND = (
    {"do": "set", "parameter": "auto_online_blocks", "to": "online_movable"},
    {"do": "plug", "size": "256M", "fault": {"allocation": "acpi_bind_one", "nth": 2}, "expect": "ENODEV"},
    {"do": "eject"},
)
MUCH_FOR_THE_KERNEL = ({"do": "allocate", "kind": "kernel", "size": "4G"},)
LOONGARCH_LEAF = ({"do": "plug", "size": "512M", "at": "16G"}, {"do": "remove"})

ALONE = "no race: one CPU meets it alone, whatever others do meanwhile"
WINDOW = "no race to search: the window is seen when the frame is freed, whoever runs in it"
BOOTS = "no race: it is settled at boot, whichever thread comes first"
RANGE = "no race: the notifier's answer depends on the range alone"

BOOT_MEMORY_ONLY = {"bootmem_remove": "notifier"}
RISCV = {"preset": "riscv-vm", "memory": "1G", "profile": "linux-7.2"}
X86 = {"preset": "x86-vm", "memory": "2G", "profile": "linux-7.2"}
ARM64 = {"preset": "arm64-vm", "memory": "2G", "profile": "linux-7.2"}
AUTO_MOVABLE = {**X86, "boot": {"online_policy": "auto-movable"}}
HOSTED = {"boot": {"memmap_on_memory": "Y"}}
V5 = {"arch": "arm64", "page_size": "4K", "va_bits": 48, "memory": "4G", "profile": "arm64-hotremove-v5"}
LOONGARCH = {"arch": "loongarch64", "page_size": "16K", "va_bits": 47, "memory": "4G", "profile": "linux-7.2"}
MIRRORED = {
    "preset": "arm64-vm",
    "profile": "linux-7.2",
    "memory": [
        {"start": "1G", "size": "4G", "mirrored": True}, {"size": "1G"},
        {"size": "512M", "mirrored": True}, {"size": "512M"},
    ],
    "boot": {"kernelcore": "mirror"},
}  # fmt: skip
BIG_PAGES = {"arch": "arm64", "page_size": "64K", "va_bits": 42, "memory": "2G", "profile": "linux-7.2"}
LIVE_LEAVES = {**ARM64, "page_size": "16K", "cpu": {"bbml2": True}}


def _repair(
    machine: Mapping[str, Any], steps: tuple[Mapping[str, Any], ...], no_race: str = "", **choices: Any
) -> Repair:
    return Repair(machine, choices, steps, no_race)


REPAIRS: Mapping[str, Repair] = MappingProxyType({
    "f-1": _repair(
        {"preset": "riscv-vm-sv39", "memory": "1G", "profile": "linux-6.12.102"}, ADD_AND_REMOVE, ALONE,
        folded_levels="skipped",
    ),
    "f-2": _repair(V5, ADD_AND_REMOVE, WINDOW, leaf_flush="each-page-of-vmemmap"),
    "f-3": _repair(RISCV, ONLINE_AND_REMOVE, storage_freed="after-flush", table_freed="after-flush"),
    "f-4": _repair(
        {**X86, "memory": "256M"}, OUT_OF_MEMORY, failed_add="taken-back", low_page_failure="returned",
    ),
    "f-5": _repair({**ARM64, **HOSTED}, ONLINE_AND_REMOVE, RANGE, can_unmap_range="block"),
    "f-6": _repair(
        X86, BAD_PAGE_OF_DMA, "no race: the page is in use all along, before, while and after its block goes offline",
        poisoned_offline="unless-held",
    ),
    "f-7": _repair(X86, STAYS, ALONE, eject_undo="zone-before"),
    "f-8": _repair(X86, ONLINE_AND_REMOVE, pfn_walk_lock="mem_hotplug_lock"),
    "f-9": _repair(BIG_PAGES, SHRINKS, virtio_mem_zone_lock="hotplug-mutex"),
    "f-10": _repair(RISCV, BINDS_AND_UNBINDS, pgmap_ref="each-page"),
    "f-11": _repair(X86, POISONS, poison_lookup="device_hotplug_lock"),
    "f-12": _repair({**ARM64, "profile": "linux-6.12"}, ONLINE_AND_REMOVE, shared_table="at-boot"),
    "f-13": _repair(LIVE_LEAVES, ONLINE_AND_REMOVE, can_unmap_lock="pgtable_split_lock"),
    "f-14": _repair(RISCV, BOOT_BLOCK, bootmem_offline="refused"),
    "f-15": _repair({**ARM64, "cpu": {"bbml2": True}}, ONLINE_AND_REMOVE, RANGE, **BOOT_MEMORY_ONLY),
    "f-16": _repair(LOONGARCH, LOONGARCH_LEAF, ALONE, vmemmap_free="unused"),
    "f-17": _repair({**X86, "cpu": {"tce": True}}, ONLINE_AND_REMOVE, WINDOW, pud_free_flush="range"),
    "f-18": _repair(ARM64, ADD_AND_REMOVE, ALONE, table_dtor="constructed"),
    "f-19": _repair(X86, ONLINE_AND_REMOVE, ALONE, resource_split="children-move-after"),
    "f-20": _repair(X86, ONLINE_AND_REMOVE, ALONE, cancel_heard="by-those-asked"),
    "f-21": _repair(RISCV, HIGHER_FIRST, ALONE, max_pfn="highest"),
    "f-22": _repair({**RISCV, "profile": "linux-6.12"}, ADD_AND_REMOVE, ALONE, layout="7.1"),
    "f-23": _repair({**RISCV, **HOSTED}, ONLINE_AND_REMOVE, WINDOW, kasan_table_freed="after-flush"),
    "f-24": _repair({**RISCV, **HOSTED}, TWO_ADDS_ONE_REMOVAL, ALONE, ram_released="each-resource"),
    "f-25": _repair(X86, NOT_BOUND, ALONE, unbound_memory="taken-out"),
    "f-26": _repair(MIRRORED, MUCH_FOR_THE_KERNEL, BOOTS, deferred_pages="at-boot"),
    "f-27": _repair(X86, ONLINE_AND_REMOVE, online_page_usage="rcu"),
    "f-28": _repair(X86, GROWS, virtio_mem_count_lock="hotplug-mutex"),
    "f-29": _repair(X86, ONLINE_AND_REMOVE, span_lock="span_seqlock"),
    "f-30": _repair(X86, BINDS_AND_UNBINDS, p2pdma_pgmap_freed="after-pool"),
    "f-31": _repair(X86, ONLINE_AND_REMOVE, first_zone="allowed"),
    "f-32": _repair(X86, BACKED_BY_HALVES, hv_backed_meanwhile="notifier"),
    "f-33": _repair(AUTO_MOVABLE, EMPTY_DEVICE_UNBOUND, memory_group_freed="after-grace-period"),
})  # fmt: skip
"""By finding."""
