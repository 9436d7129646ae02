"""Kernels by name: releases as the tables of choices have them, and mail series as they were posted.

Nothing else in the package compares versions: code asks for the choice by name. A variant that never shipped (a race
repaired or not) is :meth:`~memhp.linux.choices.Profile.choosing` of one of these. ``linux-6.12`` is the stable series
as distributions carry it: fixes that went back to 6.12.y count as made; ``linux-6.12.42`` is without the later ones.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace
from functools import cache
from typing import NamedTuple

from memhp.errors import BadInput
from memhp.linux.choice import Choices, hints, history, open_steps, shown, values_in
from memhp.linux.choices import ARCHES, Arch, ArchProfile, Profile, records
from memhp.linux.release import FIRST, LAST, Release, Since, known_release, parse_release, series

__all__ = ["ARCHES", "MAINLINE", "PROFILES", "RECORDS", "RELEASES", "Arch", "Profile", "profile", "unsettled"]

MAINLINE = ("linux-6.12", "linux-7.2")
"""Names of the profiles of kernels as they are today."""

RECORDS = records()
"""The records of the architectures."""

RELEASES = ("5.13", "5.15", "6.1", "6.6", "6.12", "7.2")
"""Releases that are named where kernels are listed; any other from the first to the last is known too."""

_DATES = {"5.13": "Linux 5.13, June 2021", "6.12": "Linux 6.12.y, November 2024 on"}


class Unsettled(NamedTuple):
    """A choice of which it is not known how a release made it: it is taken to be as before."""

    record: type[Choices]
    choice: str
    step: Since
    """The change that the release may have."""


def unsettled(release: Release) -> list[Unsettled]:
    """The choices of which it is not known how that kernel made them."""
    return [
        Unsettled(record, name, step)
        for record in _records(release)
        for name in hints(record)
        for step in open_steps(release, history(record, name))
    ]


def _records(release: Release) -> list[type[Choices]]:
    """The records that have choices for that kernel."""
    return [Profile, *(each for each in RECORDS if _has_hotplug(each, release))]


def _has_hotplug(record: type[ArchProfile], release: Release) -> bool:
    return all(release.series >= series(each) for each in (record.hotplug_since, record.known_since) if each)


@cache
def _computed(release: Release) -> Profile:
    """The kernel of a release, by the histories of all choices."""
    point = release
    if release.point is not None:
        whole = Release(*release.series)
        if all(values_in(release, record) == values_in(whole, record) for record in _records(release)):
            point = whole
    return Profile(
        name=f"linux-{point}",
        release=str(point),
        source=_DATES.get(str(point), f"Linux {point}" + (".y" if point.point is None else "")),
        records=tuple(record(**values_in(release, record)) for record in RECORDS if _has_hotplug(record, release)),
        **values_in(release, Profile),
    )


_LINUX_5_13, _LINUX_6_12, _LINUX_7_2 = (_computed(Release(*series(name))) for name in ("5.13", "6.12", "7.2"))

_RISCV_V1 = _LINUX_6_12.arch("riscv64").with_choices(
    layout="6.4",
    folded_levels="indexed",
    map_size="physical",
    vmemmap_leaves="base",
    vmemmap_fallback="base",
    vmemmap_altmap="none",
    mappable_range="everything",
    pgd_preallocated=("vmalloc", "vmemmap", "direct map"),
    remove_extra_flush=False,
    add_flush="before-add-pages",
    ptdump_lock="none",
    optimize_dax_vmemmap=False,
)

_ARM64_V6 = _LINUX_5_13.arch("arm64").with_choices(
    layout="5.3",
    kernel_prot="5.2",
    table_attributes="none",
    section_size="1G",
    pfn_valid="memblock",
    dma_zone="none",
    vmemmap_fallback="none",
    vmemmap_altmap="none",
    mappable_range="everything",
    free_empty_tables="never",
    leaf_flush="each-range",
    bootmem_remove="unchecked",
)

_ARM64_V5 = _ARM64_V6.with_choices(
    free_empty_tables="always",
    remove_passes=1,
    storage_freed="before-clear",
    leaf_flush="none",
    pte_table_flush="range",
    remove_lock="whole-range",
)

_ARM64_V7 = _ARM64_V6.with_choices(layout="5.4", free_empty_tables="if-no-vmalloc-overlap")

_RISCV_HOTPLUG_V1 = replace(
    _computed(Release(6, 3)),
    name="riscv-hotplug-v1",
    release="6.4",
    source="[PATCH 0/7] riscv: Memory Hot(Un)Plug support, 12 May 2023",
    records=(_RISCV_V1,),
    memmap_on_memory="none",
)

_ARM64_HOTREMOVE_V5 = replace(
    _LINUX_5_13,
    name="arm64-hotremove-v5",
    release="5.2",
    source="[PATCH V5 0/3] arm64/mm: Enable memory hot remove, 29 May 2019",
    records=(_ARM64_V5,),
    memmap_on_memory="none",
    pluggable_end="none",
    devices_removed="under-lock",
    ptdump_mmap_lock="none",
    zone_shrink="on-remove",
    block_nodes="by-page",
)

_ARM64_HOTREMOVE_V6 = replace(
    _ARM64_HOTREMOVE_V5,
    name="arm64-hotremove-v6",
    source="[PATCH V6 0/3] arm64/mm: Enable memory hot remove, 19 June 2019",
    records=(_ARM64_V6,),
)

_ARM64_HOTREMOVE_V7 = replace(
    _ARM64_HOTREMOVE_V5,
    name="arm64-hotremove-v7",
    release="5.4-rc",
    source="[PATCH V7 0/3] arm64/mm: Enable memory hot remove, 3 September 2019, on arm64 for-next/core",
    records=(_ARM64_V7,),
)

PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        _RISCV_HOTPLUG_V1,
        _ARM64_HOTREMOVE_V5,
        _ARM64_HOTREMOVE_V6,
        _ARM64_HOTREMOVE_V7,
        _LINUX_5_13,
        _LINUX_6_12,
        _LINUX_7_2,
    )
}
"""The kernels that are taken where none is asked for: the mail series, and releases that real ones stand behind."""


def profile(name: str, *, where: str = "profile") -> Profile:
    """The kernel of that name: a mail series, or a release such as ``6.6``, ``linux-6.6`` or ``6.1.148``.

    Raises :class:`BadInput`, naming `where`, that lists the names there are.
    """
    if not isinstance(name, str):
        raise BadInput(f"want the name of a kernel, got {shown(name)}", where=where, fix=f'text, such as "{LAST}"')
    if name in PROFILES:
        return PROFILES[name]
    release = parse_release(name)
    if release is not None and known_release(release):
        return _computed(release)
    names = [each for each in PROFILES if not each.startswith("linux-")] + [f"linux-{each}" for each in RELEASES]
    raise BadInput(
        f"no kernel profile {name!r}",
        where=where,
        fix=f"one of {', '.join(names)}, or any other release from {FIRST} to {LAST}",
    )
