"""How the claims about altmaps for base pages, and about the two drafts of March 2020, are decided."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace
from typing import Any, Literal

from memhp.check import check_all
from memhp.claims import evidence
from memhp.claims.claim import Finding, VerdictName, judged, on, over_releases, settled, together
from memhp.errors import KernelError
from memhp.explore.cases.actors import pfns
from memhp.hw.devices.pmem import plug_pmem
from memhp.hw.memory import Use
from memhp.linux.drivers.nvdimm.pfn_devs import nd_pfn_init, nvdimm_setup_pfn
from memhp.linux.mm.altmap import VmemAltmap
from memhp.linux.mm.dev_pagemap import DevPagemap
from memhp.linux.mm.memremap import memremap_pages, memunmap_pages
from memhp.linux.profiles import MAINLINE
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, format_size

AT = 0x100000000
LARGE_PAGES = {"16K": 47, "64K": 48}
"""Page sizes of arm64 that have struct pages in base pages, and a usual width of addresses for each."""


def device(k: Kernel, size: int, at: int = AT) -> DevPagemap:
    """A namespace of persistent memory that keeps its struct pages itself (``map=dev``); its memory is plugged."""
    span = Span(at, at + size)
    plug_pmem(k.hw, pfns(k, span))
    return nvdimm_setup_pfn(k.config, span, nd_pfn_init(k.config, span, "dev", k.config.pmd_size))


def _arm64(page_size: str, **choices: Any) -> dict[str, Any]:
    va_bits = LARGE_PAGES.get(page_size, 48)
    return {"preset": "arm64-vm", "memory": "2G", "page_size": page_size, "va_bits": va_bits, "choices": choices}


def storage(k: Kernel) -> tuple[int, int]:
    """Pages of struct pages that lie on devices, and in RAM."""
    runs = [(end - start, owner.tag) for start, end, owner in k.hw.memory.owners if owner.use is Use.MEMMAP]
    return sum(size for size, tag in runs if tag), sum(size for size, tag in runs if not tag)


def device_storage() -> Finding:
    """alt-1: 4 GiB of device-dax with 16K and 64K pages; in a kernel that drops the altmap, RAM pays."""
    parts, verdicts = [], dict[str, VerdictName]()
    for name in ("linux-5.13", *MAINLINE):
        good = True
        for page_size in LARGE_PAGES:
            own = {**_arm64(page_size), "profile": name}
            k, without = (evidence.kernel({**own, "choices": c}) for c in ({}, {"vmemmap_altmap": "none"}))
            in_ram = []
            for each in (k, without):
                before = storage(each)[1]
                pgmap = device(each, 4 * GiB)
                memremap_pages(each, pgmap, 0)
                in_ram.append(storage(each)[1] - before)
            on_device = storage(k)[0]
            altmap = _altmap(pgmap)
            good = good and on_device == in_ram[1] > 0 and in_ram[0] == 0 and altmap.alloc == 0 and not check_all(k)
            parts.append(
                f"{name} {page_size}: {on_device} pages on the device, {in_ram[0]} in RAM (without altmap {in_ram[1]})"
            )
        verdicts[name] = judged(good)
    return over_releases("; ".join(parts), verdicts)


def _altmap(pgmap: DevPagemap) -> VmemAltmap:
    assert pgmap.altmap is not None
    return pgmap.altmap


def fallbacks() -> Finding:
    """alt-2: an altmap with half the room that is needed, and one whose range ends half way, under both policies."""
    short = {policy: _half("free", policy) for policy in ("fail", "ram")}
    cut = {policy: _half("end_pfn", policy) for policy in ("fail", "ram")}
    good = (
        short["fail"] == "ENOMEM"
        and "and" in short["ram"]
        and cut["ram"] != cut["fail"]
        and "ENOMEM" not in cut["fail"]
    )
    figure = (
        f"on x86-64, half the room: its own policy {short['fail']}, powerpc's {short['ram']}; "
        f"range ends half way: its own {cut['fail']}, powerpc's {cut['ram']}"
    )
    return on(("linux-6.12",), good, figure)


def _half(field: Literal["free", "end_pfn"], policy: str) -> str:
    """Where 1 GiB of a device keeps its struct pages when its altmap has half of what it should in one respect."""
    k = evidence.kernel({"preset": "x86-vm", "memory": "2G", "choices": {"altmap_fallback": policy}})
    pgmap = device(k, GiB, 8 * GiB)
    altmap = _altmap(pgmap)
    if field == "free":
        pgmap.altmap = replace(altmap, free=altmap.free // 2)
    else:
        pgmap.altmap = replace(altmap, end_pfn=(altmap.base_pfn + altmap.end_pfn) // 2)
    before = storage(k)[1]
    try:
        memremap_pages(k, pgmap, 0)
    except KernelError as error:
        return error.name
    own, ram = storage(k)
    figure = f"{own} pages on the device and {ram - before} in RAM"
    memunmap_pages(k, pgmap)
    left = storage(k)[1] - before
    return figure if pgmap.altmap.alloc == 0 and not left else f"{figure}, {left} lost"


def shared_by_others() -> Finding:
    """alt-5: whether riscv64, which takes PMDs first, can take base pages from an altmap by the generic code."""
    parts, verdicts = [], dict[str, VerdictName]()
    for name in MAINLINE:
        machine = {"preset": "riscv-vm", "memory": "1G", "profile": name, "choices": {"vmemmap_leaves": "base"}}
        charged, own, ram, left, lost = _life(evidence.kernel(machine), GiB)
        verdicts[name] = settled(own == charged > 0 == ram == left == lost)
        parts.append(f"{name}, riscv64 by base pages: {own} pages on the device, {ram} in RAM, {lost} lost")
    return over_releases("; ".join(parts), verdicts)


DRAFT = "draft of March 2020"


def draft_helper() -> Finding:
    """alt-3: the drafted ``vmemmap_alloc_block_buf(size, node, altmap, fallback)``, and the same with a return in it.

    As drafted what the altmap gave is thrown away: the pointer is set anew from RAM, whether or not it was needed.
    """
    parts, works = [], []
    for policy, what in (("draft-helper", "as drafted"), ("fail", "returning what the altmap gave")):
        for page_size in LARGE_PAGES:
            charged, on_device, in_ram, left, lost = _life(evidence.kernel(_arm64(page_size, altmap_fallback=policy)))
            works.append((on_device == charged > 0, in_ram == 0, left == 0, lost == 0))
            parts.append(
                f"{what}, {page_size}: the account is charged {charged} pages, {on_device} are used and RAM gives "
                f"{in_ram}; afterwards the account shows {left} and {lost} pages of RAM are lost"
            )
    drafted, mended = (all(map(all, works[start : start + len(LARGE_PAGES)])) for start in (0, len(LARGE_PAGES)))
    verdict: VerdictName = judged(drafted) if mended else "open"
    return Finding(verdict, "; ".join(parts), {DRAFT: verdict})


def _life(k: Kernel, size: int = 4 * GiB) -> tuple[int, int, int, int, int]:
    """`size` bytes of a device that comes and goes.

    Pages charged to the altmap, pages on the device, pages in RAM; then what is left on the account, and in RAM.
    """
    before = storage(k)[1]
    pgmap = device(k, size)
    altmap = _altmap(pgmap)
    memremap_pages(k, pgmap, 0)
    charged, (own, ram) = altmap.alloc, storage(k)
    memunmap_pages(k, pgmap)
    return charged, own, ram - before, altmap.alloc, storage(k)[1] - before


def draft_consolidated() -> Finding:
    """alt-4: the drafted arm64 ``vmemmap_populate()`` for large leaves and base pages, its types set right.

    It steps from PMD to PMD and sets one entry in each; that no altmap is asked yet is what its author says.
    """
    parts, works = [], []
    for page_size in ("4K", *LARGE_PAGES):
        k = evidence.kernel(_arm64(page_size, vmemmap_populate="draft-consolidated"))
        charged, _, in_ram, left, lost = _life(k)
        size = (4 * GiB >> k.config.page_shift) * k.config.struct_page_size
        needed = size // k.config.page_size
        works.append(in_ram == needed)
        parts.append(
            f"{page_size}: {in_ram} of {needed} pages ({format_size(size)}) set, all in RAM, "
            f"{charged} charged; afterwards the account shows {left}, {lost} pages lost"
        )
    verdict = together(map(judged, works))
    return Finding(verdict, "; ".join(parts), {DRAFT: verdict})
