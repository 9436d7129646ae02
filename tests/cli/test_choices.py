"""``memhp choices`` and ``--choice``."""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
from pathlib import Path

import pytest

from memhp.cli.main import main

EXAMPLES = Path(__file__).parents[2] / "examples"
OLD = ["linux-5.13", "linux-5.15", "linux-6.1"]


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(list(words))
    return code, *capsys.readouterr()


def test_a_choice_is_told_with_its_values_its_kernels_and_its_commits(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = said(capsys, "choices", "memmap_on_memory")
    assert code == 0
    for text in ("mhp_supports_memmap_on_memory()", "since 6.8", "split memmap_on_memory requests across memblocks"):
        assert text in out
    assert max(map(len, out.splitlines())) <= 80


def test_as_json_every_kernel_has_a_column(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = said(capsys, "choices", "memmap_on_memory", "--json")
    (row,) = json.loads(out)["choices"]
    had = {each["kernel"]: each["value"] for each in row["kernels"]}
    assert {had[name] for name in OLD} == {"one-block"}
    assert had["linux-6.6"] == "one-block-or-force"
    assert (row["history"][-1]["since"], row["history"][-1]["value"]) == ("6.8", "many-blocks")


def test_what_is_not_established_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = said(capsys, "choices", "vmap_huge_lock", "--profile", "6.6", "--json")
    (row,) = json.loads(out)["choices"]
    assert row["kernels"] == [{"kernel": "linux-6.6", "settled": False, "value": "none"}]
    _, out, _ = said(capsys, "choices", "vmap_huge_lock", "--profile", "6.6")
    assert "6.6? none" in out


def test_the_whole_list_is_narrow(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = said(capsys, "choices")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    assert {"riscv64", "arm64", "x86_64"} < set(out.splitlines())


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["choices", "leaf_fluh"], "memhp: leaf_fluh: there is no such choice (did you mean leaf_flush?)"),
        (["choices", "pud_free", "--arch", "arm64"], "memhp: pud_free: is no choice of arm64 (it is one of x86_64)"),
        (
            ["matrix", "--arch", "riscv64", "--choice", "vmemmap_partial_pmdx=1"],
            "memhp: --choice vmemmap_partial_pmdx: there is no such choice (did you mean vmemmap_partial_pmd, a choice "
            "of x86_64?)",
        ),
        (
            ["matrix", "--arch", "riscv64", "--choice", "vmemmap_partial_pmd=true"],
            "memhp: --choice vmemmap_partial_pmd: is no choice of riscv64 (it is one of x86_64)",
        ),
        (
            ["matrix", "--choice", "vmemmap_free=unused", "--choice", "pud_free=detach-first"],
            "memhp: --choice vmemmap_free: is no choice of riscv64 (it is one of loongarch64)",
        ),
        (
            ["matrix", "--choice", "end_flush=none", "--choice", "end-flush=all"],
            "memhp: --choice end_flush: told twice (keep one of them)",
        ),
        (["choices", "zzz"], "memhp: zzz: there is no such choice (one of acpi_device_check, "),
        (["choices", "--profile", "5.12"], "memhp: --profile: no kernel profile '5.12' (one of "),
        (["matrix", "--choice", "pgd_list"], "memhp: --choice: want NAME=VALUE, got 'pgd_list'"),
        (
            ["matrix", "--arch", "x86_64", "--choice", "end_flush=direct-map-range"],
            'memhp: --choice end_flush: cannot be "direct-map-range" (one of none, all)',
        ),
        (
            ["rehearse", str(EXAMPLES / "first-plug.toml"), "--choice", "pgd_polcy=none"],
            "memhp: --choice pgd_polcy: there is no such choice (did you mean pgd_policy?)",
        ),
        (
            ["explore", "vmalloc-fault", "--variant", "no-fault-handler", "--choice", "vmalloc_fault=perhaps"],
            'memhp: --choice vmalloc_fault: want true or false, got "perhaps"',
        ),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_what_there_is_not_is_refused_in_one_line(
    capsys: pytest.CaptureFixture[str], words: list[str], text: str
) -> None:
    code, out, err = said(capsys, *words)
    assert (code, out) == (2, "")
    assert err.startswith(text)
    assert err.count("\n") == 1


def test_a_rehearsal_follows_the_choice(capsys: pytest.CaptureFixture[str]) -> None:
    quick = ("rehearse", "--machine", "x86-vm", "--plug", "128M", "--unplug")
    assert said(capsys, *quick)[0] == 0
    code, out, _ = said(capsys, *quick, "--choice", "end_flush=none", "--choice", "pte_table_flush=none")
    assert code == 1
    assert "can still be reached" in out


def test_an_exploration_follows_the_choice(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = said(
        capsys, "explore", "vmalloc-fault", "--variant", "no-fault-handler", "--choice", "vmalloc_fault=true", "--json"
    )
    found = json.loads(out)
    assert (found["verdict"], found["choices"]) == ("safe", {"vmalloc_fault": "true"})


def test_the_matrix_goes_over_the_kernels_that_have_the_choice(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("matrix", "--profile", "6.12", "--page-size", "4K", "--jobs", "1", "--choice", "pud_free=detach-first")
    code, out, _ = said(capsys, *words, "--json")
    found = json.loads(out)
    assert code == 0
    assert {row["arch"] for row in found["rows"]} == {"x86_64"}
    assert found["choices"] == {"pud_free": "detach-first"}
