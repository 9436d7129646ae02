"""udev's rules about memory on a real kernel and on a twin: the same events, writes and states."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

from memhp.scenario.schema import Eject, Offline, Plug
from memhp.target.guest.cache import user_cache
from memhp.target.guest.guest import running
from memhp.target.guest.kernel import fetched
from memhp.target.guest.plugged import ERRNO
from memhp.target.guest.qemu import GuestSpec, find_qemu
from memhp.target.guest.target import GuestTarget
from memhp.target.guest.versions import newest
from memhp.twin.boot import boot
from memhp.units import MiB
from twin_runs import scenario
from udev_rules import FROM_KERNEL, MOVABLE, RED_HAT, Udev, files_of, parse

SYS = "/sys/devices/system/memory"
HEARD = "/run/uevents"
MACHINE = '[machine]\narch = "x86_64"\nprofile = "7.2"\nmemory = "1G"\ncpus = 2\n'

Event = tuple[str, str]
"""Action and device."""


@pytest.fixture(scope="module")
def guest() -> Iterator[GuestTarget]:
    """A kernel whose new memory stays offline, and whose events busybox writes down."""
    found = {each.release: each for each in fetched(user_cache()) if each.arch == "x86_64"}
    if not found:
        pytest.skip("NO KERNEL AND TWIN HAD THE SAME EVENTS: run memhp guest fetch 7.2:x86_64")
    spec = GuestSpec(found[newest(found)], append="memhp_default_state=offline", dimms=True)
    with running(user_cache(), find_qemu(user_cache(), "x86_64"), spec) as started:
        started.agent.run(f"uevent busybox sh -c 'env; echo' >> {HEARD} 2>&1 &")
        yield GuestTarget(started)


class Real:
    """A kernel with udev."""

    def __init__(self, target: GuestTarget, rules: str) -> None:
        self.target, self.agent, self.seen = target, target.guest.agent, 0
        self.udev = Udev(parse(rules), self.read, self.write)
        self.agent.run(f": > {HEARD}")

    def read(self, path: str) -> str | None:
        answer = self.agent.run(f"cat {path} 2> /dev/null")
        return answer.text.removesuffix("\n") if answer.status == 0 else None

    def write(self, path: str, text: str) -> str:
        said = self.agent.write(path, text)
        return ERRNO.get(said, said) or "ok"

    def heard(self) -> list[Event]:
        """Deal with every event about memory since the last time, and with those that follow from that."""
        found: list[Event] = []
        while new := self._events()[self.seen :]:
            self.seen += len(new)
            found += [(event["ACTION"], event["DEVPATH"]) for event in new]
            for event in new:
                self.udev.event(event)
        return found

    def _events(self) -> list[dict[str, str]]:
        texts = self.agent.run(f"usleep 200000; cat {HEARD}").text.split("\n\n")
        events = [dict(line.split("=", 1) for line in text.splitlines() if "=" in line) for text in texts]
        return [event for event in events if event.get("SUBSYSTEM") == "memory"]


@pytest.mark.parametrize("rules", [MOVABLE, RED_HAT, FROM_KERNEL], ids=["own", "Red Hat", "kernel"])
def test_rules_do_to_a_twin_what_they_do_to_a_kernel(guest: GuestTarget, tmp_path: Path, rules: str) -> None:
    twin = boot(scenario(tmp_path, MACHINE), speed=0).twin
    ours = Udev(parse(rules), *files_of(twin))
    events, told = deque[dict[str, str]](), list[Event]()
    twin.uevents.append(lambda event: events.append(dict(event.environment)))

    def pump() -> list[Event]:
        told.clear()
        while events:
            event = events.popleft()
            told.append((event["ACTION"], event["DEVPATH"]))
            ours.event(event)
        return list(told)

    real = Real(guest, rules)
    done = guest.carry_out(Plug(size=256 * MiB))
    assert done.result == "ok"
    twin.do(done.step)
    assert real.heard() == pump()
    assert real.udev.wrote == ours.wrote and ours.wrote
    for block in (32, 33):
        assert real.read(f"{SYS}/memory{block}/valid_zones") == ours.read(f"{SYS}/memory{block}/valid_zones")
    # What was onlined to a kernel zone may hold pages that cannot be moved, so that one stays, and is the last.
    for step in (Offline(blocks=[32, 33]), Eject()) if rules != FROM_KERNEL else ():
        assert guest.carry_out(step).result == twin.do(step).result == "ok"
        assert real.heard() == pump()
