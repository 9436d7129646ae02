"""A race of one's own: a file with a CASE is explored as those of the package; errors in it are errors, no verdicts."""
# SPDX-License-Identifier: GPL-2.0-or-later

from pathlib import Path

import pytest

from memhp.errors import BadInput
from memhp.explore.case import Configuration, Variant
from memhp.explore.cases import case
from memhp.explore.cases.actors import boot
from memhp.explore.doors.run import KernelProgram
from memhp.explore.explored import explore
from memhp.linux.state import Kernel

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_race.py"
MACHINE = Configuration("riscv64", 4096, 48)


def test_the_planted_bug_of_the_example_is_found_and_the_repair_is_safe() -> None:
    broken = explore(str(EXAMPLE), "free-first")
    assert (broken.verdict, broken.as_known) == ("broken", True)
    assert broken.reason is not None and broken.reason.startswith("flush-before-free: ")
    assert explore(str(EXAMPLE), "flush-first").verdict == "safe"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x = 1\n", "there is no CASE"),
        ("CASE = 1\n", "there is a CASE that is a int"),
        ("x = 1\ny = x +\n", r"own.py:2: SyntaxError"),
        ("x = 1\nx()\n", r"own.py:2: TypeError"),
    ],
)
def test_a_file_that_cannot_be_used_is_told_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "own.py"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=told):
        case(str(file))
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_that_is_not_there_is_refused() -> None:
    with pytest.raises(BadInput, match="cannot read it: No such file or directory"):
        case("nothing/here.py")


OWN = """\
from dataclasses import replace
from memhp.explore.cases.two_table_allocs import CASE as ANOTHER; from memhp.linux.mm.vmalloc import vmalloc
def check(k):
    {check}
def build(variant, configuration):
    {build}
CASE = replace(ANOTHER, build=build)
"""
"""A race of the package with another check."""
MADE = "return replace(ANOTHER.build(variant, configuration)"
TOO_LARGE = "vmalloc(ANOTHER.build(variant, configuration).kernel, 1 << 60, 'x')"
CHECKED = "return replace(ANOTHER.build(variant, configuration), check=check)"


@pytest.mark.parametrize(
    ("check", "build", "told"),
    [
        ("return k.nothing", CHECKED, r"own.py:4: AttributeError: 'Kernel' object has no attribute 'nothing'"),
        ("return True", CHECKED, r"own.py: check= gave a bool, wanted what is wrong as text, or None"),
        ("return None", "return 1 + ''", r"own.py:6: TypeError: unsupported operand"),
        ("return None", "return ANOTHER", r"own.py: build\(\) gave a Case, wanted a KernelProgram"),
        ("return None", f"{MADE}, actors=(), names=())", r"own.py: build\(\) gave a KernelProgram without actors"),
        ("return None", f"{MADE}, names=('a', 'a'))", r"own.py:6: names: two actors are called 'a' \(give each"),
        ("return None", TOO_LARGE, r"own.py:6: KernelError: ENOMEM: vmap allocation for size \d+ failed"),
    ],
)
def test_an_error_in_check_or_build_is_an_error_and_no_verdict(
    tmp_path: Path, check: str, build: str, told: str
) -> None:
    file = tmp_path / "own.py"
    file.write_text(OWN.format(check=check, build=build), encoding="utf-8")
    with pytest.raises(BadInput, match=told):
        explore(str(file), "looked-at-again")


def test_an_error_in_an_actor_is_an_error_with_its_place() -> None:
    def actor(k: Kernel) -> None:
        k.nonsense()  # type: ignore[attr-defined]

    k = boot(Variant("as it is", "", "repaired", (MACHINE,)).config(MACHINE))
    run = KernelProgram(k, (actor,), ("one",)).run()
    with pytest.raises(BadInput, match=r"test_case_file.py:\d+: one raised AttributeError"):
        run.step(0, 0)


def test_wrong_signatures_and_equal_names_are_refused() -> None:
    k = boot(Variant("as it is", "", "repaired", (MACHINE,)).config(MACHINE))

    def good(k: Kernel) -> None:
        """An actor."""

    def bad() -> None:
        """No actor."""

    with pytest.raises(BadInput, match="one: wanted a function of one argument"):
        KernelProgram(k, (bad,), ("one",))  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="two actors are called 'one'"):
        KernelProgram(k, (good, good), ("one", "one"))
    with pytest.raises(BadInput, match="wanted a name for each of 2 actors, got 1"):
        KernelProgram(k, (good, good), ("one",))
