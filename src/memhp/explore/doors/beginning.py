"""What executions of kernel code begin with: the kernel as it was built, announcing what is done to it.

That of memhp's own code is one kernel, set back in place each time. A user's gets a copy each time: what one of his
actors keeps of it is of no use in another execution, and is heard there.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Hashable
from functools import cached_property

from memhp.check import remember
from memhp.explore.doors.announced import announce
from memhp.explore.doors.kernel_image import KernelImage
from memhp.explore.doors.outside import unwatched_likeness
from memhp.explore.doors.put_in import PutIn
from memhp.explore.doors.records import without_records
from memhp.explore.doors.rewind import Rewind
from memhp.explore.doors.user_code import users
from memhp.linux.state import Kernel

Watched = frozenset[str] | None
"""The sorts of state whose reads are announced; None: all."""


class Beginning:
    """A kernel before the first step, of which every execution gets one.

    `of_user`: whether a user has brought the code, and where. `judged`: whether laws are checked at the end of
    executions.
    """

    def __init__(self, kernel: Kernel, of_user: Callable[..., object] | None, *, judged: bool) -> None:
        self._kernel = kernel
        self._of_user = of_user
        self._judged = judged
        self._images: dict[Watched, KernelImage] = {}
        """A user's kernel."""
        self._rewinds: dict[Watched, Rewind] = {}
        self._rewind: Rewind | None = None
        """What the present execution began with."""

    def begin(self, watched: Watched) -> tuple[Kernel, PutIn | None]:
        """The kernel for an execution, before which the one before it is over; and what a user's puts into it."""
        if self._of_user is not None:
            if watched not in self._images:
                with users("cannot be explored: ", self._of_user):
                    self._images[watched] = KernelImage(self._announcing(watched))
            return self._images[watched].begun()
        self._rewind = self._rewinds.get(watched)
        if self._rewind is None:
            announcing = self._announcing(watched)
            self._rewind = self._rewinds[watched] = Rewind(announcing, self._built.tables)
        return self._rewind.back(), None

    def likeness(self, k: Kernel) -> Hashable:
        """What is equal only where the kernel of an execution stands alike in everything."""
        return unwatched_likeness(k, self._built.tables) if self._rewind is None else self._rewind.likeness()

    def likeness_for_cpus(self, k: Kernel) -> Hashable:
        """The same, in everything that a CPU may go by."""
        with without_records(k):
            return self.likeness(k)

    @cached_property
    def _built(self) -> KernelImage:
        """The kernel as it was built."""
        if self._judged:
            remember(self._kernel)
        return KernelImage(self._kernel)

    def _announcing(self, watched: Watched) -> Kernel:
        k = self._built.copy()
        announce(k, watched)
        return k
