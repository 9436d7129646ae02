"""How many executions this process has looked at so far, for whoever wants to say how far it is."""
# SPDX-License-Identifier: GPL-2.0-or-later


class LookedAt:
    """A count that only grows."""

    executions = 0
