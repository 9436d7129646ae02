"""What the kernels between 5.13 and 7.2 do, release by release: the tables against the kernels' own sources."""
# SPDX-License-Identifier: GPL-2.0-or-later

import itertools

import pytest

from memhp.errors import BadInput
from memhp.linux.arch.arm64.choices import Arm64Profile
from memhp.linux.arch.x86.choices import X86Profile
from memhp.linux.choice import Choices, hints, history, is_set, options
from memhp.linux.choices import Profile, generic_choices
from memhp.linux.profiles import PROFILES, RECORDS, RELEASES, profile, unsettled
from memhp.linux.release import FIRST, LAST, LAST_MINOR, LONGTERM, READ, Release, known_release, parse_release

RECORD_TYPES: tuple[type[Choices], ...] = (Profile, *RECORDS)

SOURCE_6_1 = {
    # mm/memory_hotplug.c: size == memory_block_size_bytes(), a bool parameter; PHYSMEM_END in mhp_get_pluggable_range()
    "memmap_on_memory": "one-block",
    "pluggable_end": "PHYSMEM_END",
    "auto_movable": True,
    # drivers/base/memory.c: neither memblk_nr_poison() nor MEM_PREPARE_ONLINE; mem->zone
    "online_hwpoison": "allowed",
    "prepare_online": False,
    "block_zone": "stored",
    # mm/memory-failure.c: drain_all_pages() in __page_handle_poison()
    "poison_pcp_lock": "none",
    # drivers/base/core.c: lock_device_hotplug_sysfs(); fs/proc/page.c; mm/sparse.c: PageReserved() of ms->usage, and
    # section_deactivate() depopulates what is not early only; mm/page_isolation.c: the migratetype that is handed down
    "sysfs_lock": "tries",
    "proc_page": "online",
    "early_usage": "by-page",
    "early_memmap": "whole",
    "isolate_ends": "wanted-type",
    # mm/memory_hotplug.c: unsigned long start_pfn, update_pgdat_span(), and no remove_memory_blocks_and_altmaps()
    "zone_pfn": "64-bit",
    "node_span": "by-zone",
    "removal_reference": "none",
    # mm/page_alloc.c: no exception for ZONE_MOVABLE in __setup_per_zone_wmarks(); mm/vmstat.c
    "movable_watermark": "share",
    "memmap_counters": False,
    # mm/vmalloc.c, mm/ptdump.c: get_online_mems() and mmap_write_lock(), and no lock in vmap_try_huge_pmd()
    "vmap_huge_lock": "none",
    "ptdump_mmap_lock": "write",
    # mm/memremap.c: percpu_ref_put_many(); drivers/virtio/virtio_mem.c: the table of features
    "pgmap_ref": "at-once",
    "virtio_mem_sleep": "refused",
    "virtio_mem_unplugged_inaccessible": True,
}

ARM64_6_1 = {
    # mmu.c: PMD_SIZE flushed for each block of the vmemmap, the range for the direct map; base pages where PMDs lack
    "leaf_flush": "each-range-of-vmemmap",
    "end_flush": "direct-map-range",
    "vmemmap_fallback": "base",
    "vmemmap_subsection": "base",
    "create_lock": "fixmap_lock",
    # pgtable-prot.h: _PAGE_KERNEL with PTE_DIRTY, PROT_SECT_NORMAL without PTE_WRITE; memory.h: MT_DEVICE_nGnRnE is 3
    "kernel_prot": "6.1.167",
    # memory.h, ptdump.c: 128 MiB of modules from _PAGE_END(VA_BITS_MIN) on, no BPF region
    "layout": "5.17",
    "dma_zone": "at-most-32-bit",
    "pfn_valid": "sections",
    "table_attributes": "XN",
    # sparse-vmemmap.c: whatever the architecture, pgmap_vmemmap_nr(pgmap) > 1 without an altmap
    "optimize_dax_vmemmap": True,
    "huge_vmalloc": True,
    "virtio_mem": True,
}


def test_6_1_is_as_its_source_has_it() -> None:
    kernel = profile("6.1")
    assert {name: getattr(kernel, name) for name in SOURCE_6_1} == SOURCE_6_1
    arm64 = kernel.record(Arm64Profile)
    assert {name: getattr(arm64, name) for name in ARM64_6_1} == ARM64_6_1
    assert kernel.record(X86Profile).ptdump_lock == "mem_hotplug_lock"
    assert kernel.arches == ("arm64", "x86_64")


@pytest.mark.parametrize(
    ("point", "record", "choice", "before", "after"),
    [
        # Debian's changelogs of 6.1.y and 6.12.y, which list every commit of each point release.
        ("6.12.43", X86Profile, "ptdump_lock", "none", "mem_hotplug_lock"),
        ("6.1.149", X86Profile, "ptdump_lock", "none", "mem_hotplug_lock"),
        ("6.12.105", Profile, "vmap_huge_lock", "none", "init_mm.mmap_lock"),
        ("6.1.110", Profile, "pluggable_end", "MAX_PHYSMEM_BITS", "PHYSMEM_END"),
        ("6.12.20", Arm64Profile, "vmemmap_subsection", "same", "base"),
        ("6.1.132", Arm64Profile, "vmemmap_subsection", "same", "base"),
        ("6.12.86", Arm64Profile, "leaf_flush", "each-page", "each-range-of-vmemmap"),
        ("6.12.97", Arm64Profile, "leaf_flush", "each-range-of-vmemmap", "each-page-of-vmemmap"),
        ("6.1.176", Arm64Profile, "end_flush", "none", "direct-map-range"),
        ("6.1.167", Arm64Profile, "kernel_prot", "5.14", "6.1.167"),
        ("6.12.78", Arm64Profile, "kernel_prot", "6.5", "7.0"),
        # Announcements of 5.16.4, 6.3.5, 6.18.24 and 7.0.1.
        ("5.16.4", Arm64Profile, "layout", "5.11", "5.17"),
        ("6.3.5", Arm64Profile, "optimize_dax_vmemmap", True, False),
        ("6.18.24", Arm64Profile, "present_invalid", False, True),
        ("7.0.1", Arm64Profile, "present_invalid", False, True),
    ],
)
def test_a_fix_of_a_stable_series_begins_at_its_point_release(
    point: str, record: type[Choices], choice: str, before: object, after: object
) -> None:
    release = parse_release(point)
    assert release is not None
    assert release.point is not None
    found = []
    for each in (release._replace(point=release.point - 1), release):
        kernel = profile(str(each))
        found.append(getattr(kernel if record is Profile else kernel.record(record), choice))  # type: ignore[type-var]
    assert found == [before, after]


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("6.6", Release(6, 6)),
        ("linux-6.12.43", Release(6, 12, 43)),
        ("6.12.94+deb13-cloud-amd64", Release(6, 12, 94)),
        ("6.1.0-56-cloud-amd64", Release(6, 1)),
        ("5.14.0-503.el9.x86_64", Release(5, 14)),
        ("6.12.0", Release(6, 12, 0)),
        ("6.1-rc3", Release(6, 1, 0)),
        ("6.18.0-rc3+", Release(6, 18, 0)),
        ("arm64-hotremove-v5", None),
    ],
)
def test_a_kernels_own_name_tells_its_release_but_not_always_its_point(text: str, release: Release | None) -> None:
    assert parse_release(text) == release


EVERY = [
    Release(major, minor) for major, last in LAST_MINOR.items() for minor in range(13 if major == 5 else 0, last + 1)
]


def test_every_release_from_the_first_to_the_last_has_a_kernel() -> None:
    assert all(known_release(release) for release in EVERY)
    assert [profile(str(release)).name for release in EVERY] == [f"linux-{release}" for release in EVERY]
    assert {f"linux-{name}" for name in RELEASES} <= {f"linux-{release}" for release in EVERY}
    assert (FIRST, f"{EVERY[-1]}") == ("5.13", LAST)
    for name in ("5.12", *(f"{major}.{last + 1}" for major, last in LAST_MINOR.items())):
        with pytest.raises(BadInput, match=f"or any other release from {FIRST} to {LAST}"):
            profile(name)


def test_the_newest_release_was_read() -> None:
    """Of one that was not, nobody could say what it changed: READ has the point whose source was."""
    assert LAST in READ
    assert Release(*map(int, LAST.split("."))) == EVERY[-1]


def test_only_series_that_stable_fixes_go_to_for_years_leave_open_what_they_took() -> None:
    open_in = {each: {step.choice for step in unsettled(each)} for each in EVERY}
    assert {str(each) for each, choices in open_in.items() if choices} == set(LONGTERM) - READ.keys()
    for name in ("6.12.0", "6.12.43", "6.1.148"):
        release = parse_release(name)
        assert release is not None
        assert unsettled(release) == []
    # 6.12.105 took it, of 6.6.y no changelog was read; what 7.2 alone got, 6.6.y is not asked about.
    assert "vmap_huge_lock" in open_in[Release(6, 6)]
    assert profile("6.6").vmap_huge_lock == profile("6.5").vmap_huge_lock
    assert "boot_vmemmap" not in open_in[Release(6, 6)]


def test_a_change_that_would_change_nothing_is_not_open() -> None:
    """6.12.95 took the mend of what came with 6.8, so that 5.15.y has nothing to take."""
    assert profile("5.15").block_altmap == profile("6.12").block_altmap == "after-registration"
    assert "block_altmap" in {step.choice for step in unsettled(Release(6, 18))}
    assert "block_altmap" not in {step.choice for step in unsettled(Release(5, 15))}


def test_the_riscv_series_stands_on_the_generic_code_of_6_3() -> None:
    """It was posted on 12 May 2023, before 6.4; memmap_on_memory its architecture did not have yet."""
    series, base = profile("riscv-hotplug-v1"), profile("6.3")
    differ = {name for name in generic_choices() if getattr(series, name) != getattr(base, name)}
    assert differ == {"memmap_on_memory"}


def test_a_point_release_that_differs_in_nothing_is_its_series() -> None:
    assert profile("6.12.117") is not profile("6.12.42")
    assert (profile("6.12.117").name, profile("6.12.42").name) == ("linux-6.12", "linux-6.12.42")
    assert profile("v6.12") == PROFILES["linux-6.12"] == profile("6.12")


@pytest.mark.parametrize("record", RECORD_TYPES, ids=lambda record: record.__name__)
def test_every_value_has_its_release_and_its_commit_is_one_of_the_choices_own_and_changes_the_one_before(
    record: type[Choices],
) -> None:
    for name, hint in hints(record).items():
        steps = history(record, name)
        if not options(hint):
            continue
        assert steps, name
        assert steps[0].from_the_start, name
        for step in steps[1:]:
            assert step.title, f"{name}: which commit brought {step.value!r}?"
            assert step.established, f"{name}: which release was the first with {step.value!r}?"
        for step in steps:
            assert step.value in options(hint) or (is_set(hint) and set(step.value) <= set(options(hint))), name
        assert all(a.value != b.value for a, b in itertools.pairwise(steps) if not b.stable), name
