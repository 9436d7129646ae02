"""The whole life cycle everywhere: released kernels are whole, series as posted break as they are known to."""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
from dataclasses import replace
from typing import Any

import pytest

from memhp.cli.main import main
from memhp.linux.choices import Arch
from memhp.linux.config import Config, configs
from memhp.linux.profiles import PROFILES, profile
from memhp.scenario import known_faults
from memhp.scenario.known_faults import KNOWN, KnownFault, known_fault
from memhp.target.model.matrix import MatrixRow, life_cycle, matrix
from memhp.units import KiB

RELEASED = [
    pytest.param(name, arch, id=f"{name} {arch}")
    for name in PROFILES
    if name.startswith("linux-")
    for arch in profile(name).arches
]
LEAKS = {"direct-map", "vmemmap", "page-tables", "round-trip"}
"""Laws that break when removal leaves everything mapped."""

BROKEN = {
    ("riscv-hotplug-v1", 4 * KiB, 39): LEAKS,
    ("riscv-hotplug-v1", 4 * KiB, 48): LEAKS,
    ("arm64-hotremove-v5", 4 * KiB, 39): {"flush-before-free"},
    ("arm64-hotremove-v5", 4 * KiB, 48): {"flush-before-free"},
}
"""What is broken in the series as posted, by page size and address width."""


@pytest.mark.parametrize(("name", "arch"), RELEASED)
def test_every_configuration_of_a_released_kernel_keeps_every_law_but_for_what_loongarch_leaks(
    name: str, arch: Arch
) -> None:
    for row in matrix(configs(profile(name), [arch]), workers=1):
        if arch == "loongarch64":
            assert (row.ok, row.broken, bool(row.known), row.as_known) == (False, ["vmemmap", "round-trip"], True, True)
            assert row.memmap == row.added // row.page_size * 80
            continue
        assert (row.ok, row.failed, row.broken, row.known, row.as_known) == (True, "", [], "", True)
        assert row.memmap == row.added // row.page_size * 64
        assert row.tables_left == 0


def test_loongarch_would_be_whole_if_it_freed_struct_pages() -> None:
    kernel = profile("linux-7.2").choosing("loongarch64", {"vmemmap_free": "unused"})
    for row in matrix(configs(kernel, ["loongarch64"]), workers=1):
        assert (row.ok, row.failed, row.known) == (True, "", "")
        assert row.memmap_leaf == "PMD"


@pytest.mark.parametrize("name", [name for name in PROFILES if not name.startswith("linux-")])
def test_the_series_as_posted_break_where_and_how_they_are_known_to(name: str) -> None:
    for row in matrix(configs(profile(name)), workers=1):
        wanted = BROKEN.get((name, row.page_size, row.va_bits), set())
        assert set(row.broken) == wanted
        assert (row.ok, bool(row.known), row.as_known) == (not wanted, bool(wanted), True)


def riscv(name: str, va_bits: int, **choices: Any) -> Config:
    return Config("riscv64", profile(name).choosing("riscv64", choices), 4 * KiB, va_bits).validate()


def arm64(name: str, page_size: int, va_bits: int, **choices: Any) -> Config:
    return Config("arm64", profile(name).choosing("arm64", choices), page_size, va_bits).validate()


@pytest.mark.parametrize("va_bits", [39, 48])
def test_a_series_that_skips_folded_levels_is_whole(va_bits: int) -> None:
    repaired = riscv("riscv-hotplug-v1", va_bits, folded_levels="skipped")
    assert known_fault(repaired) is None
    assert life_cycle(repaired).ok


@pytest.mark.parametrize("va_bits", [39, 48, 57])
@pytest.mark.parametrize(
    ("release", "mended"),
    [("6.11", False), ("6.12.102", False), ("6.12.103", True), ("6.12", True), ("6.18", False), ("7.2", True)],
)
def test_releases_from_6_11_on_removed_nothing_under_sv39_and_sv48_until_the_mend(
    release: str, mended: bool, va_bits: int
) -> None:
    """Commit a0188cc13369 is in 7.2; Debian's changelog has it under 6.12.103."""
    fault = known_fault(riscv(release, va_bits))
    assert (fault is None) is (mended or va_bits == 57)


def test_a_series_that_flushes_what_huge_leaves_mapped_is_whole() -> None:
    repaired = arm64("arm64-hotremove-v5", 4 * KiB, 48, leaf_flush="each-range")
    assert known_fault(repaired) is None
    assert life_cycle(repaired).ok


def test_a_fault_goes_with_its_choices_and_not_with_a_name() -> None:
    row = life_cycle(riscv("linux-7.2", 39, folded_levels="indexed"))
    assert (row.ok, row.as_known, set(row.broken)) == (False, True, LEAKS)
    assert known_fault(riscv("linux-7.2", 57, folded_levels="indexed")) is None


@pytest.mark.parametrize("laws", [LEAKS - {"vmemmap"}, LEAKS | {"locks"}])
def test_a_fault_that_breaks_other_laws_than_is_known_is_not_as_known(
    laws: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = replace(KNOWN[0], laws=frozenset(laws))
    monkeypatch.setattr(known_faults, "KNOWN", (fault,))
    row = life_cycle(riscv("riscv-hotplug-v1", 48))
    assert (row.ok, row.known, row.as_known) == (False, fault.why, False)


def printed(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, list[str]]:
    code = main(["matrix", "--jobs", "1", *args])
    return code, [line.rstrip() for line in capsys.readouterr().out.splitlines()]


def test_known_faults_are_marked_with_their_reason_and_end_well(capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = printed(capsys, "--profile", "riscv-hotplug-v1")
    assert code == 0
    assert [line[0] for line in lines[1:4]] == ["~", "~", "✓"]
    assert sum(line == f"  known: {KNOWN[0].why}" for line in lines) == 2
    assert lines[-1] == "1 of 3 configurations came through with every law held, 2 broke as they are known to."


def test_a_fault_that_nobody_knows_of_fails_the_matrix(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_faults, "KNOWN", ())
    code, lines = printed(capsys, "--profile", "riscv-hotplug-v1")
    assert code == 1
    assert [line[0] for line in lines[1:4]] == ["✗", "✗", "✓"]
    assert any(line.startswith("✗ riscv-hotplug-v1 riscv64 4 KiB 39-bit: direct-map: ") for line in lines)


def test_a_known_fault_that_does_not_show_fails_the_matrix(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    imagined = KnownFault({"folded_levels": "skipped"}, frozenset({"locks"}), "a lock is forgotten", levels=(5,))
    monkeypatch.setattr(known_faults, "KNOWN", (imagined,))
    code, lines = printed(capsys, "--profile", "linux-7.2", "--arch", "riscv64")
    assert code == 1
    assert [line[0] for line in lines[1:4]] == ["✓", "✓", "✗"]
    at = lines.index("✗ linux-7.2 riscv64 4 KiB 57-bit: whole")
    assert lines[at + 1] == "  not as known: a lock is forgotten"


def test_json_has_the_rows_whatever_the_number_of_workers(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    outputs = []
    for jobs in ("1", "2"):
        assert main(["matrix", "--profile", "riscv-hotplug-v1", "--jobs", jobs, "--json"]) == 0
        outputs.append(capfdbinary.readouterr().out)
    assert outputs[0] == outputs[1]
    report = json.loads(outputs[0])
    assert (report["schema"], report["verdict"]) == (1, "expected")
    assert [row["va_bits"] for row in report["rows"]] == [39, 48, 57]
    assert set(report["rows"][0]) == set(MatrixRow.__struct_fields__)
