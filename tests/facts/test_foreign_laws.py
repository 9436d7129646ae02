"""The laws of page tables and /proc/iomem on guests of s390x and POWER, whose hotplug is not modelled.

Folders of tests/data/tables that are named after a capture hold page tables of its steps; what memory there was at that
moment the capture says.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import lzma
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import pytest

from captures import DATA, open_capture
from memhp.check.dump_laws import DumpedTables, Finding, check_dumped
from memhp.cli.main import main
from memhp.facts.iomem import parse
from memhp.facts.page_table_laws import memory_frames, ram_frames
from memhp.facts.page_tables import SeenTables, read_tables_of
from memhp.facts.table_source import open_tables
from memhp.linux.arch.s390.format import IEP, P
from memhp.report.documents import PagetablesDocument
from memhp.units import KiB, MiB

TABLES = DATA / "tables"
S390 = "s390x-7.2.13+deb14-s390x-virtio-mem-pt"
POWER = "ppc64le-7.2.13+deb14-powerpc64le-dimm-lmb-pt"
POWER_64K = "ppc64le-7.2.13+deb14-powerpc64le-64k-dimm-lmb-memmap-pt"
MOMENTS = sorted((core.parent.parent.name, core.parent.name) for core in TABLES.glob("*/*/pt.elf.xz"))


def core(guest: str, moment: str) -> Path:
    return TABLES / guest / moment / "pt.elf.xz"


def iomem(guest: str, moment: str) -> str:
    return open_capture(guest)[moment].read("/proc/iomem")


@cache
def seen(path: Path) -> SeenTables:
    return read_tables_of(open_tables(path))


def checked(path: Path, memory: str) -> dict[str, Finding]:
    found = seen(path)
    assert found.kernel is not None
    resources, shift = parse(memory, where="iomem"), found.fmt.page_shift
    frames = ram_frames(resources, shift), memory_frames(resources, shift)
    laws = check_dumped(DumpedTables(found.everything, found.tables, found.kernel.maps, *frames))
    assert not any(each.unchecked for each in laws)
    return {each.law: each for each in laws}


def broken(path: Path, memory: str) -> dict[str, list[str]]:
    """The laws that do not hold, each with what it says."""
    found = checked(path, memory)
    return {law: [breach.text for breach in each.breaches] for law, each in found.items() if each.breaches}


@pytest.mark.parametrize(("guest", "moment"), MOMENTS)
def test_every_law_holds_at_every_moment_of_every_guest(guest: str, moment: str) -> None:
    laws = checked(core(guest, moment), iomem(guest, moment))
    assert [(law, each.breaches, each.notes) for law, each in laws.items()] == [
        ("page-tables", (), ()), ("direct-map", (), ()), ("vmemmap", (), ())
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("guest", "end"),
    [
        ("s390x-7.2.13+deb14", "1fffffff"),
        ("s390x-7.2.13+deb14-4level", "1fffffff"),
        ("ppc64-64k-7.2.13+deb14", "1fffffff"),
        ("ppc64-7.2.13+deb14", "0fffffff"),
    ],
)
def test_every_law_holds_on_kernels_at_rest(guest: str, end: str) -> None:
    assert broken(TABLES / guest / "pt.elf.xz", f"00000000-{end} : System RAM\n") == {}


def test_memory_that_was_removed_and_is_still_mapped_is_a_breach() -> None:
    """What a remove that forgets would leave: the tables while memory was there, /proc/iomem without it."""
    assert broken(core(POWER, "1-plugged-1G"), iomem(POWER, "0-before")) == {
        "direct-map": ["PFN 0x80000-0xbffff is mapped, 1 GiB, but is no memory"],
        "vmemmap": [
            "0xc00c000002000000-0xc00c000002ffffff maps struct pages of PFN 0x80000-0xbffff, where no memory is: "
            "16 MiB stay taken"
        ],
    }
    s390 = broken(core(S390, "1-vm0-600M"), iomem(S390, "5-all-unplugged"))
    assert s390["direct-map"] == ["PFN 0x40000-0x67fff is mapped, 640 MiB, but is no memory"]
    assert s390["vmemmap"][0].endswith("where no memory is: 10 MiB stay taken")


def test_memory_that_was_added_and_is_not_mapped_is_a_breach() -> None:
    assert broken(core(POWER_64K, "0-before"), iomem(POWER_64K, "1-plugged-1G"))["direct-map"] == [
        "System RAM PFN 0x8000-0xbfff is not mapped at 0xc000000080000000"
    ]
    s390 = broken(core(S390, "5-all-unplugged"), iomem(S390, "1-vm0-600M"))
    assert s390["direct-map"] == ["System RAM PFN 0x40000-0x67fff is not mapped at 0x40000000"]
    assert s390["vmemmap"][0].startswith("the struct pages of PFN 0x40000-0x67fff are not mapped at 0x372")


def came(guest: str, first: str, later: str, capfd: pytest.CaptureFixture[str]) -> dict[str, dict[str, int]]:
    """What of leaves and tables memory brought, or took along where it is less, by area."""
    cores = [str(core(guest, moment)) for moment in (first, later)]
    assert main(["pagetables", cores[0], "--diff", cores[1], "--area", "direct map", "--area", "vmemmap", "--json"])
    document = msgspec.json.decode(capfd.readouterr().out, type=PagetablesDocument)
    signs = {"added": 1, "removed": -1}
    found: dict[str, dict[str, int]] = {}
    for each in document.differences or []:
        counts = found.setdefault(each.now.area, {})
        counts[each.now.level] = counts.get(each.now.level, 0) + signs[each.kind] * each.now.count
    for change in document.table_changes or []:
        counts = found.setdefault(change.area, {})
        counts[f"{change.level} tables"] = change.more
    return found


def test_what_a_plug_brings_is_seen_where_an_area_was_smaller_before(capfd: pytest.CaptureFixture[str]) -> None:
    """1 GiB of POWER by leaves of 2 MiB, of 4K and 64K pages; five blocks of s390, all by pages. The other way round
    it goes.
    """
    assert came(POWER, "0-before", "1-plugged-1G", capfd) == {
        "direct map": {"PMD": 512, "PMD tables": 1}, "vmemmap": {"PMD": 8}
    }  # fmt: skip
    assert came(POWER_64K, "1-plugged-1G", "0-before", capfd) == {
        "direct map": {"PMD": -512, "PMD tables": -1}, "vmemmap": {"PMD": -1}
    }  # fmt: skip
    blocks = 5 * 128 * MiB
    assert came(S390, "0-before", "1-vm0-600M", capfd) == {
        "direct map": {"PTE": blocks // (4 * KiB), "PTE tables": blocks // MiB},
        "vmemmap": {"PTE": blocks // (4 * KiB) * 64 // (4 * KiB), "PTE tables": 10},
    }


def spoiled(guest: str, moment: str, va: int, tmp_path: Path, *, change: int) -> Path:
    """The same core with bits of the entry that translates `va` changed; what it maps stands in its place in it."""
    columns = seen(core(guest, moment)).columns()
    (i,) = np.flatnonzero((columns.va <= np.uint64(va)) & (columns.va + columns.size > np.uint64(va)))
    entry = int(columns.entry[i]) + va - int(columns.va[i])
    data = lzma.decompress(core(guest, moment).read_bytes())
    old = entry.to_bytes(8, "big")
    assert data.count(old) == 1
    path = tmp_path / f"{va:x}"
    path.write_bytes(data.replace(old, (entry ^ change).to_bytes(8, "big")))
    return path


def test_data_that_may_be_executed_is_a_breach_on_power(tmp_path: Path) -> None:
    """The lowest bit executes, of radix entries as a big-endian number; text, which may not be written, is no data."""
    path = spoiled(POWER, "0-before", 0xC000000002800000, tmp_path, change=1)
    ((law, (text,)),) = broken(path, iomem(POWER, "0-before")).items()
    assert law == "direct-map"
    assert text.startswith("0xc000000002800000-0xc0000000029fffff is writable and executable")


def test_data_that_may_be_executed_is_a_breach_on_s390_but_of_the_lowcore(tmp_path: Path) -> None:
    memory = iomem(S390, "0-before")
    ((law, (text,)),) = broken(spoiled(S390, "0-before", 0x2000, tmp_path, change=1 << 8), memory).items()
    assert law == "direct-map"
    assert text.startswith("0x2000-0x2fff is writable and executable")
    assert broken(spoiled(S390, "0-before", 0x1000, tmp_path, change=1 << 8), memory) == {}


def test_data_that_leads_elsewhere_is_a_breach(tmp_path: Path) -> None:
    path = spoiled(S390, "0-before", 0x5000000, tmp_path, change=1 << 34)
    assert broken(path, iomem(S390, "0-before"))["direct-map"][0] == (
        "0x5000000-0x5000fff translates to 0x405000000 instead of 0x5000000"
    )


def test_the_first_page_of_s390_is_executed_in_every_guest() -> None:
    """arch/s390/mm/vmem.c:vmem_map_init: it returns through it where the BEAR-enhancement facility is not there."""
    columns = seen(core(S390, "0-before")).columns()
    (bits,) = columns.bits[columns.va == 0].tolist()
    assert not bits & (IEP | P)


def test_memory_for_a_crash_kernel_is_mapped_and_no_system_ram_on_s390() -> None:
    """arch/s390/kernel/setup.c:setup_resources adds it beside System RAM."""
    memory = (
        "00000000-0fffffff : System RAM\n10000000-17ffffff : Crash kernel\n18000000-3fffffff : System RAM\n"
    )
    assert broken(core(S390, "0-before"), memory) == {}
