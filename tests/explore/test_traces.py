"""Traces: the kernel's own places, entries in words, and differences that add up to what became of the machine."""
# SPDX-License-Identifier: GPL-2.0-or-later

import dis
import re
from collections import defaultdict
from collections.abc import Iterator
from importlib import import_module
from inspect import unwrap
from pathlib import Path
from pkgutil import walk_packages
from string import ascii_lowercase
from types import FunctionType, SimpleNamespace

import msgspec
import pytest

from kernel_functions import functions_of
from kernels import kernel
from memhp import linux
from memhp.errors import BadInput
from memhp.explore.case import Case, Configuration, Variant
from memhp.explore.cases import CASES, case
from memhp.explore.cases.actors import boot, hot_add, hot_remove
from memhp.explore.doors.difference import picture
from memhp.explore.doors.run import KernelProgram
from memhp.explore.engine.replay import replay, watched
from memhp.explore.engine.trace import Line, Trace
from memhp.explore.explored import How, explore, replay_schedule
from memhp.explore.programs.program import Program
from memhp.explore.programs.shared import Shared
from memhp.hw.tlb import Table
from memhp.linux import place
from memhp.linux.arch.registry import port
from memhp.linux.state import Kernel
from memhp.spans import Span, SpanMap

LOONGARCH = port("loongarch64")
RISCV = "riscv64-4K-48-linux-6.12"
CONFIGURATIONS = (RISCV, "arm64-4K-48-linux-6.12", "x86_64-4K-48-linux-6.12")


@pytest.fixture(scope="module")
def functions() -> frozenset[str]:
    """Every ``file:function`` of the kernel's files that the model mirrors."""
    return functions_of("6.12", "7.2")


def functions_here() -> Iterator[FunctionType]:
    """Every function of the model's kernel."""
    for module in walk_packages(linux.__path__, f"{linux.__name__}."):
        for value in vars(import_module(module.name)).values():
            function = unwrap(value) if callable(value) else None
            if isinstance(function, FunctionType) and function.__module__ == module.name:
                yield function


@pytest.fixture(scope="module")
def removal() -> Trace:
    """Hot-remove on riscv64 alone, from its first step to its last."""
    return everything("free-before-flush", "riscv-order", RISCV)


def everything(name: str, variant: str, configuration: str) -> Trace:
    run = case(name).program(variant, configuration).run()
    return watched(run, "", extend=100_000)


def of_each_architecture() -> Iterator[tuple[Case, Variant, Configuration]]:
    """Of every race the first and the last variant for each architecture."""
    for one in CASES:
        chosen = {
            (variant.name, where.name): (one, variant, where)
            for variants in (one.variants, one.variants[::-1])
            for variant, where in {
                where.arch: (variant, where) for variant in variants[::-1] for where in variant.configurations[::-1]
            }.values()
        }
        yield from chosen.values()


@pytest.mark.parametrize(
    ("one", "variant", "where"),
    list(of_each_architecture()),
    ids=lambda part: getattr(part, "name", ""),
)
def test_every_step_is_in_a_function_of_the_kernel(
    one: Case, variant: Variant, where: Configuration, functions: frozenset[str]
) -> None:
    program = one.build(variant, where)
    for first in range(len(program.names)):
        run = program.run()
        trace = watched(run, ascii_lowercase[first] if run.enabled(first) else "", extend=20_000)
        nowhere = {line.kind for line in trace.lines if not line.place}
        assert not nowhere & {"load", "store", "flush", "claim", "release"}
        named = {line.place for line in trace.lines} - {""}
        assert all(re.fullmatch(r"[a-z0-9_/.-]+\.[ch]:\w+", name) for name in named), named
        assert named <= functions, named - functions


def test_what_goes_by_another_name_here_goes_by_that_of_a_function_of_the_kernel(functions: frozenset[str]) -> None:
    """What decorators, builders and removers of page tables say, also where no race comes by."""
    for module in walk_packages(linux.__path__, f"{linux.__name__}."):
        import_module(module.name)
    assert functions >= place.STATED, place.STATED - functions
    assert len(place.STATED) > 60


def test_no_function_is_told_to_be_of_another_file_than_the_kernel_has_it_in(functions: frozenset[str]) -> None:
    by_name = defaultdict(set)
    for each in functions:
        file, _, name = each.partition(":")
        by_name[name].add(file)
    files = {file for having in by_name.values() for file in having}
    wrong = {}
    for own in set(map(place.own_place, functions_here())) - functions:
        file, _, name = own.partition(":")
        if file in files and by_name[name]:
            wrong[own] = by_name[name]
    assert wrong == {}


def test_it_is_said_of_every_function_with_a_kernel_name_where_it_is_in_the_kernel(functions: frozenset[str]) -> None:
    """By its module or by itself; and of every public function in a module that has the name of a kernel file."""
    names = {each.partition(":")[2] for each in functions}
    files = {str(Path(each.partition(":")[0]).with_suffix("")).replace("-", "_") for each in functions}
    unsaid = [
        f"{function.__module__}.{function.__name__}"
        for function in functions_here()
        if not place.is_stated(function) and not re.match("_(?!_)|<", function.__name__)
        if function.__name__ in names or function.__module__.removeprefix("memhp.linux.").replace(".", "/") in files
    ]
    assert unsaid == []


@pytest.mark.parametrize(
    ("function", "file"),
    [
        (LOONGARCH.arch_add_memory, "arch/loongarch/mm/init.c"),
        (LOONGARCH.arch_remove_memory, "arch/loongarch/mm/init.c"),
        (LOONGARCH.vmemmap_populate, "arch/loongarch/mm/init.c"),
        (LOONGARCH.vmemmap_free, "arch/loongarch/mm/init.c"),
        (LOONGARCH.set_direct_map_invalid_noflush, "arch/loongarch/mm/pageattr.c"),
        (LOONGARCH.flush_tlb_all, "arch/loongarch/kernel/smp.c"),
        (LOONGARCH.flush_tlb_kernel_range, "arch/loongarch/kernel/smp.c"),
    ],
)
def test_what_loongarch_does_itself_is_in_its_own_files(function: FunctionType, file: str) -> None:
    """The files of linux-7.2 that define them."""
    assert place.own_place(function) == f"{file}:{function.__name__}"


def test_a_pmd_leaf_of_the_vmemmap_is_flushed_on_loongarch_by_its_own_function(functions: frozenset[str]) -> None:
    """linux-7.2: ``vmemmap_set_pmd()`` calls ``set_pmd_at()``, that ``flush_tlb_all()`` of kernel/smp.c."""
    k = boot(kernel("loongarch64", "linux-7.2").config)
    lines = watched(KernelProgram(k, (hot_add,), ("hot-add",)).run(), "a", extend=20_000).lines
    assert {line.place for line in lines if line.kind == "flush"} == {"arch/loongarch/kernel/smp.c:flush_tlb_all"}
    assert {line.place for line in lines} - {""} <= functions


def test_modules_lie_where_the_files_of_the_kernel_lie_that_they_stand_for() -> None:
    top = Path(linux.__file__).parent
    for module in sorted(top.rglob("*.py")):
        for name in re.findall(r'^KERNEL_FILE = "(.*)"$', module.read_text(encoding="utf-8"), re.MULTILINE):
            folder = Path(name).parent
            beside = module.relative_to(top)
            assert folder in (beside.parent, beside.with_suffix("")) or folder == Path("include/linux"), module


def test_a_renamed_variable_changes_no_place() -> None:
    """Table and names are arguments, by position, of functions and loops: what these call them does not matter."""
    names = place.Descent(unmap=("a.c:pte", "a.c:pmd"))

    @place.part_of_descent("unmap")
    def anything(_machine: object, _as_told: SimpleNamespace, _tables: Table) -> str:
        return place.here()

    @place.each_level(("b.c:pte", "b.c:pmd"))
    def other(_kernel: object, _tables: Table) -> tuple[str, str]:
        return place.here(), place.place(Table(0, 0, 0))

    @place.each_level(("c.c:pte", "c.c:pmd"))
    def entries(_kernel: object, _tables: Table) -> Iterator[str]:
        yield place.here()

    assert list(entries(None, Table(0, 1, 0))) == ["c.c:pmd"]
    assert [anything(None, SimpleNamespace(names=names), Table(0, height, 0)) for height in (0, 1, 2)] == [
        "a.c:pte", "a.c:pmd", "a.c:pmd",
    ]  # fmt: skip
    assert other(None, Table(0, 1, 0)) == ("b.c:pmd", "b.c:pte")


def test_no_function_that_is_several_in_the_kernel_gives_what_tells_them_apart_another_value() -> None:
    for module in walk_packages(linux.__path__, f"{linux.__name__}."):
        import_module(module.name)
    assert len(place.BY_LEVEL) > 15
    for code, level in place.BY_LEVEL.items():
        asked = code.co_varnames[: code.co_varnames.index(level.table) + 1]
        changed = {step.argval for step in dis.get_instructions(code) if step.opname in {"STORE_FAST", "STORE_DEREF"}}
        assert not changed & set(asked), code


@pytest.mark.parametrize(
    ("variant", "configuration", "kind", "function"),
    [
        ("riscv-order", CONFIGURATIONS[0], "store", "arch/riscv/mm/init.c:remove_pmd_mapping"),
        ("riscv-order", CONFIGURATIONS[0], "flush", "arch/riscv/mm/tlbflush.c:flush_tlb_all"),
        ("arm64-order", CONFIGURATIONS[1], "store", "arch/arm64/mm/mmu.c:unmap_hotplug_pmd_range"),
        ("arm64-order", CONFIGURATIONS[1], "flush", "arch/arm64/mm/mmu.c:unmap_hotplug_pmd_range"),
        ("x86-order", CONFIGURATIONS[2], "store", "arch/x86/mm/init_64.c:remove_pmd_table"),
    ],
)
def test_the_storage_of_struct_pages_is_unmapped_where_the_kernel_does_it(
    variant: str, configuration: str, kind: str, function: str
) -> None:
    """linux-6.12: the pmd loop of each architecture's removal; riscv flushes when the loops are done."""
    lines = everything("free-before-flush", variant, configuration).lines
    assert next(line.place for line in lines if line.kind == kind) == function


def test_a_cleared_entry_is_told_with_its_address_its_value_and_what_becomes_stale(removal: Trace) -> None:
    line = next(line for line in removal.lines if line.kind == "store")
    assert line.what.startswith("PMD 0x")
    assert line.address is not None
    assert "vmemmap: struct pages of PFN" in line.about
    assert line.old is not None and line.old.raw is not None
    assert line.new is not None and (line.new.raw, line.new.text) == (0, "empty")
    assert re.fullmatch(r"2 MiB leaf: PFN 0x\w+-0x\w+ DAG\.\.WR", line.old.text)
    assert line.text == f"store {line.what}: {line.old.raw:#x} -> 0x0"
    assert [change.kind for change in line.changes] == ["entry", "stale"]
    assert (line.changes[1].old, line.changes[1].new) == ("valid", "stale on every CPU")


def test_frames_freed_behind_a_stale_entry_are_exposed_until_the_flush(removal: Trace) -> None:
    store = next(line for line in removal.lines if line.kind == "store")
    release = next(line for line in removal.lines if line.kind == "release")
    flush = next(line for line in removal.lines if line.kind == "flush")
    assert store.old is not None
    assert release.what in store.old.text
    changes = {change.kind: change for change in release.changes}
    assert (changes["frames"].what, changes["frames"].old, changes["frames"].new) == (release.what, "memmap", "free")
    assert changes["exposed"].new == f"given back, still reached through what {store.what} held"
    told = {(change.kind, change.new) for change in flush.changes}
    assert {("stale", "clean"), ("exposed", "out of reach")} <= told
    assert flush.step > release.step


def spans_of(line: Line) -> Iterator[tuple[Span, str, str]]:
    """What a step says of who uses frames: (PFNs, before, after)."""
    for change in line.changes:
        if change.kind == "frames":
            found = re.fullmatch(r"PFN (0x\w+)(?:-(0x\w+))?", change.what)
            assert found is not None
            start = int(found[1], 16)
            yield Span(start, int(found[2], 16) + 1 if found[2] else start + 1), change.old, change.new


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_differences_add_up_to_what_became_of_the_machine(configuration: str) -> None:
    variant = case("ptdump-vs-hot-remove").variant("hotplug-lock")
    k = boot(variant.config(variant.configuration(configuration)))
    ends: list[SpanMap[str]] = []

    def add_and_remove(k: Kernel) -> None:
        hot_add(k)
        hot_remove(k)

    def look(k: Kernel) -> None:
        ends.append(SpanMap((start, end, str(owner)) for start, end, owner in picture(k).owners))

    run = KernelProgram(k, (add_and_remove,), ("cpu 0",), check=look).run()
    trace = watched(run, "", extend=100_000)
    assert trace.end == "done"
    owners = SpanMap((start, end, str(owner)) for start, end, owner in picture(k).owners)
    held: dict[str, str] = {}
    for line in trace.lines:
        for span, old, new in spans_of(line):
            assert {value for _, _, value in owners.runs(*span)} == {old}, line
            owners.set(*span, new)
        for change in line.changes:
            if change.kind == "lock":
                assert held.get(change.what, "free") == change.old
                held[change.what] = change.new
    assert owners == ends[0]
    assert set(held.values()) == {"free"}
    told = {(change.kind, change.new) for line in trace.lines for change in line.changes}
    assert {("section", "not present"), ("block", "offline"), ("block", "no device"), ("iomem", "gone")} <= told


def test_looking_at_the_machine_changes_nothing(removal: Trace) -> None:
    program = case("free-before-flush").program("riscv-order", RISCV)
    alone = replay(program.run(), removal.schedule)
    assert [line.text for line in alone.lines] == [line.text for line in removal.lines]
    assert all(not line.changes or {change.kind for change in line.changes} == {"entry"} for line in alone.lines)


def test_a_trace_comes_back_from_json(removal: Trace) -> None:
    assert msgspec.json.decode(msgspec.json.encode(removal), type=Trace) == removal


def test_a_trace_of_a_small_program_has_the_same_form() -> None:
    def increment(memory: Shared) -> None:
        with memory.locked("lock"):
            memory.store("x", memory.load("x") + 1)

    trace = watched(Program((increment, increment), {"x": 0}).run(), "a4")
    load, store = trace.lines[1:3]
    assert (load.kind, load.what, load.place, load.changes) == ("load", "x", "", ())
    assert (load.old and load.old.raw, load.new) == (0, None)
    assert (store.new and store.new.raw, [(one.kind, one.what) for one in store.changes]) == (1, [("variable", "x")])
    assert trace.waiting == (None, "lock lock")


def test_a_deadlock_says_who_waits_for_what() -> None:
    def one(memory: Shared) -> None:
        with memory.locked("x"), memory.locked("y"):
            pass

    def other(memory: Shared) -> None:
        with memory.locked("y"), memory.locked("x"):
            pass

    trace = replay(Program((one, other)).run(), "ab")
    assert (trace.end, trace.waiting) == ("deadlock", ("lock y", "lock x"))


def test_a_search_says_how_it_went_and_whether_that_is_as_known() -> None:
    name, variant, where = "ptdump-vs-hot-remove", "hotplug-lock", RISCV
    every = explore(name, variant, where)
    assert (every.verdict, every.executions, every.bound, every.trace) == ("safe", every.classes, None, None)
    assert every.executions >= 2, "the dump comes first, or the removal"
    assert every.as_known
    few = explore(name, variant, where, How(preemptions=0))
    assert (few.verdict, few.bound) == ("safe up to 0 preemptions", "0 preemptions")
    assert few.as_known
    some = explore(name, variant, where, How(random=3, seed=1))
    assert (some.verdict, some.as_known) == ("undecided", False)
    slow = explore(name, variant, where, How(reduction=False, executions=5))
    assert slow.mode == "every schedule, one by one"
    assert slow.verdict in {"safe", "undecided"}


def test_the_trace_of_a_verdict_replays_from_its_schedule() -> None:
    found = explore("ptdump-vs-vmalloc-huge", "no-lock", "riscv64-4K-39-linux-7.2")
    assert (found.verdict, found.as_known) == ("broken", True)
    assert found.trace is not None
    again = replay_schedule(found.name, found.variant, found.configuration, found.trace.schedule)
    assert again.trace == found.trace
    assert again.reason == found.reason
    shorter = replay_schedule(found.name, found.variant, found.configuration, "b2", extend=3)
    assert shorter.trace is not None
    assert (len(shorter.trace.lines), shorter.trace.end, shorter.verdict) == (5, "unfinished", "undecided")
    with pytest.raises(BadInput, match="cannot be done"):
        replay_schedule(found.name, found.variant, found.configuration, "z")
