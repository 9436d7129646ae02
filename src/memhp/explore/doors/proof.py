"""That a user's code goes by its kernel alone: some executions are done once more, and must come to the same end.

Those are the first ones, of which the first is done several times, then fewer and fewer. What goes another way in
between is noticed where it comes to another step (:mod:`memhp.explore.doors.again`).
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Hashable, Sequence

from memhp.explore.doors.outside import Outside
from memhp.explore.doors.starts import refuse_starts

EACH_OF_THE_FIRST = 8
"""So many executions are proved, one after the other."""
FIRST_AGAIN = 8
"""So often the first one is done again, as there may be few others."""


class Proof:
    """How a user's executions are proved; the first is about to begin."""

    def __init__(self, functions: Sequence[Callable[..., object]]) -> None:
        refuse_starts()
        self._outside = Outside(functions)
        self._executions = 0
        """How many have ended."""
        self.ended: Hashable = None
        """How the execution stood when it had ended, before it was judged; None: it was not judged."""
        self.said: str | None = None
        """What was said of it."""

    def is_due(self) -> bool:
        """Whether the execution up to here is one of those that are done twice."""
        count = self._executions
        return count < EACH_OF_THE_FIRST or not count & (count - 1)

    def over(self) -> None:
        """The execution is left."""
        self._executions += 1
        self.ended = None

    def prove(
        self, stands: Callable[[], Hashable], again: Callable[[], None] | None, judge: Callable[[], str | None]
    ) -> None:
        """The execution up to here has left nothing behind that is in no kernel, and leads to the same `again`, with
        the same judgement if there was one; with None it is not done again.

        BadInput: it does not, so actors are no functions of the kernel.
        """
        first = self.ended or stands()
        self._outside.must_be_as_it_was()
        if again is None:
            return
        for _ in range(FIRST_AGAIN if not self._executions else 1):
            again()
            if stands() != first:
                raise self._outside.error("the same steps once more lead to another end")
        if self.ended is not None and judge() != self.said:
            raise self._outside.error("check= says something else of the same end")
