"""Every view of a trace shows all of it: columns, differences, sequence diagram, Mermaid text, and the page."""
# SPDX-License-Identifier: GPL-2.0-or-later

import io
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from memhp.explore.engine.trace import Change, Line, Trace, Value
from memhp.explore.explored import Explored, explore, replay_schedule
from memhp.report.trace import print_explored
from memhp.report.trace_columns import print_columns
from memhp.report.trace_diff import print_differences
from memhp.report.trace_fold import fold
from memhp.report.trace_lanes import MOST_LANES, lanes
from memhp.report.trace_page import page
from memhp.report.trace_sequence import mermaid, print_sequence
from memhp.report.trace_state import standings
from report.page_parser import Page

WHERE = "riscv64-4K-48-linux-6.12"


@pytest.fixture(scope="module")
def broken() -> Explored:
    """A dump that reads a table which hot-remove has freed."""
    return explore("ptdump-vs-hot-remove", "no-lock", WHERE)


@pytest.fixture(scope="module")
def trace(broken: Explored) -> Trace:
    assert broken.trace is not None
    return broken.trace


def printed(view: Any, *args: Any, width: int = 120, **options: Any) -> list[str]:
    out = Console(file=io.StringIO(), width=width, highlight=False)
    view(out, *args, **options)
    file = out.file
    assert isinstance(file, io.StringIO)
    return file.getvalue().splitlines()


def load(step: int, index: int, *, thread: int = 0, value: int = 0, table: str = "PMD 0x100") -> Line:
    what = f"{table}[{index}]"
    return Line(
        step=step, thread=thread, name=f"cpu {thread}", place="mm/pagewalk.c:walk_pmd_range", kind="load", what=what,
        old=Value(value, "empty" if not value else "2 MiB leaf: PFN 0x200-0x3ff"), text=f"load {what}: {value:#x}",
    )  # fmt: skip


def clear(step: int, index: int) -> Line:
    what = f"PMD 0x100[{index}]"
    return Line(
        step=step, thread=0, name="cpu 0", place="arch/riscv/mm/init.c:remove_pmd_mapping", kind="store", what=what,
        old=Value(0x2E7 + (index << 19), f"2 MiB leaf: PFN {index << 9:#x}-{(index << 9) + 0x1FF:#x}"),
        new=Value(0, "empty"), text=f"store {what}",
        changes=(
            Change("entry", what, f"{0x2E7 + (index << 19):#x} 2 MiB leaf: PFN {index << 9:#x}", "0x0 empty"),
            Change("stale", f"PMD leaves for {index << 21:#x}-{(index << 21) + 0x1FFFFF:#x}", "valid", "stale"),
        ),
    )  # fmt: skip


# Steps taken together ------------------------------------------------------------------------------------------


def test_loads_of_one_entry_after_the_other_are_one_row() -> None:
    (row,) = fold([load(step, step + 2) for step in range(1, 62)])
    assert (row.steps, row.title, row.values) == ("1–61", "61 × load PMD 0x100[3..63]", "empty")


def test_a_loop_of_load_and_clear_is_one_row_with_one_difference_of_each_sort() -> None:
    lines = [line for i in range(64) for line in (load(2 * i + 1, i, value=0x2E7), clear(2 * i + 2, i))]
    (row,) = fold(lines)
    assert (row.title, row.values) == ("64 × load, store PMD 0x100[0..63]", "2 MiB leaf → empty")
    entry, stale = row.changes
    assert (entry.what, entry.old, entry.new) == ("PMD 0x100[0..63]", "2 MiB leaf", "empty")
    assert stale.what == "PMD leaves for 0x0-0x7ffffff"


@pytest.mark.parametrize(
    "lines",
    [
        [load(1, 0), load(2, 1)],
        [load(1, 0), load(2, 1, thread=1), load(3, 2), load(4, 3, thread=1)],
        [load(1, 0), load(2, 5), load(3, 3), load(4, 9)],
        [load(1, 0, table="PMD 0x1"), load(2, 1, table="PMD 0x2"), load(3, 2, table="PMD 0x3")],
        [load(1, 0), load(2, 1, value=0x2E7), load(3, 2), load(4, 3, value=0x2E7)],
    ],
    ids=["too few", "two CPUs", "no order", "several tables", "other values"],
)
def test_steps_that_are_no_loop_stay_apart(lines: list[Line]) -> None:
    assert [row.times for row in fold(lines)] == [1] * len(lines)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 3), st.integers(0, 1)), max_size=60))
def test_every_step_is_in_one_row_in_order(steps: list[tuple[int, int, int]]) -> None:
    lines = [load(at + 1, index, thread=thread, value=value) for at, (thread, index, value) in enumerate(steps)]
    assert [line for row in fold(lines) for line in row.lines] == lines
    assert all(len(row.lines) == row.period * row.times for row in fold(lines))
    assert [row.lines for row in fold(lines, full=True)] == [(line,) for line in lines]


def test_a_step_that_breaks_something_stands_alone(trace: Trace) -> None:
    row = fold(trace.lines)[-1]
    assert row.lines == (trace.lines[-1],)
    assert [change.kind for change in row.changes] == ["broken"]


# In the terminal -------------------------------------------------------------------------------------------------


def test_columns_put_each_step_under_its_cpu(trace: Trace) -> None:
    head, *lines = printed(print_columns, trace)
    ptdump = head.index("CPU 1: ptdump")
    assert head.index("CPU 0: hot-remove") < ptdump
    assert all(len(line) <= 120 for line in lines)
    last = next(line for line in reversed(lines) if line.strip())
    assert last[ptdump:].strip() == f"load {trace.lines[-1].what}"
    assert any("mm/memory_hotplug.c:try_remove_memory" in line[:ptdump] for line in lines)
    folded = [line for line in lines if " × " in line]
    assert folded
    assert not any(" × " in line for line in printed(print_columns, trace, full=True))


def test_full_columns_have_every_step(trace: Trace) -> None:
    steps = [found[1] for line in printed(print_columns, trace, full=True) if (found := re.match(r"\s*(\d+) ", line))]
    assert [int(step) for step in steps] == [line.step for line in trace.lines]


def test_differences_are_all_told(trace: Trace) -> None:
    text = " ".join(printed(print_differences, trace, full=True, width=400))
    for line in trace.lines:
        for change in line.changes:
            assert change.what in text
    short = printed(print_differences, trace, width=400)
    assert any("steps that change nothing: load" in line for line in short)
    assert len(short) < len(printed(print_differences, trace, full=True, width=400))


def test_the_diagram_has_an_arrow_for_each_row(trace: Trace) -> None:
    rows = fold(trace.lines)
    lines = printed(print_sequence, trace)
    arrows = [at for at, line in enumerate(lines) if "├" in line or "●" in line]
    assert len(arrows) == len(rows)
    for row, at, following in zip(rows, arrows, [*arrows[1:], len(lines)], strict=True):
        assert lines[at].split()[0] == row.steps
        assert row.title in " ".join(" ".join(lines[at:following]).split())


def test_few_objects_have_a_lifeline_of_their_own_and_the_last_one_has(trace: Trace) -> None:
    found = lanes(trace)
    assert len(found.names) <= 2 * MOST_LANES
    last = found.events[-1]
    assert last.lane is not None
    assert found.names[last.lane] == trace.lines[-1].what.partition("[")[0]


def test_mermaid_text_declares_whom_it_mentions(trace: Trace) -> None:
    head, *lines = mermaid(trace).splitlines()
    assert head == "sequenceDiagram"
    declared = {found[1] for line in lines if (found := re.match(r"  participant (\w+) as ", line))}
    arrows = [re.match(r"  (\w+)--?>>(\w+): .", line) for line in lines if ">>" in line]
    assert len(arrows) == len(fold(trace.lines))
    assert {name for arrow in arrows if arrow for name in arrow.groups()} <= declared
    assert not any(";" in line for line in lines)


def test_what_was_found_out_is_printed_with_the_way_to_replay_it(broken: Explored) -> None:
    lines = printed(print_explored, broken)
    assert lines[0] == f"ptdump-vs-hot-remove, no-lock on {WHERE}: broken"
    assert broken.trace is not None
    assert lines[-1].endswith(f"--configuration {WHERE} --replay {broken.trace.schedule}")
    assert broken.reason in lines


# The state after a step -----------------------------------------------------------------------------------------


def test_what_stands_after_each_step_is_what_the_steps_left(trace: Trace) -> None:
    after = list(standings(trace.lines))
    assert len(after) == len(trace.lines)
    for line, state in zip(trace.lines, after, strict=True):
        if line.kind == "lock":
            assert line.what in dict(state.locks)
        if line.kind == "unlock":
            assert line.what not in dict(state.locks)
        if line.kind == "flush" and line.what == "everything":
            assert (state.stale, state.exposed) == ((), ())
    clears = [line.step for line in trace.lines if line.kind == "store"]
    assert after[clears[0] - 1].stale


# The page ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def html(broken: Explored) -> Page:
    return Page(page(broken))


def test_the_page_needs_nothing_but_itself(html: Page) -> None:
    html.check_alone()
    html.check_outline()


def test_the_page_has_every_step_with_its_differences_and_what_stands_after_it(html: Page, trace: Trace) -> None:
    data = json.loads(html.scripts[0])
    assert data["schedule"] == trace.schedule
    assert len(data["steps"]) == len(trace.lines)
    for step, line in zip(data["steps"], trace.lines, strict=True):
        assert (step["place"], step["kind"], step["what"]) == (line.place, line.kind, line.what)
        assert step["changes"] == [[one.kind, one.what, one.old, one.new] for one in line.changes]
        assert data["states"][step["state"]].keys() == {"locks", "stale", "exposed", "ended"}


@pytest.mark.parametrize(("tag", "name"), [("div", "row"), ("g", "event")])
def test_rows_and_arrows_cover_all_steps_once(html: Page, trace: Trace, tag: str, name: str) -> None:
    spans = [
        (int(attributes["data-step"] or 0), int(attributes["data-last"] or 0))
        for one, attributes in html.elements
        if one == tag and "data-step" in attributes and name in (attributes.get("class") or "").split()
    ]
    assert [step for first, last in spans for step in range(first, last + 1)] == [line.step for line in trace.lines]


def test_the_script_finds_the_elements_that_it_looks_for(html: Page) -> None:
    ids = {attributes["id"] for _, attributes in html.elements if "id" in attributes}
    wanted = set(re.findall(r'\$\("([\w-]+)"\)', html.scripts[1])) | {"trace", "schedule"}
    assert wanted <= ids
    copied = [attributes["data-copy"] for _, attributes in html.elements if "data-copy" in attributes]
    assert len(copied) == 2


def test_the_page_is_dressed_for_light_and_dark_and_for_narrow_screens(html: Page) -> None:
    style = "".join(html.styles)
    assert "@media screen and (prefers-color-scheme: dark)" in style
    assert "@media (max-width: 44rem)" in style
    light = set(re.findall(r"(--[\w-]+):", style.split("@media")[0]))
    assert set(re.findall(r"var\((--[\w-]+)", style)) - {"--hue", "--cpus", "--at"} <= light


def test_rows_and_tabs_have_the_roles_of_what_they_are(html: Page) -> None:
    roles = {attributes["role"]: attributes for _, attributes in html.elements if "role" in attributes}
    assert {"treegrid", "rowgroup", "row", "rowheader", "gridcell"} <= roles.keys()
    assert {"tablist", "tab", "tabpanel", "listbox", "option"} <= roles.keys()
    rows = [attributes for attributes in html.classed("row") if "data-step" in attributes]
    assert all("tabindex" in each and "aria-selected" in each for each in rows)
    ids = {attributes.get("id") for _, attributes in html.elements}
    for _, attributes in html.elements:
        assert {attributes.get("aria-controls"), attributes.get("aria-labelledby")} <= ids | {None}


def test_what_is_told_is_escaped(broken: Explored) -> None:
    import msgspec

    assert broken.trace is not None
    nasty = "</script><b>&"
    lines = (msgspec.structs.replace(broken.trace.lines[0], what=nasty, place=nasty, name=nasty),)
    trace = msgspec.structs.replace(broken.trace, lines=lines, names=(nasty, nasty))
    found = Page(page(msgspec.structs.replace(broken, trace=trace, reason=nasty, about=nasty)))
    assert json.loads(found.scripts[0])["steps"][0]["what"] == nasty
    assert len(found.scripts) == 2


def test_a_page_without_a_trace_says_so() -> None:
    safe = explore("ptdump-vs-hot-remove", "hotplug-lock", WHERE)
    text = page(safe)
    assert Page(text).open == []
    assert "No schedule goes wrong" in text


def test_a_replayed_schedule_has_a_page_of_its_own() -> None:
    text = page(replay_schedule("ptdump-vs-hot-remove", "no-lock", WHERE, "a2b"))
    assert "it is not at its end" in text
