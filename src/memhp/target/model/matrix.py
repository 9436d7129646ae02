"""The whole life cycle on every configuration: add, online, offline, remove, every law after every step, a row each."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable, Iterator

import msgspec

from memhp.errors import MemhpError
from memhp.linux.config import Config
from memhp.linux.drivers.base.block_size import memory_block_size_bytes
from memhp.linux.init import MachineSpec, Ram
from memhp.pools import in_order
from memhp.scenario import schema
from memhp.scenario.known_faults import KnownFault, known_fault
from memhp.scenario.presets import preset_for
from memhp.scenario.result import FlushCount, Run, StepResult, Tables
from memhp.target.model.run import rehearse
from memhp.units import GiB, MiB

BLOCKS = 2
"""Memory blocks that each configuration adds and removes."""


class MatrixRow(msgspec.Struct, frozen=True, kw_only=True):
    """One configuration's life cycle. Sizes are bytes."""

    profile: str
    arch: str
    page_size: int
    va_bits: int
    va_bits_actual: int
    levels: int
    block_size: int
    added: int
    ok: bool
    failed: str
    """The first step or law that was not as it should be; empty when all was."""
    broken: list[str]
    """The laws that did not hold."""
    known: str
    """What is known to be wrong with this configuration; empty for those that should be whole."""
    as_known: bool
    """Whether it came out as expected: whole, or broken in the way that is known and in no other."""
    memmap: int
    """Struct pages of what was added."""
    memmap_leaf: str
    """The height of the leaves that map them."""
    direct_map_leaf: str
    """The height of the leaves of the direct map; empty where hardware reaches memory through a window."""
    entries_added: int
    """Page-table entries written by hot-add."""
    entries_removed: int
    tables_added: Tables
    tables_freed: Tables
    tables_left: int
    """Tables that removal leaves behind, empty, because the kernel keeps them."""
    flushes_add: list[FlushCount]
    flushes_remove: list[FlushCount]
    freed_before_flush: int
    """Frames given back while a translation that led to them was not flushed yet."""


def life_cycle(config: Config) -> MatrixRow:
    """Boot a small machine of one configuration, then plug, online, offline and remove; every law after every step."""
    base = preset_for(config.arch, config.page_size, config.va_bits)
    ram = tuple(Ram(start, size) for start, size in base.spread(boot_memory(config)))
    spec = MachineSpec(name=config.title, config=config, ram=ram, reserved=32 * MiB)
    added = BLOCKS * memory_block_size_bytes(config, ram[-1].span.end)
    steps: list[schema.StepKind] = [
        schema.Plug(size=added, driver="virtio_mem" if config.has_virtio_mem else "kmem"),
        schema.Online(zone="movable"),
        schema.Offline(),
        schema.Remove(),
    ]
    try:
        run, k = rehearse(spec, steps, heading=config.title)
    except MemhpError as error:
        return _row(config, added, None, str(error), 0)
    return _row(config, added, run, _failure(run), k.hw.tlb.exposed_frames)


def _as_known(run: Run | None, broken: list[str], fault: KnownFault | None) -> bool:
    if run is None or not all(step.as_expected for step in run.steps):
        return False
    return set(broken) == (set() if fault is None else fault.laws)


def boot_memory(config: Config) -> int:
    """Boot RAM that a configuration's rehearsal starts with, in bytes: enough for its largest memory block."""
    return 4 * GiB if config.section_size > 128 * MiB else 1 * GiB


def _failure(run: Run) -> str:
    for step in run.steps:
        if not step.as_expected:
            return f"{step.title}: {step.outcome.result}: {step.outcome.reason}"
    for law in run.laws:
        if not law.held:
            return f"{law.law}: {law.breaches[0]}"
    return ""


def _row(config: Config, added: int, run: Run | None, failed: str, exposed: int) -> MatrixRow:
    plug, remove = (run.steps[0], run.steps[3]) if run is not None else (None, None)
    broken = [] if run is None else [law.law for law in run.laws if not law.held]
    fault = known_fault(config)
    tables_added, tables_freed = _tables(plug, freed=False), _tables(remove, freed=True)
    return MatrixRow(
        profile=config.profile.name,
        arch=config.arch,
        page_size=config.page_size,
        va_bits=config.va_bits,
        va_bits_actual=config.va_bits_actual,
        levels=config.levels,
        block_size=added // BLOCKS,
        added=added,
        ok=run is not None and not failed,
        failed=failed,
        broken=broken,
        known="" if fault is None else fault.why,
        as_known=_as_known(run, broken, fault),
        memmap=added // config.page_size * config.struct_page_size,
        memmap_leaf="PMD" if config.vmemmap_huge else "PTE",
        direct_map_leaf=_direct_map_leaf(config),
        entries_added=plug.entries_written if plug else 0,
        entries_removed=remove.entries_written if remove else 0,
        tables_added=tables_added,
        tables_freed=tables_freed,
        tables_left=_count(tables_added) - _count(tables_freed),
        flushes_add=plug.flushes if plug else [],
        flushes_remove=remove.flushes if remove else [],
        freed_before_flush=exposed,
    )


def _direct_map_leaf(config: Config) -> str:
    if not config.port.direct_map_in_page_tables:
        return ""
    return "PTE" if config.direct_map_base_pages else "PMD"


def _tables(step: StepResult | None, *, freed: bool) -> Tables:
    if step is None:
        return Tables()
    return step.tables_freed if freed else step.tables_allocated


def _count(tables: Tables) -> int:
    return sum(getattr(tables, name) for name in tables.__struct_fields__)


def matrix(configs: Iterable[Config], *, workers: int | None = None) -> Iterator[MatrixRow]:
    """Rows in the order of `configs`, made on `workers` processes (by default one for each CPU)."""
    return in_order(life_cycle, configs, workers)
