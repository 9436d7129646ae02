"""Errors of the parts below told by the keys of a scenario: whose file, which key of its ``[machine]``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from contextlib import contextmanager

from memhp.errors import BadInput
from memhp.scenario.schema import Boot


@contextmanager
def machine_keys(where: str) -> Iterator[None]:
    """File a :class:`BadInput` that names an option, or nothing, under the key of ``[machine]`` that sets it.

    `where` names the scenario; errors that name it already, or an option of the command line, pass as they are.
    """
    try:
        yield
    except BadInput as error:
        if error.where.startswith((f"{where}: ", "--")):
            raise
        key = f"boot.{error.where}" if error.where in Boot.__struct_fields__ else error.where
        place = f"{where}: machine.{key}" if key else f"{where}: machine"
        raise BadInput(error.message, where=place, fix=error.fix) from error


@contextmanager
def source_key(where: str) -> Iterator[None]:
    """File a :class:`BadInput` about files of a machine under ``machine.source``; it goes on to name the file."""
    try:
        yield
    except BadInput as error:
        if error.where.startswith(f"{where}: "):
            raise
        text = f"{error.where}: {error.message}" if error.where else error.message
        raise BadInput(text, where=f"{where}: machine.source", fix=error.fix) from error
