"""A host made of files whose blocks answer as a kernel does: tests never act on the machine that they run on."""
# SPDX-License-Identifier: GPL-2.0-or-later

import errno
import time
from collections.abc import Callable
from pathlib import Path

from captures import facts
from memhp.facts.sysroot import write_sysroot
from memhp.target.tree_host import TreeHost

ZONES = {"online_movable": "Movable", "online_kernel": "Normal"}
CAPTURE = ("x86_64-6.12.117+deb13-cloud-amd64-automovable301", "5-dimm-2048M")
"""A machine with a kernel zone and ZONE_MOVABLE."""


def write_host(root: Path) -> Path:
    """The files of a machine, with the release that captures keep elsewhere."""
    seen = facts(*CAPTURE)
    write_sysroot(seen, root)
    (root / "var/log").mkdir(parents=True, exist_ok=True)
    return root


class FakeHost(TreeHost):
    """Blocks that go where they are told, after a while; or refuse; or do something else as well."""

    def __init__(
        self,
        root: Path,
        *,
        refuses: tuple[int, ...] = (),
        seconds: float = 0.0,
        besides: Callable[[Path], None] = lambda _: None,
    ) -> None:
        super().__init__(root)
        self.refuses, self.seconds, self.besides = refuses, seconds, besides

    def store(self, path: Path, text: str) -> int:
        """What ``state_store()`` does, from 0 or the errno on."""
        time.sleep(self.seconds)
        if int(path.parent.name.removeprefix("memory")) in self.refuses:
            return errno.EBUSY
        self.besides(path)
        zones = path.parent / "valid_zones"
        if text == "offline":
            zones.write_text("Normal Movable\n")
        elif text in ZONES:
            zones.write_text(f"{ZONES[text]}\n")
        draft = path.with_name("state.new")
        draft.write_text("offline\n" if text == "offline" else "online\n")
        draft.replace(path)
        return 0
