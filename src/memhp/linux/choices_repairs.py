"""The choices by which what docs/findings.md lists as broken would be repaired: no kernel has made them yet.

Each begins with what every kernel does. The other value is what a patch would have to do, so that a rehearsal or a race
can say whether it is enough, and what it costs (`memhp claims f-4`).
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass
from typing import Literal

from memhp.linux.choice import Choices, choice
from memhp.linux.release import first

FailedAdd = Literal["stays", "taken-back"]
PoisonedOffline = Literal["passed-over", "unless-held"]
EjectUndo = Literal["any-zone", "zone-before"]
BootmemOffline = Literal["as-port", "refused"]
PoisonLookup = Literal["unlocked", "device_hotplug_lock"]
CancelHeard = Literal["by-all", "by-those-asked"]
KasanTable = Literal["unflushed", "after-flush"]
RamReleased = Literal["as-one", "each-resource"]
UnboundMemory = Literal["stays", "taken-out"]
AddedBlockCount = Literal["unlocked", "hotplug-mutex"]
BigBlockZone = Literal["unlocked", "hotplug-mutex"]
FirstZone = Literal["any", "allowed"]
BackedMeanwhile = Literal["left", "notifier"]
PoolMapping = Literal["before-pool", "after-pool"]
OnlinePageUsage = Literal["unlocked", "rcu"]
MemoryGroupFreed = Literal["at-once", "after-grace-period"]


@dataclass(frozen=True, kw_only=True)
class RepairChoices(Choices):
    """What findings would be repaired by, in generic code."""

    failed_add: FailedAdd = choice(
        "What becomes of the sections that ``__add_pages()`` added before the one that failed, and of the direct map "
        "that x86 had made by then: they stay, or are taken back.",
        first("stays"),
    )
    poisoned_offline: PoisonedOffline = choice(
        "Whether ``has_unmovable_pages()`` and ``test_pages_isolated()`` pass over a poisoned page that somebody holds "
        "when memory is to go offline.",
        first("passed-over"),
    )
    eject_undo: EjectUndo = choice(
        "Where the blocks of a DIMM that could not be ejected come back (``acpi_bus_online()``): where plain "
        "``online`` puts them, or in the zone that each was in.",
        first("any-zone"),
    )
    bootmem_offline: BootmemOffline = choice(
        "Whether boot memory may go offline where the port has nothing against it: it may on riscv64, x86-64 and "
        "LoongArch, or a notifier refuses it as that of arm64 does.",
        first("as-port"),
    )
    poison_lookup: PoisonLookup = choice(
        "What ``memblk_nr_poison_inc()`` holds while it looks a memory block up and counts.",
        first("unlocked"),
    )
    cancel_heard: CancelHeard = choice(
        "Who on the memory chain hears that a plan is cancelled which the node chain refused: all, though nobody there "
        "was asked, or nobody.",
        first("by-all"),
    )
    kasan_table_freed: KasanTable = choice(
        "When ``kasan_remove_zero_shadow()`` gives back a table of shadow that has become empty: before its entry is "
        "cleared, and nobody flushes; or behind a flush of all that it translated.",
        first("unflushed"),
    )
    ram_released: RamReleased = choice(
        "How ``try_remove_memory()`` gives back System RAM: as one range, which must lie in one resource, or each "
        "resource in it.",
        first("as-one"),
    )
    unbound_memory: UnboundMemory = choice(
        "What becomes of a DIMM's memory when its blocks cannot be bound to the device "
        "(``acpi_memory_enable_device()``): it stays, without a driver, or is taken offline and removed.",
        first("stays"),
    )
    virtio_mem_zone_lock: BigBlockZone = choice(
        "What the virtio-mem driver holds while it looks at the zones of a big block that it may unplug "
        "(``virtio_mem_bbm_bb_is_movable()``).",
        first("unlocked"),
    )
    online_page_usage: OnlinePageUsage = choice(
        "What ``pfn_to_online_page()`` holds from where it asks whether the section is online until it has looked at "
        "its usage map.",
        first("unlocked"),
    )
    virtio_mem_count_lock: AddedBlockCount = choice(
        "What the virtio-mem driver holds while it changes the state of a memory block that it is about to add, and "
        "counters (``virtio_mem_sbm_plug_and_add_mb()``).",
        first("unlocked"),
    )
    p2pdma_pgmap_freed: PoolMapping = choice(
        "When the structure with the mapping of a BAR is freed whose pages a pool of peer-to-peer memory hands out: "
        "before ``pci_p2pdma_release()`` takes the pool away and waits for who is at it, or after that.",
        first("before-pool"),
    )
    first_zone: FirstZone = choice(
        "Whether an allocation takes the zone of the entry that it begins with, whatever stands there once the "
        "zonelist was built anew, or looks on from there for one that it may use (``get_page_from_freelist()``).",
        first("any"),
    )
    hv_backed_meanwhile: BackedMeanwhile = choice(
        "Who gives pages to the buddy that Hyper-V's host backs after ``hv_online_page()`` was asked about them and "
        "before their sections are marked as online: nobody, or the driver's notifier once the block is online.",
        first("left"),
    )
    memory_group_freed: MemoryGroupFreed = choice(
        "When ``memory_group_unregister()`` frees a group: at once, whoever is at it in "
        "``walk_dynamic_memory_groups()``; or after a grace period, which that walk, within RCU, holds up.",
        first("at-once"),
    )
