"""Kernel functions are told apart by their text, whatever their comments and layout."""
# SPDX-License-Identifier: GPL-2.0-or-later

import ast
import lzma
import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import pytest

from kernel_functions import functions_of
from memhp import linux
from memhp.linux import place
from tools.c_functions import hashes
from tools.drift import (
    ABSENT,
    LEVELS,
    MODEL,
    PLACE,
    Row,
    Tree,
    drift,
    main,
    mirrored,
    modules,
    of_levels,
    read_table,
    record,
    record_defined,
)

ONE = """
static int __ref first(int a)
{
	return a; /* } */
}
EXPORT_SYMBOL(first);

#ifdef CONFIG_X
void __meminit second(unsigned long start, unsigned long end) {
	char c = '{';
}
#else
static inline void second(unsigned long start, unsigned long end) { }
#endif

#define third(x) \\
	((x) + 1)

struct fourth {
	int (*fn)(int);
};

static const struct ops table = {
	.fn = first,
};
"""


def test_definitions_are_found_whatever_stands_before_and_around_them() -> None:
    assert sorted(hashes(ONE)) == ["first", "second", "third"]


def test_comments_and_white_space_do_not_change_a_hash() -> None:
    other = ONE.replace("return a; /* } */", "// a comment\n\treturn\n\t\ta;").replace("((x) + 1)", "((x)  +  1)")
    assert hashes(other) == hashes(ONE)


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("return a;", "return -a;", "first"),
        ("char c = '{';", "char c = '}';", "second"),
        ("unsigned long end) { }", "unsigned long end) { return; }", "second"),
        ("(x) + 1", "(x) + 2", "third"),
    ],
)
def test_a_change_in_any_body_changes_the_hash_of_that_function_alone(old: str, new: str, changed: str) -> None:
    before, after = hashes(ONE), hashes(ONE.replace(old, new))
    assert [name for name in before if before[name] != after[name]] == [changed]


def tree(root: Path, release: str, **files: str) -> Tree:
    return tree_of(root, release, {f"mm/{name}.c": text for name, text in files.items()})


def tree_of(root: Path, release: str, files: Mapping[str, str]) -> Tree:
    (root / "mm").mkdir(parents=True)
    version, patchlevel = release.split(".")
    (root / "Makefile").write_text(f"VERSION = {version}\nPATCHLEVEL = {patchlevel}\n")
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return Tree(root)


def rows(*functions: str, before: Tree) -> list[Row]:
    places = [("mm/a.c", function, before.functions("mm/a.c").get(function, ABSENT)) for function in functions]
    return [Row(*place[:2], {"7.2": place[2]}, "") for place in [*places, ("mm/b.c", "b", ABSENT)]]


def test_drift_tells_what_changed_went_came_and_that_moving_alone_is_nothing(tmp_path: Path) -> None:
    body = "int {}(void)\n{{\n\treturn {};\n}}\n\n"
    old = tree(tmp_path / "old", "7.2", a=body.format("stays", 1) + body.format("moves", 2) + body.format("goes", 3))
    new = tree(tmp_path / "new", "7.3", a=body.format("stays", 4), b=body.format("moves", 2) + body.format("b", 5))
    found = drift(new, rows("stays", "moves", "goes", before=old), "7.2")
    assert [(each.what, each.row.function) for each in found] == [("changed", "stays"), ("gone", "goes"), ("new", "b")]


@pytest.mark.parametrize(
    ("there", "told"),
    [
        ({"arch/x86/mm/init.c": "leaf"}, "gone"),
        ({"arch/x86/mm/init.c": "leaf", "mm/b.c": "leaf"}, "gone"),
        ({"arch/x86/mm/init.c": "leaf", "arch/loongarch/mm/init.c": "other"}, "gone"),
        ({"arch/x86/mm/init.c": "leaf", "arch/loongarch/mm/pgtable.c": "leaf"}, ""),
        ({"arch/loongarch/mm/init.c": "other", "mm/b.c": "leaf"}, ""),
    ],
    ids=("no-such-port", "no-such-port-but-generic", "of-another-port-only", "within-the-port", "to-generic-code"),
)
def test_no_function_moves_from_one_architecture_to_another(tmp_path: Path, there: dict[str, str], told: str) -> None:
    body = "int {}(void)\n{{\n\treturn 1;\n}}\n"
    new = tree_of(tmp_path, "7.3", {file: body.format(name) for file, name in there.items()})
    known = {"7.2": hashes(body.format("leaf"))["leaf"]}
    others = [Row(file, "b", {"7.2": ABSENT}, "") for file in (*there, "mm/b.c")]
    found = drift(new, [Row("arch/loongarch/mm/init.c", "leaf", known, ""), *others], "7.2")
    assert [each.what for each in found] == [told] * bool(told)


SPOKEN_OF = (
    "arch/arm64/mm/mmu.c:force_pte_mapping",
    "drivers/acpi/acpi_memhotplug.c:acpi_bind_memory_blocks",
    "mm/page_alloc.c:alloc_contig_frozen_pages_noprof",
    "mm/page_alloc.c:pfn_range_valid_contig",
    "mm/page_isolation.c:isolate_single_pageblock",
)
"""Functions of 7.2 that are part of others in the model, which says so in a docstring or in the words of a choice."""


def test_functions_that_the_model_speaks_of_are_mirrored_and_a_change_of_one_is_told(tmp_path: Path) -> None:
    body = "static bool {}(void)\n{{\n\treturn false;\n}}\n"
    texts: dict[str, str] = {}
    for file, name in (spoken.split(":") for spoken in (*SPOKEN_OF, "arch/x86/mm/init.c:force_pte_mapping")):
        texts[file] = texts.get(file, "") + body.format(name)
    made_up = tree_of(tmp_path, "7.2", texts)
    assert [":".join(found) for found in mirrored([made_up])] == list(SPOKEN_OF)
    found = drift(made_up, read_table()[1], "7.2")
    assert {f"{each.row.file}:{each.row.function}" for each in found if each.what == "changed"} >= set(SPOKEN_OF)


def test_the_table_lists_every_function_of_its_own_file_that_a_module_speaks_of() -> None:
    releases, table = read_table()
    spoken = {f"{file}:{name}" for module in modules() for file in module.own_files for name in module.said}
    listed = {f"{row.file}:{row.function}" for row in table}
    assert sorted(spoken & functions_of(*releases) - listed) == []  # else: python3 dev.py drift --record


def test_the_table_lists_every_place_that_the_model_names_and_the_kernel_has() -> None:
    for module in walk_packages(linux.__path__, f"{linux.__name__}."):
        import_module(module.name)
    texts = [path.read_text(encoding="utf-8") for path in MODEL.rglob("*.py")]
    named = place.STATED | {":".join(found) for text in texts for found in PLACE.findall(text)}
    releases, table = read_table()
    kernels = functions_of(*releases)
    assert releases[0] == "6.1"
    assert {"6.12", "7.2"} <= set(releases)
    listed = {f"{row.file}:{row.function}" for row in table}
    assert sorted(named & kernels - listed) == []  # else: python3 dev.py drift --record
    assert len(table) >= len(named & kernels)
    for row in table:
        assert set(row.hashes.values()) != {ABSENT}, row
        assert all(known == ABSENT or re.fullmatch("[0-9a-f]{12}", known) for known in row.hashes.values()), row
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", row.compared), row


def test_table_and_list_of_functions_are_of_the_same_kernels() -> None:
    releases, table = read_table()
    for release in releases:
        having = {f"{row.file}:{row.function}" for row in table if row.hashes[release] != ABSENT}
        moved = {each.partition(":")[2] for each in having - functions_of(release)}
        assert moved <= {each.partition(":")[2] for each in functions_of(release)}
        assert len(having & functions_of(release)) > len(table) / 2


def test_functions_that_differ_by_level_are_mirrored_whether_named_or_told_by_a_pattern() -> None:
    assert LEVELS == place.LEVELS
    text = 'A = by_height(KERNEL_FILE, *(f"walk_{level}_range" for level in LEVELS))\nB = by_height("mm/a.c", "one")\n'
    assert set(of_levels(ast.parse(text))) == {*(f"walk_{level}_range" for level in LEVELS), "mm/a.c", "one"}


def test_the_list_has_every_function_of_the_files_that_the_model_names_and_who_has_it(tmp_path: Path) -> None:
    body = "int {}(void)\n{{\n}}\n\n"
    trees = {
        "7.1": tree(tmp_path / "old", "7.1", memory_hotplug=body.format("old") + body.format("both")),
        "7.2": tree(tmp_path / "new", "7.2", memory_hotplug=body.format("both"), nobody=body.format("elsewhere")),
    }
    assert record_defined(trees, tmp_path / "list.xz") == 2
    written = (tmp_path / "list.xz").read_bytes()
    lines = ["mm/memory_hotplug.c:both 7.1 7.2", "mm/memory_hotplug.c:old 7.1"]
    assert lzma.decompress(written).decode().splitlines() == lines
    record_defined(trees, tmp_path / "again.xz")
    assert (tmp_path / "again.xz").read_bytes() == written


def test_a_function_keeps_its_day_until_its_text_changes(tmp_path: Path) -> None:
    place = next(row for row in read_table()[1] if row.file == "mm/memory_hotplug.c")
    body = f"int {place.function}(void)\n{{\n\treturn 1;\n}}\n"
    table = tmp_path / "functions.tsv"
    first = tree(tmp_path / "one", "7.2", memory_hotplug=body)
    assert record({"7.2": first}, "2026-01-01", table) == 1
    record({"7.2": Tree(first.root)}, "2026-02-02", table)
    assert read_table(table)[1][0].compared == "2026-01-01"
    (first.root / "mm" / "memory_hotplug.c").write_text(body.replace("1", "2"))
    record({"7.2": Tree(first.root)}, "2026-03-03", table)
    assert read_table(table)[1][0].compared == "2026-03-03"


def test_what_is_no_kernel_tree_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
