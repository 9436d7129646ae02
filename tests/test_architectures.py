"""An architecture is one port: nothing outside its folder imports or names it, and imports go round in no circle."""
# SPDX-License-Identifier: GPL-2.0-or-later

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

import memhp
from memhp.linux.arch.registry import ARCHES, FOLDERS, port
from memhp.linux.choices import records

PACKAGE = Path(memhp.__file__).parent
NAMED_BY_RIGHT = {
    "linux/arch/": "the folders, and the registry",
    "linux/profiles.py": "mail series",
    "scenario/presets.py": "machines that a scenario can name",
    "scenario/platforms.py": "boards of QEMU and others",
    "explore/cases/": "races",
    "claims/": "claims and findings",
    "target/guest/machines.py": "boards of guests",
    "target/guest/flavours.py": "a distribution's builds",
    "target/guest/program.py": "instructions of guests' programs",
    "target/guest/pin_program.py": "numbers of their system calls",
}
"""Where architectures are named, and why there: tables of what has one."""
DOCUMENTATION = {"choice", "since", "help", "fix", "EXAMPLES"}
"""What a choice decides and the titles of its commits; what a command's help and an error show as an example: names of
functions, arguments, and a table."""


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


def imported(tree: ast.AST, *, types: bool = False) -> set[str]:
    """The modules of the package that a module imports, at its top or in a function; with `types` for types too."""
    found = set()
    for node in ast.walk(tree) if types else statements(tree):
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


def documentation(tree: ast.AST) -> Iterator[ast.expr]:
    """Docstrings, and what is read by people only: `DOCUMENTATION`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield node.value
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield from (node.value for _ in DOCUMENTATION & {node.targets[0].id})
        elif isinstance(node, ast.Call):
            yield from (word.value for word in node.keywords if word.arg in DOCUMENTATION)
            if isinstance(node.func, ast.Name) and node.func.id in DOCUMENTATION:
                yield from node.args


def read_by_people(text: ast.expr) -> Iterator[ast.AST]:
    """The parts of a documentation's expression, but for what it is made to depend on."""
    parts: list[ast.AST] = [text]
    while parts:
        yield (part := parts.pop())
        parts += [child for child in ast.iter_child_nodes(part) if not isinstance(child, ast.Compare)]


def texts_of(node: ast.AST) -> Iterator[str]:
    """What a node says: a literal, and names that stand for a value as a literal would, such as those of an Enum."""
    match node:
        case ast.Constant(value=str(text)) | ast.Name(id=text) | ast.Attribute(attr=text):
            yield text
        case ast.Constant(value=bytes(raw)):
            yield raw.decode("latin-1")
        case ast.keyword(arg=str(text)) | ast.FunctionDef(name=text) | ast.ClassDef(name=text) | ast.arg(arg=text):
            yield text


def names_in(tree: ast.AST) -> list[tuple[int, str]]:
    """Literals and names of the program in which an architecture's name stands as a word: (line, text).

    Parts of f-strings and keys of tables are literals too; documentation is none.
    """
    texts = {id(part) for text in documentation(tree) for part in read_by_people(text)}
    words = {*ARCHES, *FOLDERS.values(), *(word for arch in ARCHES for word in port(arch).uname_words)}
    name = re.compile(rf"(?<![A-Za-z0-9])({'|'.join(sorted(words, key=len, reverse=True))})(?![A-Za-z0-9])", re.I)
    return [
        (getattr(node, "lineno", 0), text)
        for node in ast.walk(tree)
        if id(node) not in texts
        for text in texts_of(node)
        if name.search(text)
    ]


PORT = "memhp.linux.port"


class Module(NamedTuple):
    imports: set[str]
    with_types: set[str]
    names: list[tuple[int, str]]


@cache
def read(path: Path) -> Module:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return Module(imported(tree), imported(tree, types=True), names_in(tree))


def test_nothing_outside_its_folder_imports_an_architecture() -> None:
    inside = re.compile(r"memhp\.linux\.arch\.(?!registry$|generic$)\w+")
    wrong = [
        f"{name} imports {other}"
        for name, path in SOURCES.items()
        for other in read(path).with_types
        if (found := inside.match(other)) and not (f"{name}.".startswith(f"{found[0]}."))
    ]
    assert wrong == []


def test_nothing_outside_its_folder_names_an_architecture() -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)}:{line}: {text}"
        for path in SOURCES.values()
        if not path.relative_to(PACKAGE).as_posix().startswith(tuple(NAMED_BY_RIGHT))
        for line, text in read(path).names
    ]
    assert wrong == []


def test_whoever_may_name_an_architecture_does() -> None:
    """A file of the list that names none has no need to stand there."""
    named = {path.relative_to(PACKAGE).as_posix() for path in SOURCES.values() if read(path).names}
    assert [right for right in NAMED_BY_RIGHT if not any(name.startswith(right) for name in named)] == []


def test_imports_go_round_in_no_circle() -> None:
    graph = {name: read(path).imports - {name} for name, path in SOURCES.items()}
    assert circles(graph) == []


def test_only_the_protocol_of_ports_closes_circles_of_types() -> None:
    """A kernel has a port, and functions of the port take a kernel: `memhp.linux.port` declares what it names, as a
    header of C does, and imports nothing when it runs.
    """
    graph = {name: read(path).with_types - {name} for name, path in SOURCES.items()}
    (circle,) = circles(graph)
    assert {PORT, "memhp.linux.state"} < set(circle)
    assert read(SOURCES[PORT]).imports == set()
    assert circles({**graph, PORT: set()}) == []


@pytest.mark.parametrize(
    ("source", "seen"),
    [
        ('"""x86_64"""\n', []),
        ('if arch == "x86_64":\n    pass', ["x86_64"]),
        ('f"CONFIG_{one}-arm64-{two}"', ["-arm64-"]),
        ('{"riscv64": 1}', ["riscv64"]),
        ('place("arch/loongarch/mm/init.c")', ["arch/loongarch/mm/init.c"]),
        ('match("aarch64-linux-gnu")', ["aarch64-linux-gnu"]),
        ('option("arm64.nolva")', ["arm64.nolva"]),
        ('CONFIG["CONFIG_X86_64"]', ["CONFIG_X86_64"]),
        ('"max86 alarm64s"', []),
        ('BadInput("no such kernel", fix="7.2:arm64")', []),
        ('BadInput("no arm64 kernel", fix="6.12")', ["no arm64 kernel"]),
        ('since("6.5", "sync", "x86/mm: sync")', []),
        ('BadInput("no", fix="page" if arch == "arm64" else "block")', ["arm64"]),
        ('help = "a leaf" if arch in ("riscv64",) else "a page"', ["riscv64"]),
        ("class Kind(Enum):\n    ARM64 = 1", ["ARM64"]),
        ("dict(arm64=1)", ["arm64"]),
        ("k.is_riscv", ["is_riscv"]),
        ("def on_x86(k): ...", ["on_x86"]),
        ('told == b"x86_64"', ["x86_64"]),
    ],
)
def test_a_name_is_seen_wherever_it_stands_in_code(source: str, seen: list[str]) -> None:
    assert [text for _, text in names_in(ast.parse(source))] == seen


def test_imports_name_modules_in_full() -> None:
    """What they say is all that the tests above look at."""
    relative = [
        f"{name}: {'.' * node.level}{node.module or ''}"
        for name, path in SOURCES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []


def test_a_circle_would_be_seen() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()}) == [["a", "b", "c"]]
    lazy = "def f():\n    from memhp.linux import config\nif TYPE_CHECKING:\n    import memhp.errors\n"
    assert imported(ast.parse(lazy)) == {"memhp.linux.config"}
    assert imported(ast.parse(lazy), types=True) == {"memhp.linux.config", "memhp.errors"}


@pytest.mark.parametrize("arch", ARCHES)
def test_a_port_answers_for_the_architecture_that_the_registry_knows(arch: str) -> None:
    mine = port(arch)
    assert mine.name == arch
    assert {fmt.arch for fmt in mine.formats} == {arch}
    assert mine.record.arch == arch
    assert mine.record in records()
    assert {fmt.page_size for fmt in mine.formats} == set(mine.va_bits) == set(mine.max_page_order)
    assert sum(mine.elf_machine == port(other).elf_machine for other in ARCHES) == 1
