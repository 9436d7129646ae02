"""Kernel-side code reaches shared state through the machine's doors only."""
# SPDX-License-Identifier: GPL-2.0-or-later

import ast
from collections.abc import Iterator
from pathlib import Path

import memhp

LINUX = Path(memhp.__file__).parent / "linux"
BEHIND_THE_DOORS = {"arena", "tlb", "locks", "stepper", "_row"}
"""Attributes of the machine that only its own doors touch: table contents, stale translations, lock states."""
LOOKS_BEHIND = {
    "arch/x86/mm/pat/set_memory.py": "what /proc/meminfo tells, which no path of the kernel goes by",
}
"""Modules that look at the memory itself (``hw.memory``), past the doors, and why they may."""
OWNERS_CHANGED = {"set", "clear"}
"""Changes of the map of frame owners, which belong to claim, release, retag, plug and unplug."""


def reaches(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Places where code goes past the doors, as (line, what it touches)."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute):
            continue
        if node.attr in BEHIND_THE_DOORS and isinstance(node.value, ast.Attribute | ast.Name):
            owner = node.value.attr if isinstance(node.value, ast.Attribute) else node.value.id
            if owner in {"hw", "memory"}:
                yield node.lineno, f"{owner}.{node.attr}"
        if node.attr in OWNERS_CHANGED and isinstance(node.value, ast.Attribute) and node.value.attr == "owners":
            yield node.lineno, f"owners.{node.attr}"


def test_no_kernel_side_code_goes_past_the_doors() -> None:
    found = [
        f"{path.relative_to(LINUX)}:{line}: {what}"
        for path in sorted(LINUX.rglob("*.py"))
        for line, what in reaches(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert found == []


def test_who_uses_frames_is_looked_at_through_a_door() -> None:
    """``hw.owners`` announces what ``hw.memory`` does not."""
    found = {
        str(path.relative_to(LINUX))
        for path in sorted(LINUX.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "memory"
        if "hw" in (getattr(node.value, "attr", ""), getattr(node.value, "id", ""))
    }
    assert found == set(LOOKS_BEHIND)


def test_going_past_the_doors_would_be_seen() -> None:
    code = "k.hw.memory.arena.row(3)\nk.hw.tlb.flush(f, s, 0)\nk.hw.memory.owners.set(1, 2, o)\nhw.locks['a']\n"
    assert [what for _, what in sorted(reaches(ast.parse(code)))] == [
        "memory.arena",
        "hw.tlb",
        "owners.set",
        "hw.locks",
    ]
