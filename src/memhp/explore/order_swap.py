"""The kernel's code with two statements the other way round: what has to come first comes second.

An :class:`Order` names a function of kernel code and two statements of it, by what they begin with. The function is
compiled anew from the syntax tree of its module, with the second statement before the first, and stands in for the
kernel's own, whoever calls it.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import ast
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from inspect import unwrap
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

from memhp.errors import BadInput

_CALLED = "__memhp_called_{}__"
"""Under this name a module knows what is to be told that a function of it is called."""


@dataclass(frozen=True)
class Order:
    """Two statements of a function, the first of which must come first."""

    module: str
    """Below ``memhp.linux``: ``mm.vmalloc``."""
    function: str
    first: str
    """What the statement begins with, as :func:`ast.unparse` has it."""
    then: str

    def __str__(self) -> str:
        """``mm/vmalloc.py:vfree: free_pages(… before k.port.flush_tlb_kernel_range(…``."""
        return f"{self.module.replace('.', '/')}.py:{self.function}: {self.then}… before {self.first}…"


@contextmanager
def swapped(order: Order) -> Iterator[None]:
    """The kernel's code with the second statement before the first, for the length of a ``with`` block.

    BadInput: there is no such function, or not exactly one such pair of statements in it.
    """
    with _code_of(order, _swap):
        yield


@contextmanager
def called(order: Order, note: Callable[[], None]) -> Iterator[None]:
    """`note` is called whenever the order's function is, for the length of a ``with`` block. BadInput: as above."""
    names, name = vars(module_of(order)), _CALLED.format(order.function)
    names[name] = note
    try:
        with _code_of(order, _tell):
            yield
    finally:
        del names[name]


def module_of(order: Order) -> ModuleType:
    """The module that an order's function is in."""
    return import_module(f"memhp.linux.{order.module}")


@contextmanager
def _code_of(order: Order, change: Callable[[Order, ast.FunctionDef], None]) -> Iterator[None]:
    function = unwrap(getattr(module_of(order), order.function, lambda: None))
    assert isinstance(function, FunctionType)
    before = function.__code__
    code = _compiled(order, change)
    if code.co_freevars != before.co_freevars:
        raise BadInput("is made where it is used", where=str(order))
    function.__code__ = code
    try:
        yield
    finally:
        function.__code__ = before


@cache
def _compiled(order: Order, change: Callable[[Order, ast.FunctionDef], None]) -> CodeType:
    """The code of the order's function in its module, changed; line numbers stay those of the source."""
    file, function = _syntax(order)
    change(order, function)
    alone = ast.Module([function], [])
    module = compile(ast.fix_missing_locations(alone), file, "exec", dont_inherit=True)
    return next(each for each in module.co_consts if isinstance(each, CodeType) and each.co_name == order.function)


def _syntax(order: Order) -> tuple[str, ast.FunctionDef]:
    """The file and the syntax tree of the order's function. BadInput: there is none."""
    file = module_of(order).__file__
    assert file is not None
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == order.function]
    if len(found) != 1:
        raise BadInput(f"there is no function {order.function}", where=str(order))
    return file, found[0]


def locks_around(order: Order) -> list[str]:
    """The locks, as the code has them, that the function takes in ``with`` statements around both statements."""
    _, function = _syntax(order)
    body, one, other = _found(order, function)
    pair = {id(body[one]), id(body[other])}
    return [
        ast.unparse(call.args[0])
        for node in ast.walk(function)
        if isinstance(node, ast.With) and pair <= {id(inside) for inside in ast.walk(node)}
        for item in node.items
        for call in ast.walk(item.context_expr)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "locked"
    ]


def _swap(order: Order, function: ast.FunctionDef) -> None:
    """Move the second statement to just before the first."""
    body, one, other = _found(order, function)
    body.insert(one, body.pop(other))


def _found(order: Order, function: ast.FunctionDef) -> tuple[list[ast.stmt], int, int]:
    """The list that both statements stand in, and where."""
    found = [
        (body, one, other)
        for body in _bodies(function)
        for one, first in enumerate(body)
        for other, then in enumerate(body)
        if one < other and _begins(first, order.first) and _begins(then, order.then)
    ]
    if len(found) != 1:
        raise BadInput(f"wanted one such pair of statements, there are {len(found)}", where=str(order))
    return found[0]


def _tell(order: Order, function: ast.FunctionDef) -> None:
    """Tell of each call before all else."""
    function.body[:0] = ast.parse(f"{_CALLED.format(order.function)}()").body


def _bodies(function: ast.FunctionDef) -> Iterator[list[ast.stmt]]:
    """Every list of statements in a function."""
    for node in ast.walk(function):
        for name in ("body", "orelse", "finalbody"):
            body = getattr(node, name, None)
            if isinstance(body, list):
                yield body


def _begins(statement: ast.stmt, text: str) -> bool:
    return ast.unparse(statement).startswith(text)
