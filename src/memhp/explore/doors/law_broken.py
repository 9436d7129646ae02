"""The first law that was broken at a door of a machine, as it is told."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.errors import BadInput
from memhp.hw.ledger import Violation
from memhp.hw.machine import Machine


def law_broken(hw: Machine) -> str | None:
    """Which law, how, and where; None: none was. BadInput: somebody has noted what is no :class:`Violation`."""
    if not hw.violations:
        return None
    first = hw.violations[0]
    if not isinstance(first, Violation):
        raise BadInput(f"wanted a Violation, and got a {type(first).__name__}", where="k.hw.violations")
    law, text, where = first
    return f"{law}: {text}" + (f" ({where})" if where else "")
