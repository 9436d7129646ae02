"""Which functions of the kernel's code name which others, for bench/locks.py: who can be on the way to a place.

Names stand for functions, wherever they are, and whoever writes a name down may call what has it: more calls than there
are, never fewer. A table that a module fills with functions by keyword calls them under these names.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import ast
import pkgutil
from collections import defaultdict
from functools import cache
from importlib import import_module
from pathlib import Path

import memhp.linux

START = "start_kernel"
"""Who is there before there is a second CPU."""


@cache
def callers() -> dict[str, set[str]]:
    """By name: the functions, and the entries of tables, that write it down."""
    found: dict[str, set[str]] = defaultdict(set)

    def visit(node: ast.AST, holders: list[str], inside: bool) -> None:
        """`inside`: whether the node is part of a function, of which another one within it is a part too."""
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not inside:
            holders, inside = [node.name], isinstance(node, ast.FunctionDef)
        elif isinstance(node, ast.Assign | ast.AnnAssign) and not inside:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            holders = [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]
        elif isinstance(node, ast.keyword) and node.arg and not inside:
            holders = [node.arg]
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            found[node.id].update(holders)
        elif isinstance(node, ast.Attribute):
            found[node.attr].update(holders)
        for child in ast.iter_child_nodes(node):
            visit(child, holders, inside)

    for module in pkgutil.walk_packages(memhp.linux.__path__, "memhp.linux."):
        file = import_module(module.name).__file__
        assert file is not None
        visit(ast.parse(Path(file).read_text(encoding="utf-8")), ["a module"], False)
    return found


def of_boot(function: str) -> list[str]:
    """The way from :data:`START` to a function that nobody else comes to; empty where somebody might."""
    ways = {function: [function]}
    todo = [function]
    while todo:
        name = todo.pop(0)
        above = callers()[name] - {name}
        if not above and name != START:
            return []
        for caller in sorted(above - ways.keys()):
            ways[caller] = [caller, *ways[name]]
            todo.append(caller)
    return ways.get(START, [])
