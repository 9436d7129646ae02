"""A capture held against the model: booted from its first step, then everything that happened to the machine."""
# SPDX-License-Identifier: GPL-2.0-or-later

from itertools import pairwise
from pathlib import Path

from memhp.conform.amounts import compare_changes, died, partly_unplugged, ran_out_of_memory, untold_adds
from memhp.conform.compare import Comparison, compare_moment
from memhp.conform.refusals import refused_bindings
from memhp.conform.rules import Context
from memhp.errors import BadInput, KernelBug, KernelError
from memhp.facts.derive import derive
from memhp.facts.observed import Facts, observe
from memhp.facts.open_source import is_archive, open_source, open_steps, steps
from memhp.scenario.schema import MachineText, Scenario
from memhp.scenario.titles import title
from memhp.target.model.replay import replay
from memhp.target.model.run import rehearse_scenario
from memhp.target.model.target import ModelTarget


def captures_below(folder: Path) -> list[Path]:
    """Every capture in a folder: folders of steps, and archives; or the folder itself if it is one.

    Raises :class:`BadInput` for a folder with none, and for a file that is none.
    """
    if not folder.is_dir():
        steps(folder)
        return [folder]
    found = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".") and _is_capture(path)]
    if not found and _is_capture(folder):
        return [folder]
    if not found:
        raise BadInput("holds no captures", where=str(folder), fix="memhp capture takes one")
    return found


def _is_capture(path: Path) -> bool:
    """Whether a file or folder is a capture, if only a damaged one: an archive is, whatever is in it."""
    try:
        return bool(steps(path))
    except BadInput:
        return path.is_file() and is_archive(path)


class NotModelled(BadInput):
    """A machine that the model cannot be."""


def conform_capture(path: Path) -> Comparison:
    """Every step of a capture against the model that got there by the steps that the facts tell.

    Raises :class:`NotModelled` for a machine that the model cannot be, and :class:`BadInput` for what is no capture.
    """
    found = Comparison()
    sources = open_steps(path)
    names, shown = list(sources), [observe(source) for source in sources.values()]
    first = shown[0]
    try:
        model = ModelTarget.like(first, MachineText(source=str(path), step=names[0]), where=str(path))
    except (BadInput, KernelError) as error:
        raise NotModelled(str(error)) from error
    untold = untold_adds(shown)
    context = _context(first, untold=untold)
    was = model.facts()
    compare_moment(found, f"{path.name}/{names[0]}", first, was, context)
    for name, (before, after) in zip(names[1:], pairwise(shown), strict=True):
        step = f"{path.name}/{name}"
        try:
            replay(model.session, before, after)
            result = "ok"
            for refused in refused_bindings(before, after):
                fact = f"result of {title(refused)}"
                found.add(step, fact, refused.expect, model.carry_out(refused).result, context)
        except (KernelError, KernelBug) as error:
            result = error.reason
        except BadInput as error:
            result = f"what the facts tell cannot be done: {error}"
        found.add(step, "replay", "ok", result, context)
        context, now = _context(after, untold=untold), model.facts()
        compare_moment(found, step, after, now, context)
        compare_changes(found, step, (before, after), (was, now), shown[-1], context)
        was = now
    return found


def conform_with(scenario: Scenario, path: Path, step: str | None, *, where: str) -> Comparison:
    """A scenario carried out on the model, its end held against a step of a capture, by default the last."""
    names = steps(path)
    name = step or names[-1]
    if name not in names:
        raise BadInput(f"has no step {name!r}", where=str(path), fix=f"one of: {', '.join(names)}")
    found = Comparison()
    after = observe(open_source(path, step=name))
    run, k = rehearse_scenario(scenario, where=where)
    for each in run.steps:
        found.add(name, f"result of {each.title}", each.expect, each.outcome.result, Context())
    compare_moment(found, f"{path.name}/{name}", after, derive(k), _context(after, played=True))
    return found


def _context(now: Facts, *, played: bool = False, untold: bool = False) -> Context:
    return Context(
        steps_from_facts=not played,
        virtio_mem=partly_unplugged(now),
        add_failed=ran_out_of_memory(now),
        died=died(now),
        untold_adds=untold,
    )


def conform_or_why(path: Path) -> Comparison | str:
    """The comparison of a capture, or why the model cannot be that machine. One that cannot be read differs."""
    try:
        return conform_capture(path)
    except NotModelled as error:
        return str(error)
    except BadInput as error:
        found = Comparison()
        found.add(path.name, "the capture", "can be read", str(error), Context())
        return found
