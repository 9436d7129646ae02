"""Work of which nobody knows how much there is says so when it is long; until then nothing is loaded for that."""
# SPDX-License-Identifier: GPL-2.0-or-later

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from threading import Event, Timer

from memhp.cli.notice import PATIENCE, notice


@contextmanager
def at_work(what: str, far: Callable[[], str] | None = None) -> Iterator[None]:
    """After so many seconds a progress line on a terminal, one line of text elsewhere; both on stderr.

    With `far`, which says how far it is, there is a line again after twice as long each time, and one when it is
    interrupted.
    """
    told = far or str
    with ExitStack() as shown:
        over = Event()

        def show() -> None:
            if sys.stderr.isatty():
                from memhp.cli.output import progress

                line = shown.enter_context(progress())
                task = line.add_task(what + told(), total=None)
                while far is not None and not over.wait(1):
                    line.update(task, description=what + told())
                return
            notice(what, told())
            seconds = PATIENCE
            while far is not None and not over.wait(seconds):
                seconds *= 2
                notice(what, told())

        timer = Timer(PATIENCE, show)
        timer.daemon = True
        timer.start()
        try:
            yield
        except KeyboardInterrupt:
            if far is not None:
                notice(what, told())
            raise
        finally:
            over.set()
            timer.cancel()
            timer.join()
