"""The same steps on a real machine and on the model of it, compared after each."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Callable, Sequence

from memhp.conform.compare import Comparison, compare_moment
from memhp.conform.rules import Context
from memhp.conform.tables import compare_tables
from memhp.conform.told import tell
from memhp.facts.observed import Facts
from memhp.linux.mm.free_area import nr_free_pages
from memhp.scenario.schema import MachineText, StepKind
from memhp.scenario.steps import title
from memhp.spans import Span, SpanSet
from memhp.target.model.target import ModelTarget
from memhp.target.target import Readable, Target, check_steps
from memhp.units import KiB, MiB

Progress = Callable[[int, str], None]
"""Called before each step with its index and title."""

FREE_BOUND = 24 * MiB
"""How far the change of free memory may be from the model's: tasks and caches of the guest take and give some."""
FREE = f"change of free memory, within {FREE_BOUND >> 20} MiB"

HOTPLUG_LINES = re.compile(
    r"(Offlined Pages \d+|memory offlining \[mem .*|altmap_alloc_block_buf: .*|removing memory fails.*"
    r"|acpi PNP0C80:\w+: .*|memory memory\d+: Offline failed.*|Fallback order for Node .*|Built \d+ zonelists.*"
    r"|Demotion targets for Node .*)"
)
"""Lines of the log that tell of hot(un)plug and that a model writes word for word."""


def conform(
    real: Target, steps: Sequence[StepKind], *, where: str = "scenario", progress: Progress | None = None
) -> Comparison:
    """Carry out steps on a real machine and on the model of it, which is booted from what the machine shows now.

    Raises :class:`BadInput` for a step that the machine cannot carry out, before anything starts.
    """
    check_steps(real, steps, where=where)
    observed = real.facts()
    model = ModelTarget.like(observed, MachineText(source=observed.source), where=where)
    found = Comparison()
    context = Context(series=_series(observed))
    compare_moment(found, "0-boot", observed, model.facts(), context)
    seen = [len(real.log()), len(model.log())]
    free = _free(observed, model)
    for index, step in enumerate(steps):
        name = f"{index + 1}-{title(step)}"
        if progress is not None:
            progress(index, title(step))
        theirs = real.carry_out(step)
        shown, log = real.facts(), real.log()
        tell(model, shown, log[seen[0] :])
        mine = model.carry_out(theirs.step)
        context = Context(resized=context.resized or _resized(observed, shown), series=context.series)
        if theirs.result is not None:
            found.add(name, "result", theirs.result, mine.result, context)
        compare_moment(found, name, shown, model.facts(), context)
        if isinstance(real, Readable):
            memory = real.memory()
            for counted in compare_tables(model.session.k, memory, memory.root(), _hot(model)):
                found.add_counted(name, counted)
        change = [after - before for after, before in zip(_free(shown, model), free, strict=True)]
        found.add(name, FREE, 0, 0 if abs(change[0] - change[1]) <= FREE_BOUND else change[1] - change[0], context)
        free = _free(shown, model)
        logs = [log, model.log()]
        new = [_told(log[start:]) for log, start in zip(logs, seen, strict=True)]
        for number in range(max(map(len, new))):
            line = [lines[number] if number < len(lines) else None for lines in new]
            found.add(name, f"log {number}", line[0], line[1], context)
        seen = [len(log) for log in logs]
    return found


def _free(shown: Facts, model: ModelTarget) -> tuple[int, int]:
    """Free memory of the real machine and of the model, bytes."""
    k = model.session.k
    mine = sum(nr_free_pages(zone) for zone in k.zones()) << k.config.page_shift
    return shown.meminfo.get("MemFree", 0) * KiB, mine


def _hot(model: ModelTarget) -> list[Span]:
    """The memory blocks that were added since boot, as physical ranges."""
    k = model.session.k
    boot = SpanSet(k.boot_memory)
    size = k.memory_block_size
    blocks = ((first * size, end * size) for first, end, _ in k.memory_blocks)
    hot = (gap for first, end in blocks for gap in boot.gaps(first >> k.config.page_shift, end >> k.config.page_shift))
    return [
        Span(gap.start << k.config.page_shift, gap.end << k.config.page_shift)
        for gap in hot
        if gap.size >= k.pages_per_block
    ]


def _told(lines: Sequence[str]) -> list[str]:
    """The lines of hotplug, without the pages that ``build_all_zonelists()`` counts.

    Those are less the high watermarks, which boot set before the memory of __init code was managed.
    """
    return [line.partition("  Total pages: ")[0] for line in lines if HOTPLUG_LINES.fullmatch(line)]


def _series(facts: Facts) -> str:
    return ".".join((facts.release or "").split(".")[:2])


def _resized(before: Facts, after: Facts) -> bool:
    """Whether managed pages changed."""
    return [zone.managed for zone in before.zones] != [zone.managed for zone in after.zones]
