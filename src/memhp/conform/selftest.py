"""The kernel's own test of memory hotplug, run in a guest and foretold by the model act by act.

``tools/testing/selftests/memory-hotplug/mem-on-off-test.sh`` of the user's own kernel tree: it brings every offline
block online, takes a share of all blocks offline, and brings them online again. It says which block it is at, and of
offlining how it ended.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

from memhp.conform.lockstep import Lockstep
from memhp.errors import BadInput
from memhp.inputs import read_input
from memhp.limits import SCENARIO_SIZE
from memhp.scenario.schema import Offline, Online
from memhp.target.guest.target import GuestTarget
from memhp.target.target import REFUSED, Done

SCRIPT = "tools/testing/selftests/memory-hotplug/mem-on-off-test.sh"
SECONDS = 600
"""How long the script may take."""
_ACT = re.compile(r"(offline->online|online->offline) memory(\d+)")
_FAILED = re.compile(r"(?:\S+ )?(\d+): unexpected fail")


def script_of(path: Path) -> str:
    """The script in a kernel tree, or the file itself. Raises :class:`BadInput` where there is none."""
    file = path / SCRIPT if path.is_dir() else path
    if not file.is_file():
        raise BadInput("there is no such test", where=f"--selftest {path}", fix=f"name a kernel tree with {SCRIPT}")
    return read_input(file, SCENARIO_SIZE).decode("utf-8", "replace")


def acts(said: str) -> Iterator[Done]:
    """What the script did, from what it said: every block that it wrote to, and how that ended."""
    lines = said.splitlines()
    failed = {int(match[1]) for line in lines if (match := _FAILED.fullmatch(line.strip()))}
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        match = _ACT.fullmatch(line.strip())
        if match is None:
            continue
        block = int(match[2])
        if match[1] == "online->offline":
            yield Done(Offline(blocks=[block]), "ok" if after.strip() == "-> Success" else REFUSED)
        else:
            yield Done(Online(blocks=[block]), REFUSED if block in failed else "ok")


def run_selftest(target: GuestTarget, script: str, *, where: str) -> Lockstep:
    """Run the script in a guest, then do its acts on the model of that guest; what was compared.

    Raises :class:`BadInput` for what does nothing that can be followed.
    """
    both = Lockstep(target, where=where)
    agent = target.guest.agent
    agent.run(f"echo {b64encode(script.encode()).decode()} | base64 -d > /run/selftest")
    answer = agent.run("UID=0 sh /run/selftest", timeout=SECONDS)
    done = list(acts(answer.text))
    if not done:
        said = answer.text.strip().splitlines()
        raise BadInput(f"the script did nothing: {said[-1] if said else 'and says nothing'}", where=where)
    both.foretell("selftest", done)
    return both
