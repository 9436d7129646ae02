"""A kernel that is set back in place: every execution of kernel code begins with the same one, as it stood once.

What can change of it is found once. To put that back takes less than a copy, and how the kernel stands at an end is
told by the few objects that have changed. A user's actors get copies (:mod:`.kernel_image`): what one of them has kept
of an execution that is over is another one's there.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import io
from collections.abc import Hashable

from memhp.explore.doors.changeable import ATOMS, Part, held_by, parts_of
from memhp.explore.doors.kernel_image import Likener, Likeness, tables_against, unwatched
from memhp.hw.memory import Arena
from memhp.linux.state import Kernel


class Rewind:
    """A kernel, and what was in each of its objects when this was made; nobody looks on then.

    `tables`: its page tables then, which nobody writes to.
    """

    def __init__(self, k: Kernel, tables: Arena) -> None:
        self._kernel = k
        self._tables = tables
        self._met: dict[int, object] = {}
        """By identity: all that it led to."""
        self._written = k.hw.written
        k.hw.written = None
        self._parts = self._found(k)
        self._of_log = self._found(self._written)
        """What only the log of writes to page tables leads to: how that stands does not count."""
        self._known = Likener(io.BytesIO(), [])
        self._known.memo = {key: (number, one) for number, (key, one) in enumerate(self._met.items())}
        self.back()  # a set that is filled anew may be gone through in another order: from now on it is that one

    def back(self) -> Kernel:
        """The kernel as it stood."""
        for part in self._parts:
            part.back()
        for part in self._of_log:
            part.back()
        self._kernel.hw.written = self._written
        return self._kernel

    def likeness(self) -> Hashable:
        """As :func:`memhp.explore.doors.kernel_image.likeness`, of the kernel as it stands in an execution."""
        data, common = io.BytesIO(), list[object]()
        likener = Likener(data, common)
        likener.memo = self._known.memo
        with unwatched(self._kernel):
            likener.dump([(at, now) for at, part in enumerate(self._parts) if (now := part.now()) is not None])
        return Likeness(data.getvalue(), common, (tables_against(self._kernel.hw.memory.arena, self._tables),))

    def _found(self, root: object) -> list[Part]:
        """What can change of all that a thing leads to, but for what was met before."""
        found: list[Part] = []
        waiting = [root]
        while waiting:
            one = waiting.pop()
            if isinstance(one, ATOMS) or id(one) in self._met:
                continue
            self._met[id(one)] = one
            for part in parts_of(one):
                found.append(part)
                waiting += part.led_to()
            waiting += held_by(one)
        return found
