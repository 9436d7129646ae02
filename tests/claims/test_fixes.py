"""Fixes: exact about titles and releases, each shown on both sides, and only what a kernel lacks is told of it."""
# SPDX-License-Identifier: GPL-2.0-or-later

import json

import pytest

from memhp.claims.fix import Fix, Shown
from memhp.claims.fixes import FIXES, fix_rows
from memhp.cli.main import main
from memhp.errors import BadInput
from memhp.linux.choice_table import choice_rows
from memhp.linux.release import parse_release

SHOWN = [fix for fix in FIXES if fix.status == "shown"]


def by_title(part: str) -> Fix:
    (found,) = [fix for fix in FIXES if part in fix.since.title]
    return found


@pytest.mark.parametrize("fix", SHOWN, ids=lambda fix: fix.since.title)
def test_it_is_broken_before_and_right_after(fix: Fix) -> None:
    assert fix.witness is not None
    shown = fix.witness.show()
    assert shown.holds, shown


def test_the_witness_of_a_fix_says_what_goes_wrong() -> None:
    """x86-64 before 6.12.48: the struct pages of far device-dax are missing in a process that was there before."""
    witness = by_title("introduce and use {pgd,p4d}_populate_kernel").witness
    assert witness is not None
    assert witness.show() == Shown("law processes", "")


def test_every_fix_has_a_title_of_its_own_and_says_why_it_is_not_shown() -> None:
    assert len({fix.since.title for fix in FIXES}) == len(FIXES)
    for fix in FIXES:
        assert fix.since.title and fix.wrong
        assert (fix.witness is not None) == (fix.status == "shown")
        assert bool(fix.reason) == (fix.status != "shown")
        for point in fix.since.stable:
            release = parse_release(point)
            assert release is not None and release.point


@pytest.mark.parametrize(
    ("title", "has", "lacks"),
    [
        # Point releases under which Debian's changelogs of 6.1 and 6.12 list the commits.
        ("add missing mem_hotplug_lock", ["6.1.72", "6.7", "6.12"], ["6.1.71", "5.13"]),
        ("fix error handling in add_memory_resource", ["6.1.72", "6.12.1"], ["6.1.71", "6.6"]),
        ("fix race in accessing memory_section->usage", ["6.1.76", "6.6.15", "6.8"], ["6.1.75", "6.6.14"]),
        ("set mem->altmap after successful", ["6.12.95", "7.1.2", "6.6"], ["6.12.94", "7.1.1", "6.18"]),
        ("fix memory block reference leak on remove", ["6.12.92", "6.1.100"], ["6.12.91"]),
        ("riscv: mm: Fix the out of bound issue", ["6.12.10", "6.13", "6.6"], ["6.12.9"]),
        ('use "unsigned long" for PFN', ["5.14.6", "5.15"], ["5.14.5", "5.13"]),
        ("take the memory hotplug lock inside ptdump_walk_pgd", ["6.1.149", "6.12.43", "6.17"], ["6.1.148", "6.12.42"]),
        ("introduce and use {pgd,p4d}_populate_kernel", ["6.1.153", "6.12.48", "6.17", "5.15"], ["6.1.152", "6.12.47"]),
        ("Populate vmemmap at the page level", ["6.1.132", "6.12.20", "7.2"], ["6.1.131", "6.12.19"]),
        # Point releases in whose review the stable list had the commits.
        ("isolate_single_pageblock() isolation", ["5.19.14", "6.0", "5.18", "6.1.1"], ["5.19.13", "5.19.1"]),
        ("fix memunmap_pages() race", ["5.15.61", "5.18.18", "5.19.2", "6.0"], ["5.15.60", "5.18.17", "5.19.1"]),
        ("never partially remove memmap", ["5.9", "5.13", "6.1.1"], ["5.8", "5.4"]),
    ],
)
def test_which_kernels_have_it(title: str, has: list[str], lacks: list[str]) -> None:
    fix = by_title(title)
    for name in has:
        release = parse_release(name)
        assert release is not None and fix.lacking(release) is None, name
    for name in lacks:
        release = parse_release(name)
        assert release is not None and fix.lacking(release) is not None, name


def test_fixes_and_choices_say_the_same_of_a_commit() -> None:
    choices = {step.commit: step for row in choice_rows() for step in row.history if step.commit}
    both = [fix.since for fix in FIXES if fix.since.title in choices]
    assert len(both) > 30
    assert [(each.title, each.release) for each in both] == [(each.title, choices[each.title].since) for each in both]


def test_what_only_newer_series_took_is_not_said_to_be_lacking_for_certain() -> None:
    titles = {row.title: row.lack for row in fix_rows("6.1.176")}
    assert titles["dax/kmem: account for partial discontiguous resource upon removal"] == "not established"


def test_what_came_after_a_kernel_is_not_lacking_there() -> None:
    """6.1 has no remove_memory_blocks_and_altmaps(), and so no reference that it could leak."""
    titles = {row.title for row in fix_rows("6.1.176")}
    assert "mm/memory_hotplug: fix memory block reference leak on remove" not in titles


def test_a_kernel_with_every_fix_lacks_none() -> None:
    assert fix_rows("7.2") == []


def test_an_unknown_kernel_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(BadInput, match="no kernel 'six'"):
        fix_rows("six")


def test_the_command_tells_what_a_kernel_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fixes", "--kernel", "6.1.100"]) == 0
    out = capsys.readouterr().out
    assert "introduce and use {pgd,p4d}_populate_kernel()" in out
    assert "add missing mem_hotplug_lock" not in out
    assert all(len(line) <= 80 for line in out.splitlines())
    assert main(["fixes", "--kernel", "6.1.100", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["kernel"] == "6.1.100"
    assert {row["lack"] for row in document["fixes"]} == {"lacks", "not established"}


@pytest.mark.parametrize(
    ("kernel", "said"),
    [
        ("6.1.100", ""),
        ("6.6", "6.6 names no point release and is taken as the last of 6.6.y: write 6.6.N for another"),
        ("6.1.0-21-amd64", "names no point release (uname -v may have it) and is taken as the last of 6.1.y"),
        ("5.14.0-427.el9", "what a distribution took back by itself is not known here"),
        ("6.12.94+deb13-amd64", "what a distribution took back by itself is not known here"),
        ("6.18-rc3", ""),
    ],
)
def test_what_a_kernels_name_does_not_say_is_told(kernel: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fixes", "--kernel", kernel, "--json"]) == 0
    left_open = json.loads(capsys.readouterr().out)["left_open"]
    assert (said in left_open) and bool(said) == bool(left_open)
    assert main(["fixes", "--kernel", kernel]) == 0
    out = capsys.readouterr().out
    assert said[1:] in " ".join(out.split())
    assert all(len(line) <= 80 for line in out.splitlines())
