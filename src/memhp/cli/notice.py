"""What is said on stderr of work that is long."""
# SPDX-License-Identifier: GPL-2.0-or-later

import sys

from memhp.printable import printable

PATIENCE = 5.0
"""Seconds of work after which something is said."""


def notice(what: str, far: str = "") -> None:
    """Say what is being done, and how far it is."""
    print(f"memhp: still at work: {printable(what)}{far}", file=sys.stderr, flush=True)
