"""``python3 dev.py drift SOURCE``: which kernel functions that memhp mirrors have another text in a source tree.

``tools/functions.tsv`` holds, for every function of the kernel that ``src/memhp/linux`` mirrors or names, the hash of
its text in the releases it was last compared with, and when that was: hashes and names only. Named are the places of
errors and traces, the functions that have the kernel's names here, and each ``name()`` that a text of ``linux/`` says,
as what a function does may be part of another here, or go by another name. A function is looked for in its file, and
where it is not there any more in the other files of the table, as functions move; not from one architecture to another.

``drift SOURCE`` compares with the newest release of the table that is not younger than the tree, ``drift SOURCE
--against 6.12`` with another. ``drift --record 6.1=TREE 6.12=TREE 7.2=TREE`` writes the table anew after the functions
that it listed have been read, and with it ``tests/data/functions/linux.txt.xz``: every function of the files that the
model stands for or names, and the releases that have it, which tests hold the model's places against.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import argparse
import ast
import datetime
import lzma
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tools.c_functions import hashes

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "src" / "memhp"
TABLE = Path(__file__).with_name("functions.tsv")
DEFINED = ROOT / "tests" / "data" / "functions" / "linux.txt.xz"
ABSENT = "-"
"""In the table: this release has no such function."""
HEAD = ("file", "function")
LAST = "compared"
STATED = re.compile(r'^KERNEL_FILE = "([^"]+)"', re.MULTILINE)
"""Where a module says which kernel file it stands for."""
OF_FILE = re.compile(r'^@of_file\("([^"]+)"\)', re.MULTILINE)
"""Where it says which other file a function is of."""
OWN = re.compile(r"\{KERNEL_FILE\}:(\w+)")
"""The names of a module's places in the file that it states."""
VERSION = re.compile(r"^(VERSION|PATCHLEVEL)\s*=\s*(\d+)", re.MULTILINE)
FILE = r"(?:arch|drivers|fs|include|init|kernel|lib|mm)/[\w/.-]*\w\.[chS]"
NAMED_FILE = re.compile(rf"\b{FILE}\b")
PLACE = re.compile(rf"\b({FILE}):([A-Za-z_]\w*)")
SAID = re.compile(r"``([A-Za-z_]\w*)\([^`]*\)``")
"""A function in a text: what a docstring or the words of a choice say of it."""
VARIANTS = ("", "_noprof")
"""What a function's name may end in where it is defined: allocations are accounted by a macro of the plain name."""
LEVELS = ("pte", "pmd", "pud", "p4d", "pgd")
"""What stands for ``level`` in the names of functions that the kernel has for each level of page tables."""


@dataclass(frozen=True)
class Row:
    """A kernel function, the hash of its text by release, and the day when it was last compared (ISO)."""

    file: str
    function: str
    hashes: dict[str, str]
    compared: str


def apart(file: str, other: str) -> bool:
    """Whether two files are of different architectures, so that no function moves between them."""
    return "" not in (ports := {_port(file), _port(other)}) and len(ports) > 1


def _port(file: str) -> str:
    """The folder of the architecture that a file is of; empty for what all share."""
    return "/".join(file.split("/")[:2]) if file.startswith("arch/") else ""


class Tree:
    """An unpacked kernel source tree. Raises ValueError when `root` is none."""

    def __init__(self, root: Path) -> None:
        makefile = root / "Makefile"
        if not makefile.is_file() or not (root / "mm").is_dir():
            raise ValueError(f"{root}: no kernel source tree there (no Makefile beside mm/)")
        found = dict(VERSION.findall(makefile.read_text(errors="replace")))
        if len(found) != 2:
            raise ValueError(f"{makefile}: names no VERSION and PATCHLEVEL")
        self.root = root
        self.release = f"{found['VERSION']}.{found['PATCHLEVEL']}"
        self._files: dict[str, dict[str, str]] = {}

    def functions(self, file: str) -> dict[str, str]:
        """The hashes of a file's functions; empty where the tree has no such file."""
        if file not in self._files:
            path = self.root / file
            self._files[file] = hashes(path.read_text(errors="replace")) if path.is_file() else {}
        return self._files[file]

    def find(self, file: str, function: str, others: Iterable[str]) -> tuple[str, str] | None:
        """(file, hash) of a function in its file or else in the only one of `others` that defines it.

        None also where the tree lacks the architecture that the file is of.
        """
        if not (self.root / _port(file)).is_dir():
            return None
        if found := self.functions(file).get(function):
            return file, found
        moved = [
            (other, self.functions(other)[function])
            for other in others
            if function in self.functions(other) and not apart(file, other)
        ]
        near = [place for place in moved if place[0].split("/")[:2] == file.split("/")[:2]]
        chosen = near if near else moved
        return chosen[0] if len(chosen) == 1 else None


@dataclass(frozen=True)
class Module:
    """What a module of the model names of the kernel: places, files, functions of its own files, and those of texts."""

    places: frozenset[tuple[str, str]]
    named_files: frozenset[str]
    own_files: frozenset[str]
    functions: frozenset[str]
    said: frozenset[str]
    """The functions that its docstrings and other texts speak of, in whichever file they are."""

    def concerns(self, file: str) -> bool:
        """Whether what its texts speak of may be in `file`: not in another architecture's."""
        return not any(apart(own, file) for own in self.own_files)


def read_module(path: Path) -> Module:
    """A module of ``linux/`` stands for the file that it states or that has its name, and those it names places in."""
    text = path.read_text(encoding="utf-8")
    stated = STATED.findall(text)
    places = frozenset(PLACE.findall(text)) | {(file, name) for file in stated for name in OWN.findall(text)}
    relative = path.relative_to(MODEL).as_posix()
    if not relative.startswith("linux/"):
        return Module(places, frozenset(NAMED_FILE.findall(text)), frozenset(), frozenset(), frozenset())
    stem = relative.removeprefix("linux/").removesuffix(".py")
    own = {file for file, _ in places} | {f"{stem}.c", f"{stem}.h", *stated, *OF_FILE.findall(text)}
    code = ast.parse(text)
    names = {node.name for node in ast.walk(code) if isinstance(node, ast.FunctionDef)} | set(of_levels(code))
    named = frozenset({*own, *NAMED_FILE.findall(text)})
    said = frozenset(name + end for name in SAID.findall(text) for end in VARIANTS)
    return Module(places, named, frozenset(own), frozenset(names), said)


def of_levels(code: ast.Module) -> Iterator[str]:
    """The functions that ``by_height()`` is told of in a module, by name or by a pattern with ``{level}``."""
    for call in ast.walk(code):
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.func.id != "by_height":
            continue
        for argument in call.args:
            spread = argument.value if isinstance(argument, ast.Starred) else None
            pattern = spread.elt if isinstance(spread, ast.GeneratorExp) else argument
            if isinstance(pattern, ast.JoinedStr):
                yield from (_at(pattern, level) for level in LEVELS)
            elif isinstance(pattern, ast.Constant):
                yield str(pattern.value)


def _at(pattern: ast.JoinedStr, level: str) -> str:
    return "".join(str(part.value) if isinstance(part, ast.Constant) else level for part in pattern.values)


@cache
def modules() -> tuple[Module, ...]:
    """Every module of the model."""
    return tuple(read_module(path) for path in sorted(MODEL.rglob("*.py")))


def mirrored(trees: Sequence[Tree]) -> list[tuple[str, str]]:
    """(file, function) of every kernel function that the model names as a place, has under the same name, or speaks of.

    What a module defines, or says of levels of page tables, counts when one of the trees has a function of that name
    in a file that the module stands for. What its texts speak of counts where a file that the module stands for or
    names has it, or else the files that other modules stand for, of no other architecture than its own.
    """
    model = modules()
    known = {place for place in _stated(model) if _has(trees, *place)}
    files = {file for module in model for file in module.own_files}
    for module in model:
        for name in module.said:
            near = {(file, name) for file in module.named_files if _has(trees, file, name)}
            known |= near or {(file, name) for file in files if _has(trees, file, name) and module.concerns(file)}
    return sorted(known)


def _stated(model: Sequence[Module]) -> Iterator[tuple[str, str]]:
    for module in model:
        yield from module.places
        yield from ((file, name) for file in module.own_files for name in module.functions)


def _has(trees: Sequence[Tree], file: str, function: str) -> bool:
    return any(function in tree.functions(file) for tree in trees)


def defined(trees: dict[str, Tree]) -> list[str]:
    """``file:function RELEASE...`` of all that the trees define in files that the model stands for or names."""
    having: dict[str, list[str]] = {}
    for file in sorted({file for module in modules() for file in module.named_files}):
        for release, tree in trees.items():
            for function in tree.functions(file):
                having.setdefault(f"{file}:{function}", []).append(release)
    return [" ".join((place, *releases)) for place, releases in sorted(having.items())]


def record_defined(trees: dict[str, Tree], path: Path = DEFINED) -> int:
    """Write what :func:`defined` tells, unless the file says the same. The number of its lines."""
    lines = defined(trees)
    text = "".join(f"{line}\n" for line in lines).encode()
    if not path.is_file() or lzma.decompress(path.read_bytes()) != text:
        path.write_bytes(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME))
    return len(lines)


def read_table(path: Path = TABLE) -> tuple[list[str], list[Row]]:
    """The releases of the table, oldest first, and its rows."""
    lines = path.read_text(encoding="utf-8").splitlines()
    head = lines[0].split("\t")
    releases = head[len(HEAD) : -1]
    rows = []
    for line in lines[1:]:
        file, function, *known, compared = line.split("\t")
        rows.append(Row(file, function, dict(zip(releases, known, strict=True)), compared))
    return releases, rows


def record(trees: dict[str, Tree], today: str, path: Path = TABLE) -> int:
    """Write the table anew from one tree a release; rows that come out as they were keep their day. Their number."""
    before = {(row.file, row.function): row for row in read_table(path)[1]} if path.is_file() else {}
    places = mirrored(list(trees.values()))
    files = sorted({file for file, _ in places})
    lines = ["\t".join((*HEAD, *trees, LAST))]
    for file, function in places:
        found = {release: tree.find(file, function, files) for release, tree in trees.items()}
        known = {release: place[1] if place else ABSENT for release, place in found.items()}
        was = before.get((file, function))
        compared = was.compared if was is not None and was.hashes == known else today
        lines.append("\t".join((file, function, *known.values(), compared)))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(places)


@dataclass(frozen=True)
class Drift:
    """What became of a function in a tree: ``changed``, ``moved`` (with where to), ``gone`` or ``new``."""

    row: Row
    what: str
    where: str = ""


def drift(tree: Tree, rows: Sequence[Row], release: str) -> list[Drift]:
    """The functions whose text in `tree` is not that of `release`; a move alone is none."""
    files = sorted({row.file for row in rows})
    found = []
    for row in rows:
        was, place = row.hashes[release], tree.find(row.file, row.function, files)
        where = place[0] if place is not None and place[0] != row.file else ""
        if place is None and was != ABSENT:
            found.append(Drift(row, "gone"))
        elif place is not None and was == ABSENT:
            found.append(Drift(row, "new", where))
        elif place is not None and place[1] != was:
            found.append(Drift(row, "changed", where))
    return found


def _number(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in release.split("."))


def _tree(text: str) -> Tree:
    return Tree(Path(text).expanduser())


def main(argv: Sequence[str]) -> int:
    """0: nothing drifted, or the table was written; 1: something drifted; 2: what was asked for cannot be done."""
    parser = argparse.ArgumentParser(prog="dev.py drift", description="Compare mirrored kernel functions.")
    parser.add_argument("source", nargs="?", help="an unpacked kernel source tree")
    parser.add_argument("--against", metavar="RELEASE", help="a release of the table (by default the newest not above)")
    parser.add_argument("--record", nargs="+", metavar="RELEASE=TREE", help="write both lists anew from these trees")
    given = parser.parse_args(argv)
    if (given.source is None) == (given.record is None):
        parser.error("name one source tree, or --record RELEASE=TREE ...")
    try:
        if given.record:
            pairs = [pair.partition("=") for pair in given.record]
            trees = {release: _tree(path) for release, _, path in pairs}
            for release, tree in trees.items():
                if tree.release != release:
                    raise ValueError(f"{tree.root}: is Linux {tree.release}, not {release}")
            count = record(trees, datetime.date.today().isoformat())
            print(f"{TABLE.name}: {count} functions of {', '.join(trees)}")
            print(f"{DEFINED.name}: {record_defined(trees)} functions of the same files")
            return 0
        return _compare(_tree(given.source), given.against)
    except (ValueError, OSError) as error:
        print(f"dev.py drift: {error}", file=sys.stderr)
        return 2


def _compare(tree: Tree, against: str | None) -> int:
    releases, rows = read_table()
    older = [release for release in releases if _number(release) <= _number(tree.release)]
    release = against or (older or releases)[-1 if older else 0]
    if release not in releases:
        raise ValueError(f"no release {release} in the table, which has {', '.join(releases)}")
    found = drift(tree, rows, release)
    for each in found:
        moved = f" (now in {each.where})" if each.where else ""
        print(f"{each.what:8} {each.row.file}:{each.row.function}{moved}")
    same = len(rows) - len(found)
    print(f"Linux {tree.release} against {release}: {same} of {len(rows)} functions as compared, {len(found)} not")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
