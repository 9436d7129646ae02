"""What helps against each of the kernel's reasons, the cheapest first, and what would show more."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable, Sequence

BY_REASON: dict[str, tuple[str, ...]] = {
    "several zones": ("take another block: one that spans several zones never goes offline",),
    "memory holes": ("take another block: one with holes never goes offline",),
    "multizone range": ("take another block: one that spans several zones never goes offline",),
    "failure to isolate range": (
        "drop what the kernel can give back and try again: echo 2 > /proc/sys/vm/drop_caches",
        "end what holds kernel memory there: unload drivers, close files and sockets, stop guests",
        "plug the memory anew and online it as online_movable, or boot with movable_node: no such page comes there",
    ),
    "unmovable page": (
        "deflate the balloon, or let the virtio-mem device unplug the memory itself",
        "end what pins pages: RDMA, VFIO, io_uring with registered buffers",
    ),
    "signal backoff": (
        "write again, and give it longer: a page that was in use for a moment is free by then",
        "end what pins pages: direct input and output that does not end, RDMA, VFIO",
    ),
    "failure to dissolve huge pages": (
        "give huge pages back: lower /sys/kernel/mm/hugepages/hugepages-*/nr_hugepages",
        "let the pool grow for the move: raise nr_overcommit_hugepages",
        "end what has reserved huge pages (HugePages_Rsvd in /proc/meminfo)",
    ),
    "notifier failure": (
        "take another block, which neither a driver nor the architecture holds (some never let boot memory go)",
        "have the driver that brought the memory take it away: unbind it, or ask the device",
    ),
    "node notifier failure": ("leave the node one block: a driver refuses to let it become empty",),
}
"""What to do by the kernel's reason (``mm/memory_hotplug.c:offline_pages``)."""

NEED = {
    "pages": "what pages are: /proc/kpageflags is for root",
    "owners": "who holds pages that do not move: root sees it if the kernel has CONFIG_PAGE_OWNER and was booted with "
    "page_owner=on; drgn if it has debug information, and /proc/kcore or --memory to look into",
    "iomem": "holes and who added memory: /proc/iomem shows addresses to root",
    "pins": "pages pinned by direct input and output, RDMA or VFIO: root sees them in /proc/kcore, --memory FILE in "
    "a dump or a VM's RAM",
    "log": "the kernel's own reason for an earlier refusal: /dev/kmsg is for root",
    "debug": "the kernel's own reason for a refusal: it is printed once this was written as root, before trying: "
    "echo 'file memory_hotplug.c +p' > /sys/kernel/debug/dynamic_debug/control",
}
"""What is not seen, and what would show it."""


OF_STRUCT_PAGES = "take away first the memory whose struct pages lie there: they go when it is removed"


def remedies(reasons: Iterable[str], movable: Sequence[int], *, struct_pages: bool = False) -> list[str]:
    """What to do against some reasons, the cheapest first.

    `movable` are other blocks, which are in ZONE_MOVABLE; `struct_pages`: those of other memory stand in the way.
    """
    known = [reason for reason in reasons if reason in BY_REASON]
    if not known:
        return []
    other = [f"take a block of ZONE_MOVABLE instead, such as {movable[-1]}"] if movable else []
    found = [*other, *(text for reason in known for text in BY_REASON[reason])]
    return list(dict.fromkeys([*found, OF_STRUCT_PAGES] if struct_pages else found))
