"""Random sessions of tools on a twin and on a real guest, act by act: python tests/lockstep_sessions.py --help.

A session begins with the guest as it booted, on both sides: the twin is made of a capture of that moment. It ends with
the first act that does not come to the same, or whose outcome depends on what nobody could tell the twin.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from memhp.target.captures.write import write
from memhp.target.guest.agent import GuestSlow
from memhp.target.guest.cache import user_cache
from memhp.target.guest.guest import running
from memhp.target.guest.kernel import Kernel, fetched
from memhp.target.guest.observe import step_files
from memhp.target.guest.qemu import GuestSpec, find_qemu
from memhp.target.guest.snapshot import Snapshot, resumed
from memhp.target.guest.versions import newest
from session_sides import Side, TwinSide, guest_side, second_monitor, twin_side
from tool_sessions import Act, Drawn

MAX_MEMORY = str(GuestSpec.max_memory)
"""What the guest's QEMU is told of; the twin has it from nobody else."""
ACTS = 25
"""Acts of a session."""


@dataclass
class Session:
    """What came of a session; `differs` is the act with what came of it on guest and twin."""

    seed: int
    acts: list[Act] = field(default_factory=list)
    differs: tuple[Act, Any, Any] | None = None
    untold: bool = False
    """Whether it ended because the kernel met a page in use of which this twin cannot be told."""


@dataclass(frozen=True)
class Lab:
    """A snapshot of a booted guest, and a capture of the same moment."""

    snapshot: Snapshot
    captured: Path
    second: Path


@contextmanager
def lab(kernel: Kernel) -> Iterator[Lab]:
    """Boot a guest once."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        ports = [word for port in (0, 1) for word in ("-device", f"pcie-root-port,id=port{port},chassis={port}")]
        second = folder / "second"
        spec = GuestSpec(
            kernel,
            append="memhp_default_state=online_movable",
            dimms=True,
            extra=(*ports, *second_monitor(second)),
        )
        with running(user_cache(), find_qemu(user_cache(), kernel.arch), spec) as guest:
            guest.load("virtio_mem")
            guest.agent.run("mkdir -p $(dirname $(mktemp -u))")
            write({"0-boot": step_files(guest, pages=True)}, folder / "captured")
            snapshot = Snapshot.of(guest)
        try:
            yield Lab(snapshot, folder / "captured", second)
        finally:
            snapshot.close()


def play(where: Lab, seed: int, acts: int = ACTS) -> Session:
    """One session: even seeds have the kernel keep the twin's files, odd ones have each open and read heard."""
    done = Session(seed)
    with TemporaryDirectory() as name, resumed(where.snapshot) as guest:
        folder = Path(name)
        with (
            guest_side(guest, where.second) as real,
            twin_side(where.captured, folder, exact=bool(seed % 2), options=("--maxmem", MAX_MEMORY)) as twin,
        ):
            _lockstep(done, real, twin, acts)
    return done


def _lockstep(done: Session, real: Side, twin: TwinSide, acts: int) -> None:
    drawn, logged = Drawn(done.seed), len(real.log())
    for _ in range(acts):
        drawn.learn(real)
        act = drawn.act()
        done.acts.append(act)
        theirs = real.do(act)
        log = real.log()
        if not twin.tell(real, log[logged:]):
            done.untold = True
            return
        logged = len(log)
        mine = twin.do(act)
        if mine != theirs:
            done.differs = (act, theirs, mine)
            return


def main() -> int:
    """Play sessions and tell what differed; 1 if anything did."""
    parser = argparse.ArgumentParser(description="random sessions of tools on a twin and a real guest in lock-step")
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--acts", type=int, default=ACTS)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    told = parser.parse_args()
    found = {each.release: each for each in fetched(user_cache()) if each.arch == "x86_64"}
    if not found:
        sys.exit("no kernel of x86_64: memhp guest fetch 7.2:x86_64")
    end, sessions = time.monotonic() + told.seconds, list[Session]()
    with lab(found[newest(found)]) as where:
        for seed in range(told.seed, told.seed + told.count):
            if time.monotonic() > end:
                break
            try:
                sessions.append(play(where, seed, told.acts))
            except GuestSlow as error:
                print(f"seed {seed} was not played: {error}", flush=True)
                continue
            if sessions[-1].differs is not None:
                act, theirs, mine = sessions[-1].differs
                print(f"seed {seed}, act {len(sessions[-1].acts)}: {json.dumps(asdict(act))}")
                print(f"  guest {json.dumps(theirs)}\n  twin  {json.dumps(mine)}", flush=True)
    acts, untold = sum(len(each.acts) for each in sessions), sum(each.untold for each in sessions)
    differ = sum(each.differs is not None for each in sessions)
    print(f"{len(sessions)} sessions, {acts} acts: {differ} differ; {untold} ended at a page that nobody told of")
    return int(bool(differ))


if __name__ == "__main__":
    sys.exit(main())
