"""Kernels, and changes of all that they lead to: for tests of what copies them and puts them back."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable

from memhp.explore.case import Configuration, Variant
from memhp.explore.cases.actors import boot, dimm, hot_add, hot_remove
from memhp.hw.memory import Owner, Use
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.mm.page_alloc import alloc_pages
from memhp.linux.state import Kernel
from memhp.units import KiB

ANYBODY = Owner(Use.KERNEL, "anybody")
CONFIGURATIONS = (Configuration("riscv64", 4 * KiB, 39), Configuration("arm64", 16 * KiB, 47))


def booted(where: Configuration) -> Kernel:
    """A machine with a DIMM."""
    k = boot(Variant("as it is", "", "repaired", (where,)).config(where))
    hot_add(k)
    return k


CHANGES: dict[str, Callable[[Kernel], object]] = {
    "a memory block online": lambda k: state_store(k, dimm(k).start // k.memory_block_size, "online"),
    "memory taken away": hot_remove,
    "an allocation": lambda k: alloc_pages(k, 0, 0, owner=ANYBODY, where="mm/page_alloc.c:alloc_pages"),
    "a page-table entry": lambda k: k.hw.store(k.init_mm, 0, 2),
    "a lock": lambda k: k.hw.lock("a_lock"),
    "a resource": lambda k: setattr(k.iomem_resource.children[0], "name", "another"),
}
