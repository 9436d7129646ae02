"""An architecture is one port: nothing outside its folder imports or names it, and imports go round in no circle."""
# SPDX-License-Identifier: GPL-2.0-or-later

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import memhp
from memhp.linux.arch.registry import ARCHES, FOLDERS, port

PACKAGE = Path(memhp.__file__).parent
NAMED_BY_RIGHT = re.compile(
    r"linux/arch/|linux/profiles\.py|scenario/(presets|platforms)\.py|scenario/qemu|explore/cases/|claims/|target/(guest|device)/"
)
"""Folders of architectures, the registry, mail series, presets, boards of QEMU and others, races, claims, and guests
with real kernels, whose images and machines have names of their own."""


def module_name(path: Path) -> str:
    parts = ("memhp", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """Every node but what stands under ``if TYPE_CHECKING``."""
    yield node
    only_types = isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    for child in node.orelse if only_types and isinstance(node, ast.If) else ast.iter_child_nodes(node):
        yield from statements(child)


def imported(tree: ast.AST) -> set[str]:
    """The modules of the package that a module imports, at its top or in a function."""
    found = set()
    for node in statements(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in SOURCES else node.module for name in whole}
    return found & SOURCES.keys()


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The strongly connected parts of a graph with more than one member: Tarjan's algorithm (SIAM J. Comput., 1972)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(name: str) -> None:
        order[name] = low[name] = len(order)
        stack.append(name)
        for other in graph[name]:
            if other not in order:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], order[other])
        if low[name] == order[name]:
            at = stack.index(name)
            part, stack[at:] = stack[at:], []
            if len(part) > 1:
                found.append(sorted(part))

    for name in graph:
        if name not in order:
            visit(name)
    return found


def names_in(tree: ast.AST) -> list[tuple[int, str]]:
    """String literals that are an architecture's name, or a place below its folder: (line, text). Not docstrings."""
    texts = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    words = {*ARCHES, *FOLDERS.values(), *(word for arch in ARCHES for word in port(arch).uname_words)}
    place = re.compile(rf"arch/({'|'.join(FOLDERS.values())})/")
    return [
        (node.lineno, node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in texts
        if node.value in words or place.match(node.value)
    ]


def test_nothing_outside_its_folder_imports_an_architecture() -> None:
    inside = re.compile(r"memhp\.linux\.arch\.(?!registry$|generic$)\w+")
    wrong = [
        f"{name} imports {other}"
        for name, path in SOURCES.items()
        for other in imported(ast.parse(path.read_text(encoding="utf-8")))
        if (found := inside.match(other)) and not (f"{name}.".startswith(f"{found[0]}."))
    ]
    assert wrong == []


def test_nothing_outside_its_folder_names_an_architecture() -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)}:{line}: {text}"
        for path in SOURCES.values()
        if not NAMED_BY_RIGHT.match(path.relative_to(PACKAGE).as_posix())
        for line, text in names_in(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert wrong == []


def test_imports_go_round_in_no_circle() -> None:
    graph = {name: imported(ast.parse(path.read_text(encoding="utf-8"))) - {name} for name, path in SOURCES.items()}
    assert circles(graph) == []


def test_a_circle_and_a_name_would_be_seen() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()}) == [["a", "b", "c"]]
    assert names_in(ast.parse(f'"""{ARCHES[0]}"""\nif arch == "{ARCHES[0]}":\n    pass')) == [(2, ARCHES[0])]
    lazy = "def f():\n    from memhp.linux import config\nif TYPE_CHECKING:\n    import memhp.errors\n"
    assert imported(ast.parse(lazy)) == {"memhp.linux.config"}


@pytest.mark.parametrize("arch", ARCHES)
def test_a_port_answers_for_the_architecture_that_the_registry_knows(arch: str) -> None:
    mine = port(arch)
    assert mine.name == arch
    assert {fmt.arch for fmt in mine.formats} == {arch}
    assert {fmt.page_size for fmt in mine.formats} == set(mine.va_bits) == set(mine.max_page_order)
    assert sum(mine.elf_machine == port(other).elf_machine for other in ARCHES) == 1
