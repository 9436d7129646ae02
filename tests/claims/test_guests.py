"""What real machines said of the oldest claims of each thread: their logs and counters, beside the figures."""
# SPDX-License-Identifier: GPL-2.0-or-later

import lzma
import re
from typing import Any

import pytest

from captures import DATA, open_capture
from memhp.claims import (
    evidence,
    fix_witnesses_memory,
    memmap_on_memory,
    memmap_rollback,
    page_table_counts,
    riscv_machine,
    zone_device,
)
from memhp.claims.memmap_on_memory import cost
from memhp.linux.lib.test_hmm import dmirror_allocate_chunk
from memhp.spans import Span
from memhp.units import MiB, format_size
from ptcore_guests import NOTED
from scenario.examples import rehearsed

X86 = "x86_64-7.2.13+deb14-cloud-amd64"
RISCV = [noted for noted in NOTED if noted["arch"] == "riscv64" and "root_entries" in noted]
GREW = [noted for noted in RISCV if "virtio-mem" in noted["name"]]


WIDE = [noted for noted in NOTED if noted["arch"] == "arm64" and noted["va_bits"] == 52 and noted.get("lva", True)]


def log(name: str) -> str:
    """The kernel's log of the last step that has one."""
    found = [text for source in open_capture(name).values() if (text := source.boot_log())]
    return found[-1]


def vmstat(name: str, step: str, counter: str) -> int:
    text = open_capture(name)[step].get("/proc/vmstat") or ""
    return int(dict(line.split() for line in text.splitlines())[counter])


def test_virtio_mem_on_riscv64_has_the_section_and_the_pageblock_that_rv_8_tells() -> None:
    text = log("riscv64-6.12.107+deb13-riscv64-virtio-mem-vhost-default")
    assert f"memory block size: {128 * MiB:#x}" in text
    assert f"subblock size: {2 * MiB:#x}" in text
    figure = riscv_machine.granularity().figure
    assert "linux-6.12: section 128 MiB" in figure and "virtio-mem sub-block of 2 MiB" in figure


@pytest.mark.parametrize("noted", RISCV, ids=lambda noted: str(noted["name"]))
def test_root_entries_of_a_riscv64_guest_are_there_from_boot_as_rv_2_and_rv_3_tell(noted: dict[str, Any]) -> None:
    """Those of direct map and vmemmap: what is to come has its root entry before anything is plugged."""
    (row,) = (row for row in evidence.sizes("riscv64", noted["profile"]) if row.va_bits == noted["va_bits"])
    told = {area.area: area.tables for area in row.preallocated}
    shift = {39: 30, 48: 39, 57: 48}[noted["va_bits"]]
    notes = noted["vmcoreinfo"]
    vmemmap = {va >> shift & 511 for va in range(notes["VMEMMAP_START"], notes["VMEMMAP_END"], 1 << shift)}
    direct = range(notes["PAGE_OFFSET"] >> shift & 511, (notes["PAGE_OFFSET"] >> shift & 511) + told["direct map"])
    there = set(noted["root_entries"])
    assert len(vmemmap) == told["vmemmap"]
    assert there >= vmemmap | set(direct)


@pytest.mark.parametrize("noted", GREW, ids=lambda noted: str(noted["name"]))
def test_a_riscv64_guest_gains_leaves_and_loses_each_of_them_as_rv_5_tells(noted: dict[str, Any]) -> None:
    """Another program's list of differences, of 512 MiB: 256 PMDs, struct pages of 8 MiB, but under Sv39 a table."""
    text = lzma.decompress((DATA / "ptcores" / noted["name"] / "ptdiff.txt.xz").read_bytes()).decode()
    changes = re.findall(r"^   (?:linear|vmemmap) ([+-])(?:: \S+ (\d+xPMD)|(T): PMD)", text, re.M)
    came, went = ([leaf or table for sign, leaf, table in changes if sign == which] for which in "+-")
    assert came == went == ["256xPMD", *(["T"] if noted["va_bits"] > 39 else []), "4xPMD"]


@pytest.mark.parametrize("noted", WIDE, ids=lambda noted: str(noted["name"]))
def test_vmalloc_and_vmemmap_of_an_arm64_guest_share_a_root_entry_as_a64_2_tells(noted: dict[str, Any]) -> None:
    """52 bits of address: a root entry translates 2^48 bytes with 4K pages, 2^47 with 16K."""
    shift = {4096: 48, 16384: 47}[noted["page_size"]]
    notes = noted["vmcoreinfo"]
    shared = (notes["VMALLOC_END"] - 1) >> shift == notes["VMEMMAP_START"] >> shift
    rows = [row for row in evidence.sizes("arm64", noted["profile"]) if row.page_size == noted["page_size"]]
    told = {row.vmalloc_vmemmap_overlap for row in rows if row.va_bits_actual == 52}
    assert shared and told == {True}


def test_a_dimm_took_of_ram_what_mom_1_tells() -> None:
    """512 MiB: 2048 pages of struct pages, 2 MiB for each 128 MiB."""
    name = "x86_64-6.12.107+deb13-cloud-amd64-pc-dimm-default"
    pages = [vmstat(name, step, "nr_memmap_pages") for step in ("0-before", "1-plugged")]
    assert pages[1] - pages[0] == 4 * 2 * MiB // 4096
    assert f"linux-6.12: {format_size(2 * MiB)} of struct pages" in cost().figure


def test_adding_far_too_much_failed_or_killed_as_mom_2_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memmap_on_memory, "KERNELS", ("linux-6.12",))
    name = "x86_64-6.12.117+deb13-cloud-amd64-plan-16000M"
    assert "add_memory failed" in log(name)
    assert vmstat(name, "2-added", "nr_memmap_pages") > 0
    figure = memmap_on_memory.exhaustion().figure
    assert "linux-6.12 x86_64, N: 120G more: ENOMEM" in figure
    assert "linux-6.12 arm64, N: 4G more: PANIC (System is deadlocked on memory)" in figure


def test_a_block_keeps_its_struct_pages_at_its_start_and_the_rest_goes_offline_as_mom_4_tells() -> None:
    text = log("x86_64-6.1.0-56-cloud-amd64-dimm-memmap-on-memory")
    assert "altmap_alloc_block_buf: pfn: 0x108000 alloc: 512" in text
    assert "Offlined Pages 32256" in text
    assert "512 pages reserved, 32256 to the buddy" in memmap_on_memory.page_states().figure


def test_a_page_table_that_cannot_be_had_is_fatal_on_x86_64_as_mom_9_tells() -> None:
    text = log("x86_64-6.12.117+deb13-cloud-amd64-oom-lowpages-612")
    assert "BUG: kernel NULL pointer dereference" in text
    assert "phys_pmd_init" in text
    fatal = [site for site, end in memmap_rollback.adds("linux-6.12") if end == "dies"]
    assert "arch/x86/mm/init.c:alloc_low_pages" in fatal


def test_a_device_of_arm64_with_16k_pages_gives_its_struct_pages_room_page_by_page_as_alt_1_tells() -> None:
    text = log("arm64-6.12.107+deb13-arm64-16k-kmem-map-pmem-mom1")
    taken = [line for line in text.splitlines() if "altmap_alloc_block_buf" in line]
    assert taken and all(line.endswith("nr: 0x1") for line in taken)


@pytest.mark.parametrize(
    "name",
    [
        "riscv64-6.12.107+deb13-riscv64-kmem-map-pmem-mom1",
        "x86_64-6.12.107+deb13-cloud-amd64-kmem-map-pmem-mom1",
    ],
)
def test_an_altmap_hands_out_and_loses_what_zd_1_tells(name: str) -> None:
    """A namespace of 1 GiB at 4 GiB with map=dev. What the altmap keeps ends where the device's memory begins."""
    said = r"altmap_alloc_block_buf: pfn: (\w+) alloc: (\d+) align: (\d+) nr: 0x200"
    handed_out = [(int(pfn, 16), int(alloc), int(align)) for pfn, alloc, align in re.findall(said, log(name))]
    taken = [each for each in handed_out if each[0] < 0x101200]
    assert taken == [(0x100000 + 512 * nr, 512 * nr, 510) for nr in range(1, 9)]
    begins = open_capture(name)["1-devdax"].get("/sys/bus/dax/devices/dax0.0/resource")
    assert begins == f"{0x100000 + 2 + 4606 << 12:#x}\n"
    told = "linux-6.12, 1 GiB: base_pfn 0x100000, end_pfn 0x13ffff, reserve 2, free 4606, align 510, alloc 4096"
    assert told in zone_device.altmap_accounts().figure


def told(name: str) -> str:
    """What was typed and read in a guest that loaded a module."""
    return (DATA / "modules" / f"{name}.txt").read_text(encoding="utf-8")


def test_two_blocks_that_go_together_leave_their_system_ram_as_mom_8_and_f_24_tell() -> None:
    text = told("riscv64-6.12.117+deb13-riscv64-two-blocks")
    after = text.partition("$ rmmod")[2].partition("$ insmod")[0]
    run, k = rehearsed("two-adds-one-removal.toml")
    left = [Span(res.start, res.end + 1) for res in k.iomem_resource.children if "System RAM" in res.name]
    ram = [Span(int(start, 16), int(end, 16) + 1) for start, end in re.findall(r"(\w+)-(\w+) : System RAM", after)]
    assert left[1:] == ram[1:] and len(ram) == 3
    blocks = [block for first, end, _ in k.memory_blocks for block in range(first, end)]
    assert re.findall(r"^memory(\d+)$", after, re.M) == list(map(str, blocks))
    assert "two_blocks: remove 0" in text and run.steps[2].outcome.result == "ok"
    assert "Unable to reserve System RAM region" in text and run.steps[3].outcome.result == "EEXIST"


@pytest.mark.parametrize(("release", "chunk", "within"), [("6.12.117+deb13", 1, False), ("7.2.13+deb14", 0, True)])
def test_private_memory_of_riscv64_lies_where_f_22_tells(release: str, chunk: int, within: bool) -> None:
    """In 6.12 the first chunk was still claimed when the second was asked for."""
    text = told(f"riscv64-{release}-riscv64-private-memory")
    (region,) = re.findall(r"region \[mem (\w+)-(\w+) flags \w+\], struct page at (\w+)", text)
    start, last, page = (int(number, 16) for number in region)
    k = evidence.kernel({"preset": "riscv-vm", "memory": "1G", "profile": release.partition("+")[0]})
    chunks = [dmirror_allocate_chunk(k, "gpu") for _ in range(chunk + 1)]
    assert chunks[chunk].ranges == (Span(start, last + 1),)
    assert k.layout.pfn_to_page(start >> k.config.page_shift) == page
    assert (page in k.layout.vmemmap.span) is within


def logged(name: str) -> str:
    """What a guest's kernel logged, and what was typed and read there."""
    return (DATA / "logs" / f"{name}.txt").read_text(encoding="utf-8")


def test_a_block_of_arm64_that_hosts_its_struct_pages_is_asked_about_behind_them_as_f_5_tells() -> None:
    """The second of two blocks; in the first somebody had a page. 2 MiB of struct pages stand at its start."""
    text = logged("arm64-7.2.13+deb14-cloud-arm64-self-hosted-stays")
    run, k = rehearsed("arm64-self-hosted-stays.toml")
    assert run.steps[1].outcome.result == "EPERM"
    said = r"\[(\w+) (\w+)\] splits a leaf entry in vmemmap"
    modelled = "\n".join(line.text for line in k.hw.log_lines)
    for log_text in (text, modelled):
        start, end = (int(number, 16) for number in re.findall(said, log_text)[-1])
        assert (start % (128 * MiB), end - start) == (2 * MiB, 126 * MiB)
        assert f"memory offlining [mem {start:#010x}-{end - 1:#010x}] failed due to notifier failure" in log_text


def test_blocks_of_a_dimm_that_does_not_go_come_back_in_another_zone_as_f_7_tells() -> None:
    """Four blocks, the first in Normal and in use by a slab, the others in Movable."""
    text = logged("x86_64-7.2.13+deb14-cloud-amd64-dimm-comes-back")
    before, _, after = text.partition("device_del")
    run, _ = rehearsed("dimm-eject.toml")
    moved = [
        old
        for old, new in zip(*(re.findall(r"zones:(\w+)", part) for part in (before, after)), strict=True)
        if old != new
    ]
    assert after.count("Offlined Pages 32768") == len(moved) == 3
    assert "memory memory32: Offline failed." in after and run.steps[4].outcome.result == "EBUSY"
    assert f"{len(moved)} blocks came back online in Normal, and were in Movable before" in run.steps[4].notes


def test_memory_of_riscv64_that_comes_last_and_lower_ends_kpagecount_as_f_21_tells() -> None:
    text = logged("riscv64-7.2.13+deb14-riscv64-lower-comes-last")
    assert re.findall(r"wc -c\n(\d+)", text) == ["32", "0"]
    assert text.rstrip().endswith("memory65/state\nonline")
    witness = fix_witnesses_memory.lower_memory_comes_last
    assert "/proc/kpagecount ends before PFN" in witness(
        evidence.kernel({"preset": "riscv-vm", "profile": "7.2.13"}).config
    )


def test_a_pinned_page_that_goes_bad_lets_its_block_go_as_f_6_tells() -> None:
    """Of a file the kernel says that it failed, as the rehearsal does; the block goes, and the holder finds out."""
    of_file, of_nothing = map(logged, (f"{X86}-poisoned-and-pinned-file", f"{X86}-poisoned-and-pinned"))
    run, k = rehearsed("page-kinds.toml")
    bad, _, gone = run.steps[12:15]
    assert (bad.outcome.result, gone.outcome.result) == ("EBUSY", "ok")
    words = "recovery action for dirty LRU page: Failed"
    assert words in of_file and any(words in line.text for line in k.hw.log_lines)
    for text in (of_file, of_nothing):
        after = text.partition("hard_offline_page")[2]
        assert "memory33/state\noffline\n" in after
        assert "Offlined Pages 32768" in after and "(QEMU) device_del: ok" in after
    assert of_nothing.count("\nthe holder is alive\n") == 2
    assert "BUG: unable to handle page fault" in of_nothing and "io_free_rsrc_node" in of_nothing


@pytest.mark.parametrize("name", [f"{X86}-device-pinned", "x86_64-6.12.117+deb13-cloud-amd64-device-pinned"])
def test_a_device_goes_from_under_a_pin_and_the_pin_finds_no_struct_page_as_f_10_tells(name: str) -> None:
    text = logged(name)
    pinned = int(re.findall(r"pinned PFN (\w+)", text)[0], 16)
    after = text.partition("device_dax/unbind")[2]
    assert "echo $?\n0\n" in after and "nr_memmap_pages 0\n" in after and "the holder is alive" in after
    # With five levels the vmemmap begins at 0xffd4000000000000, a struct page has 64 bytes, its head at 8.
    fault = int(re.findall(r"page fault for address: (\w+)", after)[0], 16)
    assert fault == 0xFFD4000000000000 + 64 * pinned + 8


def test_a_leaf_of_boot_memory_is_taken_for_a_table_as_f_14_tells() -> None:
    """The struct page of what the leaf maps first is wanted: that of the memory that has just gone."""
    text = logged(f"{X86}-part-of-a-boot-leaf")
    assert "DirectMap1G:     4194304 kB" in text
    after = text.partition("device_del")[2]
    assert "memory32\n" not in after and "memory33\n" in after
    fault = int(re.findall(r"page fault for address: (\w+)", after)[0], 16)
    assert fault == 0xFFD4000000000000 + 64 * (0x100000000 >> 12)
    assert "free_pagetable" in after and "remove_pagetable" in after


def test_no_block_of_a_larger_dimm_goes_on_a_cpu_with_bbml2_as_f_15_tells() -> None:
    text = logged("arm64-7.2.13+deb14-cloud-arm64-bbml2")
    assert "BBM Level 2 without TLB conflict abort" in text
    run, k = rehearsed("arm64-bbml2-stays.toml")
    assert [step.outcome.result for step in run.steps] == ["ok", "EPERM", "EBUSY"]
    told = re.compile(r"\[\w+ \w+\] splits a leaf entry in linear map|memory offlining .*|memory memory32: .*")
    said = [line for each in text.splitlines() if told.fullmatch(line := each.partition("] ")[2])]
    assert said == [line.text for line in k.hw.log_lines if told.fullmatch(line.text)]
    assert len(said) == 2 * 8 + 2 * 8 + 2 + 1


@pytest.mark.parametrize(
    ("name", "arch"),
    [
        ("arm64-7.2.13+deb14-cloud-arm64-table-counts", "arm64"),
        ("riscv64-7.2.13+deb14-riscv64-table-counts", "riscv64"),
    ],
)
def test_counts_of_page_tables_drift_in_a_guest_as_f_18_tells(name: str, arch: Any) -> None:
    """A guest that does as much time after time; on riscv64 its shell has a table more or less now and then."""
    counts = [int(gone) for gone in re.findall(r"nr_page_table_pages (\d+)$", logged(name), re.M)][-8:]
    config = page_table_counts._config(arch, "linux-7.2")
    assert round((counts[-1] - counts[0]) / 7) == page_table_counts.drift(config)


def held(name: str) -> tuple[str, str]:
    """What a guest showed before and after a task of it went on that a debugger had held."""
    before, _, after = logged(f"{X86}-{name}").rpartition("(debugger)")
    return before, after


def test_frames_are_given_back_while_nothing_is_flushed_as_f_3_tells() -> None:
    before, _ = held("flush-held")
    _, _, since = before.partition("the entry is 0x0, nothing is flushed yet")
    assert re.findall(r"^ +512 +(\w+)$", since, re.M)[0] == f"{1 << 10:016x}", "KPF_BUDDY"
    assert "flushed by then: False" in since


def test_a_reader_of_kpagecount_finds_the_struct_page_gone_as_f_8_tells() -> None:
    before, after = held("page-reader-held")
    (page,) = re.findall(r"pfn_to_online_page\(\w+\) has answered (\w+);", before)
    assert "device_del: ok" in before and "No such file or directory" in before
    assert f"page fault for address: {page.removeprefix('0x')}" in after and "get_kpage_count" in after


def test_a_block_goes_offline_while_virtio_mem_asks_for_the_zone_of_its_page_as_f_9_tells() -> None:
    before, after = held("big-block-held")
    assert "cd /\noffline\nonline\n(debugger) the driver sleeps still: True" in before
    assert "memory35" not in after and after.count("Offlined Pages 32768") == 2


def test_a_memory_block_is_lost_count_of_and_goes_online_as_f_28_tells() -> None:
    before, after = held("block-count-held")
    assert before.index("is about to add memory33") < before.index("one block was OFFLINE, 0 are to be written")
    assert "memory32/state:online\n" in after and "memory33/state:offline\n" in after
    assert "kernel BUG at drivers/virtio/virtio_mem.c:449" in after.partition("echo online_movable")[2]
    assert "virtio_mem_memory_notifier_cb" in after


def test_a_memory_error_is_counted_in_freed_memory_as_f_11_tells() -> None:
    before, after = held("poison-counter-held")
    assert "device_del: ok" in before and "the block is found, get_device(" in before
    (device,) = (int(each, 16) for each in re.findall(r"get_device\((\w+)\)", before))
    (raised,) = (int(each, 16) for each in re.findall(r"Poison overwritten\] (\w+)-", after))
    assert device - 0x20 < raised < device - 0x20 + 1024
    assert "First byte 0x6c instead of 0x6b" in after and "action_result" in after


def test_a_claim_above_a_hole_has_a_parent_that_is_freed_as_f_19_tells() -> None:
    text = logged(f"{X86}-resource-split")
    assert re.search(r"the parent of the second is \w+, which holds (6b){16};", text)
    assert "general protection fault" in text and "release_resource" in text


def test_a_plan_is_cancelled_that_no_memory_notifier_heard_of_as_f_20_tells() -> None:
    text = logged(f"{X86}-node-notifier-refuses")
    called = re.findall(r"(?:memory|node)_notify\((\w+)\) is called", text)
    assert called == [
        "NODE_ADDING_FIRST_MEMORY", "MEM_CANCEL_ONLINE", "NODE_CANCEL_ADDING_FIRST_MEMORY",
        "NODE_REMOVING_LAST_MEMORY", "MEM_CANCEL_OFFLINE", "NODE_CANCEL_REMOVING_LAST_MEMORY",
    ]  # fmt: skip
