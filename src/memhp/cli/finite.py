"""Numbers of options that a clock can be set to."""
# SPDX-License-Identifier: GPL-2.0-or-later

import math
from typing import Any

import click


class FiniteRange(click.FloatRange):
    """A range of numbers, to which neither ``nan``, which compares with none, nor ``inf`` belongs."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number. Raises :class:`click.BadParameter`."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is no number to count with.", param, ctx)
        return number
