"""/sys/kernel/debug/page_owner in the forms that 6.1 and 6.12 print (mm/page_owner.c:print_page_owner)."""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
from pathlib import Path

import pytest

from memhp.facts import page_owner
from memhp.facts.capture import File
from memhp.facts.page_owner import PAGE_OWNER, Holder, parse, unmovable
from memhp.facts.source import FileSource
from memhp.spans import Span


def record(pfn: str, kind: str, *frames: str, order: int = 0, name: str = "modprobe", migrated: bool = False) -> str:
    """A record as the kernel prints it."""
    gfp = "mask 0xcc0(GFP_KERNEL), pid 71, tgid 71"
    stack = "".join(f" {frame}+0x1d/0x80\n" for frame in frames)
    moved = "Page has been migrated, last migrate reason: compaction\n" if migrated else ""
    return (
        f"Page allocated via order {order}, {gfp} ({name}), ts 1723 ns, free_ts 0 ns\n"
        f"PFN {pfn} type {kind} Block 64 type Movable Flags 0x100000000000000(node=0|zone=1)\n{stack}{moved}\n"
    )


SLAB = ("post_alloc_hook", "get_page_from_freelist", "__alloc_pages_noprof", "allocate_slab", "___slab_alloc",
        "kmem_cache_alloc_noprof", "ext4_alloc_inode", "alloc_inode")  # fmt: skip
PLAIN = ("post_alloc_hook", "get_page_from_freelist", "__alloc_frozen_pages_noprof", "alloc_pages_mpol",
         "alloc_pages_noprof", "pte_alloc_one", "__pte_alloc")  # fmt: skip
FILE = ("post_alloc_hook", "get_page_from_freelist", "__folio_alloc_noprof", "shmem_alloc_folio")


def text(radix: str = "0x") -> str:
    pfns = [f"0x{pfn:x}" if radix else str(pfn) for pfn in (0x8000, 0x8001, 0x8008, 0x8010, 0x9000)]
    return "".join((
        record(pfns[0], "Movable", *FILE, migrated=True),
        record(pfns[1], "Unmovable", *PLAIN),
        record(pfns[2], "Reclaimable", *SLAB, order=3, name="find (1)"),
        record(pfns[3], "Unmovable", *PLAIN),
        record(pfns[4], "Unmovable", *PLAIN, order=9),
    ))  # fmt: skip


@pytest.mark.parametrize("radix", ["0x", ""])
def test_those_that_do_not_move_are_told_by_who_wanted_them(radix: str) -> None:
    source = FileSource("t", "sysroot", {PAGE_OWNER: File(text(radix), "page_owner")})
    assert unmovable(source, Span(0x8000, 0x9000)) == [
        Holder(process="find (1)", function="ext4_alloc_inode", pages=8),
        Holder(process="modprobe", function="pte_alloc_one", pages=2),
    ]


def test_a_kernel_that_keeps_no_records_tells_nothing() -> None:
    assert unmovable(FileSource("t", "sysroot", {}), Span(0, 1 << 40)) is None


def test_a_record_that_is_cut_off_counts_as_far_as_it_goes() -> None:
    for cut in range(0, len(text()), 7):
        assert len(list(parse(text()[:cut]))) <= 5


def test_a_running_kernel_gives_a_record_a_read_from_the_pfn_on_that_was_sought(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """read_page_owner(): the place in the file is a PFN, which a read leaves behind the record that it gives."""
    records = {pfn: record(f"0x{pfn:x}", "Unmovable", *PLAIN) for pfn in (0x7000, 0x8001, 0x8005, 0x9000)}
    (tmp_path / "page_owner").touch()
    places: dict[int, int] = {}

    def read(fd: int, size: int) -> bytes:
        at = places.get(fd, os.lseek(fd, 0, os.SEEK_CUR))
        pfn = next((each for each in records if each >= at), None)
        places[fd] = (pfn or at) + 1
        return b"" if pfn is None else records[pfn].encode()[:size]

    monkeypatch.setattr(os, "read", read)
    found = page_owner._live(Span(0x8000, 0x9000), tmp_path / "page_owner")
    assert [each.pfn for each in found] == [0x8001, 0x8005]
