"""Carrying out a plan: a step at a time, each in the journal before and after, each held against what was foretold.

A run that was interrupted, at any moment, is taken up by the same code that runs a plan from its beginning: the journal
says which steps are over, the machine says what became of the one that was under way.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec

from memhp.errors import BadInput
from memhp.operate.journal import SUFFIX, Entry, Journal, unfinished
from memhp.operate.plan import BlockState, HostPlan, MachineState, Step, machine_state
from memhp.outputs.ending_signals import uninterrupted
from memhp.target.tree_host import INTERRUPTED, Host

Outcome = Literal["done", "rolled-back", "abandoned", "stopped", "interrupted", "planned"]
Mode = Literal["new", "resume", "roll-back", "abandon"]
LEAST_SECONDS = 60.0
"""How long a write is given at least: a busy page can take a while to come free."""
MARGIN = 10
"""A write is given so many times what was foretold."""
RECORDS = 4
"""Records of a step: before and after it, before and after it is taken back."""
MORE = 8
"""Records besides those of steps: stops and the end."""


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """``memhp apply --json``."""

    schema: Literal[1] = 1
    verdict: Outcome
    plan: str
    journal: str | None
    steps: list[str]
    """What each step that was begun came to: ``ok``, an errno, or how it differed from what was foretold; of a
    plan that is abandoned, how each block stands that was begun with.
    """
    why: str
    """Why it stopped; "" if it did not."""


class Stopped(Exception):
    """Something is not as it was foretold."""


def check_machine(plan: HostPlan, now: MachineState, done: int = 0) -> str:
    """How a machine differs from the one of a plan with its first `done` steps carried out; "" if it does not."""
    was = plan.machine
    for what, before, after in (
        ("kernel", was.kernel, now.kernel), ("boot", was.boot, now.boot),
        ("block size", was.block_size, now.block_size),
    ):  # fmt: skip
        if before != after:
            return f"its {what} is {after or 'not told'}, and was {before or 'not told'}"
    expected = {each.block: each for each in was.blocks}
    for step in plan.steps[:done]:
        expected[step.block] = step.after
    found = {each.block: each for each in now.blocks}
    for block in sorted(expected.keys() | found.keys()):
        if expected.get(block) != found.get(block):
            return f"block {block} is {_words(found.get(block))}, not {_words(expected.get(block))}"
    return ""


def _words(state: BlockState | None) -> str:
    if state is None:
        return "not there"
    return f"{state.state} in {state.zone}" if state.zone else state.state


def apply(
    plan: HostPlan,
    host: Host,
    journals: Path,
    *,
    mode: Mode = "new",
    tell: Callable[[str], None] = lambda _: None,
    asked: Callable[[], bool] = lambda: False,
    seconds: float | None = None,
) -> Applied:
    """Carry a plan out from its beginning, go on with it, take back what was done of it, or leave it as it stands.

    `asked` says, between two steps, whether somebody wants an end. The caller has the host's lock. Raises
    :class:`BadInput` before anything is done: for a machine that is not the plan's, and for journals that forbid it.
    """
    with _journal(plan, host, journals, mode) as journal:
        run = _Run(plan, host, journal, tell, asked, seconds)
        if mode == "abandon":
            return Applied(verdict="abandoned", plan=plan.id, journal=str(journal.path), steps=run.abandon(), why="")
        try:
            run.settle(everything=mode != "roll-back")
            outcome = run.back() if mode == "roll-back" else run.forth()
            why = ""
        except Stopped as stopped:
            why = str(stopped)
            journal.add(Entry(event="stop", result=why[:200]))
            outcome = "interrupted" if why == ASKED else "stopped"
        return Applied(verdict=outcome, plan=plan.id, journal=str(journal.path), steps=run.results(), why=why)


ASKED = "asked to stop"
NOTHING_LEFT = "nothing of this plan is left to do"
OVER = {
    "rebooted": "the machine has booted since: its blocks are as that left them",
    "abandoned": "it was abandoned: its blocks are as that left them",
}
"""Why a plan cannot even be taken back, by its journal's last record."""
WAYS = "--resume, --roll-back or --abandon"
"""What is to be had of a plan that was begun and is not over."""


@contextmanager
def _journal(plan: HostPlan, host: Host, folder: Path, mode: Mode) -> Iterator[Journal]:
    path = folder / f"{plan.id}{SUFFIX}"
    boot = machine_state(host.source()).boot
    open_ones = [each for each in unfinished(folder) if not _ended_by_boot(each, boot)]
    other = next((each for each in open_ones if each != path), None)
    if other is not None and mode != "abandon":
        fix = "resume it, roll it back or abandon it"
        raise BadInput("another plan was begun and is not over", where=str(other), fix=fix)
    if mode == "new":
        if path.exists() and path in open_ones:
            raise BadInput("this plan was begun and is not over", where=str(path), fix=f"give {WAYS}")
        if differs := check_machine(plan, machine_state(host.source())):
            raise BadInput(f"the machine changed since the plan: {differs}", where=plan.id, fix="make another plan")
        if path.exists():
            path.unlink()
        journal = Journal.create(path, plan.id, RECORDS * len(plan.steps) + MORE, plan.machine.boot or "")
    else:
        check_begun(plan, folder)
        journal = Journal.open(path)
        last = journal.entries[-1].event if journal.entries else ""
        over = last in OVER or (mode != "roll-back" and journal.finished)
        if journal.plan != plan.id or over:
            journal.close()
            why = OVER.get(last, NOTHING_LEFT)
            raise BadInput(why, where=str(path), fix="apply a new plan")
        journal.reserve(RECORDS * len(plan.steps) + MORE)
    try:
        yield journal
    finally:
        journal.close()


def check_begun(plan: HostPlan, folder: Path) -> None:
    """Raise :class:`BadInput` for a plan that has no journal in a folder: it was never begun."""
    path = folder / f"{plan.id}{SUFFIX}"
    if not path.exists():
        raise BadInput("nothing of this plan was begun: it has no journal", where=str(path), fix="name its --journal")


def _ended_by_boot(path: Path, boot: str | None) -> bool:
    """Whether a plan that was begun is over because the machine went down and came up again; its journal says so then.

    Blocks are as boot, firmware and drivers make them: neither is anything left to resume, nor to take back.
    """
    journal = Journal.open(path)
    try:
        ended = bool(boot and journal.boot and journal.boot != boot)
        if ended:
            journal.add(Entry(event="rebooted"))
        return ended
    finally:
        journal.close()


class _Run:
    """A plan on its way."""

    def __init__(
        self, plan: HostPlan, host: Host, journal: Journal, tell: Callable[[str], None], asked: Callable[[], bool],
        seconds: float | None,
    ) -> None:  # fmt: skip
        self.plan, self.host, self.journal, self.tell, self.asked = plan, host, journal, tell, asked
        self.seconds = seconds

    def done(self) -> int:
        """How many steps, from the first on, are carried out and not taken back."""
        count = 0
        for entry in self.journal.entries:
            if entry.event == "end" and entry.result == "ok":
                count = entry.step + 1
            elif entry.event == "undone" and entry.result == "ok":
                count = entry.step
        return count

    def results(self) -> list[str]:
        """What each step that was begun came to, last."""
        found: dict[int, str] = {}
        for entry in self.journal.entries:
            if entry.event in ("end", "undone"):
                found[entry.step] = entry.result if entry.event == "end" else f"taken back: {entry.result}"
        return [found[step] for step in sorted(found)]

    def settle(self, *, everything: bool) -> None:
        """Find out what became of a step that was under way, and see that the rest is as it was left.

        Who takes steps back looks at their own blocks only: what others changed is no reason to leave them, and neither
        is a step that came to something else, as a run that is not interrupted takes that back too.
        """
        last = next((e for e in reversed(self.journal.entries) if e.event not in ("stop", "start")), None)
        if last is not None and last.event in ("begin", "undo"):
            step = self.plan.steps[last.step]
            after, before = (step.after, step.before) if last.event == "begin" else (step.before, step.after)
            now = _state(self._now(), step.block)
            result = "ok" if now == after else "not done"
            if now not in (after, before):
                if everything:
                    raise Stopped(f"block {step.block} is {_words(now)}: neither as before the step nor as after it")
                result = f"{_words(now)}, foretold {_words(after)}"
            self.journal.add(Entry(event="end" if last.event == "begin" else "undone", step=last.step, result=result))
        if everything:
            self._look(self._now())

    def forth(self) -> Outcome:
        """The steps that are left."""
        for at in range(self.done(), len(self.plan.steps)):
            self._pause()
            step = self.plan.steps[at]
            self._look(self._one("begin", "end", at, step.write, step.after))
        self.journal.add(Entry(event="done"))
        return "done"

    def back(self) -> Outcome:
        """The steps that were carried out, taken back from the last on."""
        for at in range(self.done() - (not self._astray()), -1, -1):
            self._pause()
            step = self.plan.steps[at]
            self._one("undo", "undone", at, undo(step), step.before)
        self.journal.add(Entry(event="rolled-back"))
        return "rolled-back"

    def abandon(self) -> list[str]:
        """Write to no block, and let the journal say that it is over: how each block stands that was written to."""
        now, begun = self._now(), max((entry.step for entry in self.journal.entries), default=-1)
        steps = self.plan.steps[: begun + 1]
        before = {each.block: each for each in self.plan.machine.blocks}
        told = []
        for block in dict.fromkeys(step.block for step in steps):
            found, foretold = _state(now, block), [step.after for step in steps if step.block == block]
            if found == before.get(block):
                stands = "as before the plan"
            elif found in foretold:
                stands = "as foretold"
            else:
                stands = f"neither as before the plan ({_words(before.get(block))}) nor as foretold"
                stands += f" ({_words(foretold[-1])})"
            told.append(f"block {block} is {_words(found)}: {stands}")
            self.tell(told[-1])
        self.journal.add(Entry(event="abandoned"))
        return told

    def _astray(self) -> bool:
        """Whether the step after those that count was written, came to no good end, and left its block another."""
        at = self.done()
        last = next((e for e in reversed(self.journal.entries) if e.step == at), None)
        if last is None or last.event not in ("end", "undone"):
            return False
        return _state(self._now(), self.plan.steps[at].block) != self.plan.steps[at].before

    def _pause(self) -> None:
        if self.asked():
            raise Stopped(ASKED)

    def _one(self, before: Literal["begin", "undo"], after: Literal["end", "undone"], at: int, text: str,
             wanted: BlockState) -> MachineState:  # fmt: skip
        """One write: journal, write, look, journal; what is seen. Signals wait until it is over."""
        step = self.plan.steps[at]
        limit = self.seconds or max(LEAST_SECONDS, MARGIN * (step.seconds or 0))
        with uninterrupted():
            self.journal.add(Entry(event=before, step=at))
            result = self.host.write(step.block, text, limit)
            seen = self._now()
            now = _state(seen, step.block)
            if result == "ok" and now != wanted:
                result = f"{_words(now)}, foretold {_words(wanted)}"
            self.journal.add(Entry(event=after, step=at, result=result[:200]))
        self.tell(f"{at + 1} of {len(self.plan.steps)}: block {step.block} {text}: {result}")
        if result != "ok":
            hint = ": it took longer than it was given, or was told to stop" if result == INTERRUPTED else ""
            raise Stopped(f"block {step.block} did not go {text}: {result}{hint}")
        return seen

    def _look(self, seen: MachineState) -> None:
        """Raise where anything but the steps that were done has changed."""
        if differs := check_machine(self.plan, seen, self.done()):
            raise Stopped(differs)

    def _now(self) -> MachineState:
        return machine_state(self.host.source())


def _state(machine: MachineState, block: int) -> BlockState | None:
    return next((each for each in machine.blocks if each.block == block), None)


def undo(step: Step) -> str:
    """What takes a step back: the same block to the state and the zone that it was in."""
    if step.before.state == "offline":
        return "offline"
    return "online_movable" if step.before.zone == "Movable" else "online_kernel"
