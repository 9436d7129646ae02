"""``/sys/devices/system/memory``: ``drivers/base/memory.c``. Here is what its files say.

Blocks as devices are in `memory_devices`, their state machine in `memory_state`, memory groups in `memory_groups`.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from errno import EINVAL

from memhp.errors import KernelError
from memhp.linux.config import OnlineType
from memhp.linux.drivers.base.memory_devices import block_pfns
from memhp.linux.drivers.base.memory_state import memory_block, memory_group_of, mhp_online_type_from_str
from memhp.linux.lib.kstrtox import kstrtoull
from memhp.linux.mm.memory_failure import memory_failure
from memhp.linux.mm.memory_hotplug_zone import test_pages_in_a_zone, zone_for_pfn_range
from memhp.linux.mm.soft_offline import soft_offline_page
from memhp.linux.place import here
from memhp.linux.state import Kernel

KERNEL_FILE = "drivers/base/memory.c"


def auto_online_blocks_store(k: Kernel, text: str) -> None:
    """Write to ``auto_online_blocks``. Raises EINVAL."""
    online_type = mhp_online_type_from_str(text.removesuffix("\n"))
    if online_type is None:
        raise KernelError(EINVAL, f"{text!r} is no online type", place=here())
    k.auto_online_blocks = online_type


def hard_offline_page_store(k: Kernel, text: str) -> None:
    """Write an address to ``hard_offline_page``: its page goes bad. Raises EINVAL, and what memory_failure() raises."""
    memory_failure(k, _pfn(k, text, here()))


def soft_offline_page_store(k: Kernel, text: str) -> None:
    """Write an address to ``soft_offline_page``: its page is emptied. Raises EINVAL, and what soft_offline_page()
    raises.
    """
    soft_offline_page(k, _pfn(k, text, here()))


def _pfn(k: Kernel, text: str, place: str) -> int:
    try:
        return kstrtoull(text) >> k.config.page_shift
    except KernelError as error:
        raise KernelError(EINVAL, error.reason, place=place) from None


def crash_hotplug(k: Kernel) -> int | None:
    """What ``crash_hotplug`` says: whether the kernel itself tells a crash kernel of changed memory, of which none is
    loaded. None where there is no such file. drivers/base/memory.c:crash_hotplug_show.
    """
    return 0 if k.port.has_crash_hotplug and k.config.profile.crash_hotplug else None


def valid_zones(k: Kernel, block_id: int) -> str:
    """What ``valid_zones`` says: of an online block its zone, ``none`` for several; else those that it could go to.

    The first of these is where plain ``online`` puts it now. drivers/base/memory.c:valid_zones_show.
    """
    block = memory_block(k, block_id)
    if block.state == "online" and k.config.profile.block_zone == "looked-up":
        zone = test_pages_in_a_zone(k, *block_pfns(k, block_id))
        return zone.name if zone is not None else "none"
    if block.state == "online":
        return block.zone.title if block.zone is not None else "none"
    assert block.nid is not None
    pfns = block_pfns(k, block_id)
    names: list[str] = []
    kinds: tuple[OnlineType, ...] = ("online", "online_kernel", "online_movable")
    for kind in kinds:
        zone = zone_for_pfn_range(k, kind, block.nid, memory_group_of(k, block), pfns.start, pfns.size)
        if not names or zone.name != names[0]:
            names.append(zone.name)
    return " ".join(names)
