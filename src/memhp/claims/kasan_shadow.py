"""How the claim about KASAN's zero shadow is decided, and what is wrong with its tables."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.check import check_all
from memhp.claims.claim import Finding, VerdictName, over_releases, together
from memhp.claims.fix_witnesses import AT, small_machine
from memhp.explore.cases.actors import pfns
from memhp.hw.memory import Owner, Use
from memhp.linux.choices import Arch
from memhp.linux.config import Config
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.mm.memory_hotplug_add import MHP_MEMMAP_ON_MEMORY, add_memory
from memhp.linux.mm.memory_hotplug_remove import remove_memory
from memhp.linux.mm.page_alloc import alloc_pages
from memhp.linux.profiles import profile
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import KiB

LIVES: tuple[tuple[str, Arch], ...] = (
    ("linux-5.13", "arm64"),
    ("linux-6.12", "arm64"),
    ("linux-6.12", "riscv64"),
    ("linux-7.2", "riscv64"),
)
"""Kernels with KASAN whose memory blocks can go offline again with their struct pages in them."""


def life(config: Config) -> tuple[Kernel, list[set[str]]]:
    """A block that hosts its struct pages comes, goes online, offline and away; then somebody takes a page.

    The machine, and the laws that are broken while it is online, once it is offline, and at the end.
    """
    k = small_machine(config)
    size = k.memory_block_size
    k.hw.plug(pfns(k, Span(AT, AT + size)), Owner(Use.DEVICE, "dimm"))
    add_memory(k, 0, AT, size, MHP_MEMMAP_ON_MEMORY)
    state_store(k, AT // size, "online_movable")
    broken = [_laws(k)]
    state_store(k, AT // size, "offline")
    broken.append(_laws(k))
    remove_memory(k, AT, size)
    alloc_pages(k, 0, 0, owner=Owner(Use.KERNEL, "somebody"), where="mm/page_alloc.c:alloc_pages")
    broken.append(_laws(k))
    return k, broken


def _laws(k: Kernel) -> set[str]:
    return {breach.law for breach in check_all(k)}


def zero_shadow() -> Finding:
    """mom-15: the shadow of a block's own struct pages over its life, and the table that it was in."""
    parts, found = [], dict[str, list[VerdictName]]()
    for kernel, arch in LIVES:
        _, (online, offline, end) = life(configuration(kernel, arch))
        good = not online and offline | end <= {TABLE}
        verdict: VerdictName = "refuted" if not good else "in part" if offline else "reproduced"
        found.setdefault(kernel, []).append(verdict)
        told = f"broken: {', '.join(sorted(offline | end))}" if offline | end else "no law broken"
        parts.append(f"{kernel} {arch}: there while the block is online, {told} once it is not")
    return over_releases("; ".join(parts), {kernel: together(verdicts) for kernel, verdicts in found.items()})


TABLE = "flush-before-free"
"""The law of tables that are given back."""


def shadow_table_kept_by_a_walk(config: Config) -> str:
    """f-23: what is wrong once a block with its own struct pages is offline."""
    _, (_, offline, _) = life(config)
    return "a table of shadow is given back that a walk may still go through" if TABLE in offline else ""


def configuration(kernel: str, arch: Arch) -> Config:
    """A kernel with KASAN that hosts struct pages."""
    return Config(arch, profile(kernel), 4 * KiB, 48, kasan=True, memmap_on_memory="Y").validate()
