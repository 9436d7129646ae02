"""A race of one's own: a Python file that defines `CASE`, as the modules of :mod:`memhp.explore.cases` do.

An error in such a file is an error, with its place, and never a verdict.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import re
import sys
from dataclasses import fields, replace
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from memhp.errors import BadInput
from memhp.explore.case import Case, Configuration, Variant
from memhp.explore.doors.endless import to_end
from memhp.explore.doors.run import KernelProgram
from memhp.explore.doors.user_code import line_of, not_run, users
from memhp.explore.marks import Mark, noted
from memhp.inputs import read_input
from memhp.limits import SCENARIO_SIZE
from memhp.linux.state import Kernel


class Loaded(NamedTuple):
    """A file of Python code that has run."""

    module: ModuleType
    code: str
    marks: list[Mark]
    """Those that it has made."""

    def line_of(self, name: str) -> str:
        """``FILE:LINE`` where a line begins with a name; the file alone where none does."""
        lines = enumerate(self.code.splitlines(), 1)
        at = next((f":{number}" for number, line in lines if re.match(rf"{name}\b", line)), "")
        return f"{self.module.__file__}{at}"


@cache
def load(file: Path) -> Loaded:
    """The module that a file of Python code makes. BadInput: it cannot be read, or raises."""
    try:
        code = read_input(file, SCENARIO_SIZE)
    except OSError as error:
        raise BadInput(f"cannot read it: {error.strerror}", where=str(file), fix="name a Python file") from None
    module = ModuleType(f"memhp_own_{file.stem}_{abs(hash(file))}")
    module.__file__ = str(file)
    sys.modules[module.__name__] = module
    with noted() as marks, to_end("the file"), users(otherwise=str(file)):
        exec(compile(code, str(file), "exec"), vars(module))
    return Loaded(module, code.decode(errors="replace"), marks)


def own_case(path: str) -> Case:
    """The race that a file describes. BadInput: it has none, or its code raises, or a variant has no kernel."""
    return _described(Path(os.path.realpath(path)))


@cache
def _described(file: Path) -> Case:
    """As :func:`own_case`; whether all its variants have kernels is looked at once."""
    loaded = load(file)
    with users("asked for CASE it raised ", str(file)):
        found = getattr(loaded.module, "CASE", None)
    at = loaded.line_of("CASE")
    if not isinstance(found, Case):
        got = "no CASE" if found is None else f"a CASE that is a {type(found).__name__}"
        raise BadInput(f"wanted CASE, a memhp.explore.case.Case, and there is {got}", where=at)
    with users("asked for a field of CASE it raised ", str(file)):
        told = {one.name: getattr(found, one.name) for one in fields(Case)}
    one = Case(**told | {"build": partial(_build, file, found)})  # of a class of the user's, what it describes
    with users("asked for its kernels it raised ", at):
        one.must_have_kernels()
    return one


def _build(file: Path, case: Case, variant: Variant, configuration: Configuration) -> KernelProgram:
    """What the file's `build` makes, and what its `check` says, errors in either told as such."""
    where = line_of(case.build, str(file))
    with users(otherwise=where):
        program = case.build(variant, configuration)
    if not isinstance(program, KernelProgram):
        got = not_run(program) or type(program).__name__
        raise BadInput(f"build() gave a {got}, wanted a KernelProgram", where=where)
    if not program.actors:
        raise BadInput("build() gave a KernelProgram without actors", where=where)
    check = program.check
    if check is None:
        return replace(program, of_user=True)

    where = line_of(check, str(file))

    def checked(k: Kernel) -> str | None:
        with users(otherwise=where):
            said = check(k)
        if not isinstance(said, str | None) or said == "":
            got = "an empty text" if said == "" else f"a {not_run(said) or type(said).__name__}"
            raise BadInput(f"check= gave {got}, wanted what is wrong as text, or None", where=where)
        return said

    return replace(program, check=checked, of_user=True)
