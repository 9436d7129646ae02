"""Trouble on demand: blocks that refuse, operations that take their time, events that get lost."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from memhp.errors import ERRNO_NAMES, BadInput, one_of
from memhp.linux.drivers.base.notify import Chains, Refusal
from memhp.linux.lib.kobject_uevent import Action, Uevent
from memhp.linux.state import Kernel
from memhp.scenario.schema import Seconds

Count = Annotated[int, Meta(ge=1, le=1 << 62)]
_STATE = re.compile(r"/sys/devices/system/memory/memory(\d+)/(?:state|online)")
NAMES = {name: number for number, name in ERRNO_NAMES.items()}


class _Trouble(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="do", omit_defaults=True
):
    """Base of all trouble. `count` is how often it strikes, without end by default."""

    count: Count | None = None


class Refuse(_Trouble, frozen=True, tag="refuse"):
    """A notifier that somebody registered refuses: memory blocks do not go offline, or online."""

    blocks: list[Annotated[int, Meta(ge=0)]] | None = None
    """Which; all by default."""
    going: Literal["offline", "online", "both"] = "offline"
    errno: str = "EBUSY"
    reason: str = "a driver keeps it"


class Slow(_Trouble, frozen=True, tag="slow"):
    """Writes to ``state`` and ``online`` take so long, and what is written after them waits."""

    seconds: Seconds
    blocks: list[Annotated[int, Meta(ge=0)]] | None = None


class LoseUevents(_Trouble, frozen=True, tag="lose-uevents"):
    """Events get lost, as when nobody empties the socket."""

    action: Action | None = None
    """Only those of this action."""


class Clear(_Trouble, frozen=True, tag="clear"):
    """There is no trouble any more."""


TroubleKind: TypeAlias = Refuse | Slow | LoseUevents | Clear


def _slows(block: int) -> Callable[[TroubleKind], bool]:
    """Whether trouble is a :class:`Slow` of a block."""
    return lambda trouble: isinstance(trouble, Slow) and (trouble.blocks is None or block in trouble.blocks)


class Trouble:
    """All the trouble that is in force."""

    def __init__(self) -> None:
        self.rows: list[tuple[TroubleKind, int]] = []
        """Each with how often it has struck."""

    def attach(self, k: Kernel) -> None:
        """Register the notifier that refuses for those who are told to."""
        k.statics(Chains).memory.append(self._notified)

    def add(self, trouble: TroubleKind, *, where: str = "trouble") -> None:
        """Some more of it. Raises :class:`BadInput` for an errno that there is not."""
        if isinstance(trouble, Clear):
            self.rows.clear()
            return
        if isinstance(trouble, Refuse) and trouble.errno not in NAMES:
            raise BadInput(f"no errno {trouble.errno!r}", where=f"{where}.errno", fix=one_of(trouble.errno, NAMES))
        self.rows.append((trouble, 0))

    def _first(self, fits: Callable[[TroubleKind], bool]) -> int | None:
        """The row of the first trouble in force that fits."""
        for place, (trouble, struck) in enumerate(self.rows):
            if fits(trouble) and (trouble.count is None or struck < trouble.count):
                return place
        return None

    def _strike(self, fits: Callable[[TroubleKind], bool]) -> TroubleKind | None:
        """The first trouble in force that fits; it has struck once more then."""
        place = self._first(fits)
        if place is None:
            return None
        trouble, struck = self.rows[place]
        self.rows[place] = (trouble, struck + 1)
        return trouble

    def _notified(self, k: Kernel, action: str, pfn: int, _pages: int) -> str | Refusal:
        going = {"MEM_GOING_OFFLINE": "offline", "MEM_GOING_ONLINE": "online"}.get(action)
        if going is None or not self.rows:
            return ""
        block = k.block_id(pfn)

        def fits(trouble: TroubleKind) -> bool:
            return (
                isinstance(trouble, Refuse)
                and trouble.going in (going, "both")
                and (trouble.blocks is None or block in trouble.blocks)
            )

        found = self._strike(fits)
        return Refusal(found.reason, NAMES[found.errno]) if isinstance(found, Refuse) else ""

    def delay(self, path: str) -> float:
        """Seconds that a write takes."""
        match = _STATE.fullmatch(path) if self.rows else None
        place = self._first(_slows(int(match[1]))) if match is not None else None
        slow = self.rows[place][0] if place is not None else None
        return slow.seconds if isinstance(slow, Slow) else 0

    def going(self, k: Kernel, path: str, text: str) -> Callable[[], None]:
        """A slow write begins: a block that is to go offline says so meanwhile. Gives what ends that."""
        match = _STATE.fullmatch(path)
        assert match is not None
        block_id = int(match[1])
        self._strike(_slows(block_id))
        block = k.memory_blocks.get(block_id)
        if block is None or block.state != "online" or text.strip() not in ("offline", "0"):
            return lambda: None
        k.memory_blocks.set(block_id, block_id + 1, replace(block, state="going-offline"))

        def over() -> None:
            now = k.memory_blocks.get(block_id)
            if now is not None and now.state == "going-offline":
                k.memory_blocks.set(block_id, block_id + 1, replace(now, state="online"))

        return over

    def loses(self, event: Uevent) -> bool:
        """Whether an event gets lost."""

        def fits(trouble: TroubleKind) -> bool:
            return isinstance(trouble, LoseUevents) and trouble.action in (None, event.action)

        return bool(self.rows) and self._strike(fits) is not None
