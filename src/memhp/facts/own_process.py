"""A library that may die or go round in circles, in a process of its own: questions and answers through a pipe."""
# SPDX-License-Identifier: GPL-2.0-or-later

import faulthandler
import multiprocessing
import os
import signal
import weakref
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from memhp.errors import BadInput

PATIENCE = 60
"""Seconds that the library may take for one answer."""


class OwnProcess:
    """A child that runs `serve` with its end of the pipe. `where` is what it reads, `who` does it, as errors say."""

    def __init__(self, serve: Callable[[Connection], None], *, who: str, where: str) -> None:
        self._who, self._where = who, where
        context = multiprocessing.get_context("fork")
        self._line, far = context.Pipe()
        self._process = context.Process(target=_quietly, args=(serve, far), daemon=True)
        self._process.start()
        far.close()
        weakref.finalize(self, self._process.kill)

    def ask(self, question: object) -> Any:
        """Send a question and wait for what is answered. Raises BadInput where none comes."""
        try:
            self._line.send(question)
        except OSError:
            raise self._dead() from None
        return self.answer()

    def answer(self) -> Any:
        """What comes next. Raises BadInput where nothing does: the library died, or does not get done."""
        try:
            if self._line.poll(PATIENCE):
                return self._line.recv()
        except (EOFError, OSError):
            pass
        raise self._dead()

    def _dead(self) -> BadInput:
        self._process.join(1)
        code = self._process.exitcode
        how = f"died of it ({signal.Signals(-code).name})" if code is not None and code < 0 else "does not get done"
        self._process.kill()
        return BadInput(f"{self._who} {how}: a truncated or damaged dump", where=self._where, fix="copy the dump whole")


def _quietly(serve: Callable[[Connection], None], line: Connection) -> None:
    """What the child does: nothing that it complains of is for the user."""
    faulthandler.disable()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    serve(line)
