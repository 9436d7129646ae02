"""Work of which nobody knows how much there is says so when it is long; until then nothing is loaded for that."""
# SPDX-License-Identifier: GPL-2.0-or-later

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Timer

from memhp.cli.notice import PATIENCE, notice


@contextmanager
def at_work(what: str) -> Iterator[None]:
    """After so many seconds a progress line on a terminal, one line of text elsewhere; both on stderr."""
    with ExitStack() as shown:

        def show() -> None:
            if sys.stderr.isatty():
                from memhp.cli.output import progress

                shown.enter_context(progress()).add_task(what, total=None)
            else:
                notice(what)

        timer = Timer(PATIENCE, show)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()
