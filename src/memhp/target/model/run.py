"""Running a scenario: boot, then step after step, measuring what each did and checking every law after it."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from memhp.check import LAWS, Watch, snapshot
from memhp.check import watch as watch_laws
from memhp.errors import BadInput, KernelBug, KernelError, KernelPanic
from memhp.facts.observed import Facts
from memhp.hw.before_images import BeforeImages
from memhp.hw.ledger import Ledger
from memhp.linux.init import MachineSpec, ram_lines, start_kernel
from memhp.linux.mm.oom_kill import OomKill
from memhp.linux.state import Kernel
from memhp.printable import printable
from memhp.scenario import result, schema
from memhp.scenario.error_keys import machine_keys
from memhp.scenario.machine import machine_spec
from memhp.scenario.qemu_machine import described
from memhp.scenario.titles import title
from memhp.target.measure import counters
from memhp.target.measure.refused import refused
from memhp.target.measure.table_changes import table_changes
from memhp.target.model.injected import injected
from memhp.target.model.plan import Wish, advice
from memhp.target.model.reboot import restart
from memhp.target.model.replay import catch_up
from memhp.target.model.session import Room, Session
from memhp.target.model.steps import RUNNERS
from memhp.target.model.virtio_mem_facts import settle_seen
from memhp.target.model.virtio_mem_stuck import device_results
from memhp.target.seen.assumptions import of_description, of_machine, rests_on
from memhp.target.seen.sources import facts_spec, source_facts
from memhp.target.seen.usage import place
from memhp.units import format_size, parse_size

Progress = Callable[[int, str], None]
"""Called before each step with its index and title."""
Ended = Callable[[Session], None]
"""Called with a session after its last step."""

SHORTAGE = frozenset({"ENOMEM", "OOM", "BUG", "PANIC"})
"""How a hot-add can end that there was not enough memory for."""

DEADLY = frozenset({"BUG", "PANIC"})
"""How a step can end that is the machine's end."""

KEYS = {"addr": "at", "region_size": "size", "requested_size": "requested"}
"""How a scenario names what parts below name otherwise."""

BOOT = -1
"""The index under which breaches found right after boot are filed."""


@dataclass
class _Watch:
    """The laws over a run: since when each is broken, and what was remarked."""

    laws: Watch
    gauge: counters.Gauge
    meant: frozenset[str] = frozenset()
    """Laws that are meant to break."""
    tables: bool = False
    """Whether steps tell what they did to page tables."""
    first: dict[str, int] = field(default_factory=dict)
    breaches: dict[str, list[str]] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)

    def look(self, index: int) -> tuple[list[result.Breach], list[str]]:
        """Check every law after step `index`: what is broken now and was not before, and new remarks."""
        new = []
        breaches, notes = self.laws.check()
        for breach in breaches:
            known = self.breaches.setdefault(breach.law, [])
            self.first.setdefault(breach.law, index)
            if breach.text not in known:
                known.append(breach.text)
                new.append(result.Breach(law=breach.law, text=breach.text))
        remarks = []
        for note in notes:
            known = self.notes.setdefault(note.law, [])
            if note.text not in known:
                known.append(note.text)
                remarks.append(note.text)
        return new, remarks

    def restart(self, k: Kernel) -> None:
        """Watch another kernel, which has just booted."""
        self.laws, self.gauge = watch_laws(k, snapshot(k)), counters.Gauge(k)

    def results(self) -> list[result.LawResult]:
        """Every law with its verdict over the whole run."""
        return [
            result.LawResult(
                law=law.name,
                sentence=law.sentence,
                held=law.name not in self.first,
                first_broken=self.first.get(law.name),
                breaches=self.breaches.get(law.name, []),
                notes=self.notes.get(law.name, []),
                meant=law.name in self.meant,
            )
            for law in LAWS
        ]


class ReadMachine(NamedTuple):
    """A scenario's machine: what boots, the steps that plug what it comes with, and the real one if it was seen."""

    spec: MachineSpec
    devices: list[schema.StepKind]
    observed: Facts | None


def read_machine(text: schema.MachineText, *, where: str) -> ReadMachine:
    """What a scenario says of its machine, with what it names read. Raises :class:`BadInput`."""
    machine, devices = described(text, where=where)
    if machine.source is None:
        return ReadMachine(machine_spec(machine, where=where), devices, None)
    observed = source_facts(machine, where=where)
    return ReadMachine(facts_spec(observed, machine, where=where), devices, observed)


def boot(spec: MachineSpec, observed: Facts | None, where: str) -> Session:
    """The machine booted, and brought to the state in which the real one was seen, if it was.

    Raises :class:`BadInput` for a machine that cannot be.
    """
    with machine_keys(where):
        session = Session(start_kernel(spec), spec=spec, room=_room(spec))
    if observed is not None:
        take_up(session, observed, where)
    return session


def rehearse_scenario(
    scenario: schema.Scenario,
    *,
    where: str = "scenario",
    progress: Progress | None = None,
    tables: bool = False,
    ended: Ended | None = None,
) -> tuple[result.Run, Kernel]:
    """Rehearse a scenario as it was read from a file: see :func:`rehearse`."""
    machine = read_machine(scenario.machine, where=where)
    return rehearse(
        machine.spec,
        [*machine.devices, *scenario.steps],
        devices=len(machine.devices),
        text=scenario.machine,
        observed=machine.observed,
        breaks=scenario.breaks,
        heading=scenario.title or where,
        where=where,
        progress=progress,
        tables=tables,
        ended=ended,
    )


def rehearse(
    spec: MachineSpec,
    steps: list[schema.StepKind],
    *,
    devices: int = 0,
    text: schema.MachineText | None = None,
    observed: Facts | None = None,
    breaks: Iterable[str] = (),
    heading: str = "",
    where: str = "scenario",
    progress: Progress | None = None,
    tables: bool = False,
    ended: Ended | None = None,
) -> tuple[result.Run, Kernel]:
    """Boot the machine, carry out the steps, and report; the machine as it ended comes along for other views.

    `text` is how the machine is written. What `observed`, the real machine, has plugged since its boot is plugged
    before the first step; `breaks` are the laws that are meant to break. The first `devices` steps are no steps of a
    file, but the machine's. With `tables` each step tells what it did to page tables. `ended` is called with the
    session as the last step leaves it. Raises :class:`BadInput`, naming `where` and the step's key, when a step cannot
    be meant.
    """
    with machine_keys(where):
        k = start_kernel(spec)
    watch = _Watch(watch_laws(k, snapshot(k)), counters.Gauge(k), frozenset(breaks), tables)
    session = Session(k, spec=spec, room=_room(spec))
    if observed is not None:
        take_up(session, observed, where)
    watch.look(BOOT)
    placed = session.placed
    known = of_description(text, spec) if observed is None or placed is None else of_machine(observed, k.config, placed)
    results: list[result.StepResult] = []
    dead = ""
    for index, step in enumerate(steps):
        if progress is not None:
            progress(index, title(step))
        key = "machine.qemu" if index < devices else f"steps[{index - devices}]"
        if isinstance(step, schema.Reboot):
            restart(session)
            watch.restart(session.k)
            dead = ""
        done = _step(session, index, step, f"{where}: {key}", dead, watch)
        if isinstance(step, schema.Plug) and done.outcome.result in SHORTAGE:
            done = _advised(done, step, _again(spec, observed, steps[:index], where))
        results.append(_with_ground(done, rests_on(step, known, session.placed)))
        if done.outcome.result in DEADLY:
            dead = dead or results[-1].title
    run = result.Run(
        title=printable(heading),
        machine=machine_result(session.k, spec),
        steps=results,
        state=_state(session.k, watch.gauge),
        laws=watch.results(),
        assumptions=known,
    )
    if ended is not None:
        ended(session)
    return run, session.k


def _room(spec: MachineSpec) -> Room:
    """What the platform of a machine has room for."""
    return Room(spec.slots, spec.device_memory, spec.max_memory, spec.device_place)


def _with_ground(done: result.StepResult, rests: list[str]) -> result.StepResult:
    """A step with the assumptions that its outcome rests on."""
    if not rests:
        return done
    return msgspec.structs.replace(done, outcome=msgspec.structs.replace(done.outcome, rests_on=rests))


def _again(spec: MachineSpec, observed: Facts | None, steps: list[schema.StepKind], where: str) -> Session:
    """The machine once more as it was after these steps."""
    session = boot(spec, observed, where)
    for step in steps:
        if isinstance(step, schema.Reboot):
            restart(session)
        outcome_of(session, step, where)
    return session


def _advised(done: result.StepResult, step: schema.Plug, before: Session) -> result.StepResult:
    """A step that failed, with what it would have taken and how to go about it, if it was memory that it lacked."""
    wish = Wish(step.driver, step.node, step.online or "kernel", step.memmap_on_memory)
    text = advice(before, parse_size(step.size), wish)
    outcome = msgspec.structs.replace(done.outcome, advice=text) if text else done.outcome
    return msgspec.structs.replace(done, outcome=outcome)


def take_up(session: Session, observed: Facts, where: str) -> None:
    """Bring the machine that booted to the state in which the real one was seen."""
    size, real = session.k.memory_block_size, observed.memory.block_size
    if size != real:
        raise BadInput(
            f"memory blocks are {format_size(real)} on the machine, and {format_size(size)} as its kernel would choose",
            where=f"{where}: machine",
            fix="write hypervisor, max_memory or cxl_windows as that machine has it",
        )
    try:
        catch_up(session, observed)
        settle_seen(session, observed)
        session.placed = place(session.k, observed)
    except KernelError as error:
        raise BadInput(
            f"the state of the machine cannot be reached from its boot: {error.reason}",
            where=f"{where}: machine.step",
            fix="start at a moment before memory was plugged or taken offline",
        ) from error


def _step(
    session: Session, index: int, step: schema.StepKind, where: str, dead: str, watch: _Watch
) -> result.StepResult:
    """Carry out one step on a machine that is still alive, and measure around it; laws are not for dead machines."""
    k = session.k
    before = _Measured(k, watch.gauge)
    session.notes.clear()
    arena = k.hw.memory.arena
    arena.before_images = BeforeImages() if watch.tables else None
    if dead:
        outcome = result.Outcome(result="not run", reason=f"the machine died in {dead!r}")
    else:
        outcome = outcome_of(session, step, where)
    touched, arena.before_images = arena.before_images, None
    breaches, remarks = ([], []) if dead or outcome.result in DEADLY else watch.look(index)
    spent = k.hw.ledger.since(before.ledger)
    log = k.hw.log_lines[before.log :]
    places = watch.gauge.memmap_places()
    places.subtract(before.places)
    return result.StepResult(
        index=index,
        do=str(step.__struct_config__.tag),
        title=title(step),
        expect=step.expect,
        outcome=outcome,
        as_expected=outcome.result == step.expect,
        blocks_before=before.blocks,
        blocks_after=watch.gauge.blocks(),
        zones=counters.zone_counters(k),
        memory_before=before.memory,
        memory_after=watch.gauge.memory(),
        memmap_from={place: size for place, size in places.items() if size},
        tables_allocated=counters.tables(spent.tables_allocated),
        tables_freed=counters.tables(spent.tables_freed),
        flushes=counters.flushes(spent),
        entries_written=spent.stores,
        log=[result.LogEntry(level=line.level, text=line.text) for line in log],
        breaches=breaches,
        notes=[*session.notes, *remarks],
        devices=device_results(k, session.devices),
        block_use=watch.gauge.block_use(),
        refused=[] if dead else refused(k, (line.text for line in log)),
        table_changes=[] if touched is None else table_changes(k, touched),
    )


class _Measured:
    """The machine just before a step."""

    def __init__(self, k: Kernel, gauge: counters.Gauge) -> None:
        self.ledger: Ledger = k.hw.ledger.copy()
        self.blocks = gauge.blocks()
        self.memory = gauge.memory()
        self.places = gauge.memmap_places()
        self.log = len(k.hw.log_lines)


def outcome_of(session: Session, step: schema.StepKind, where: str) -> result.Outcome:
    """Carry out one step and say how it ended. Raises :class:`BadInput` for a step that cannot be meant."""
    alive = len(session.k.statics(OomKill).killed)
    outcome = _outcome_of(session, step, where)
    killed = session.k.statics(OomKill).killed[alive:]
    if killed and outcome.result == "ok":
        reason = f"killed {', '.join(dict.fromkeys(killed))}"
        return result.Outcome(result="OOM", reason=reason, place="mm/oom_kill.c:out_of_memory")
    session.notes.extend(f"out of memory: killed {name}" for name in dict.fromkeys(killed))
    return outcome


def _outcome_of(session: Session, step: schema.StepKind, where: str) -> result.Outcome:
    try:
        with injected(session.k, step.fault):
            RUNNERS[type(step)](session, step)
            session.k.hw.advance(0)
    except KernelError as error:
        return result.Outcome(result=error.name, reason=error.reason, place=error.place, advice=error.advice)
    except KernelPanic as error:
        return result.Outcome(result="PANIC", reason=error.reason, place=error.place)
    except KernelBug as error:
        return result.Outcome(result="BUG", reason=error.reason, place=error.place)
    except BadInput as error:
        key = _key(step, error.where)
        raise BadInput(error.message, where=f"{where}.{key}" if key else where, fix=error.fix) from None
    return result.Outcome(result="ok")


def _key(step: schema.StepKind, name: str) -> str:
    """The key of a step that a part below knows by this name; "" if it has none."""
    name = KEYS.get(name, name)
    return name if re.split(r"[.\[]", name)[0] in (*step.__struct_fields__, "do") else ""


def machine_result(k: Kernel, spec: MachineSpec) -> result.MachineResult:
    """The machine as it booted, for the head of a report."""
    config, pluggable, limit = k.config, k.layout.pluggable_range(), k.layout.boot_limit
    return result.MachineResult(
        name=spec.name,
        arch=config.arch,
        profile=config.profile.name,
        page_size=config.page_size,
        va_bits=config.va_bits_actual,
        levels=config.levels,
        cpus=config.nr_cpus,
        block_size=k.memory_block_size,
        section_size=config.section_size,
        pageblock_size=config.pageblock_nr_pages * config.page_size,
        ram=[(ram.start, min(ram.span.end, limit), ram.nid) for ram in spec.ram if ram.start < limit],
        ram_left=sum(ram.span.end - max(ram.start, limit) for ram in spec.ram if ram.span.end > limit),
        page_offset=k.layout.phys_to_virt(max(k.layout.phys_offset, 0)),
        vmemmap_start=k.layout.vmemmap.start,
        pluggable_start=pluggable.start,
        pluggable_end=pluggable.end,
    )


def _state(k: Kernel, gauge: counters.Gauge) -> result.State:
    tables = k.hw.ledger.tables_allocated.copy()
    tables.subtract(k.hw.ledger.tables_freed)
    return result.State(
        blocks=gauge.blocks(),
        zones=counters.zone_counters(k),
        memory=gauge.memory(),
        tables=counters.tables(tables),
        iomem=ram_lines(k),
    )
