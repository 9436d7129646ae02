"""The page of a rehearsal: whole, alone, in order, escaped; and it marks what stands in the way where it is."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hatchling.builders.wheel import WheelBuilder

from memhp.report.address_axis import Scale
from memhp.report.obstacles import in_the_way
from memhp.report.page import page
from memhp.report.rendering import asset, render
from memhp.report.strip import USE, scale_of, strip
from memhp.report.svg import Label, spread
from memhp.scenario.load import loads
from memhp.scenario.result import BlockRun, BlockUse
from memhp.target.model.plan import Wish, plan
from memhp.target.model.run import rehearse_scenario
from memhp.target.model.session import Session
from memhp.units import GiB, MiB
from report.page_parser import Page
from scenario.examples import rehearsed

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def refused() -> Page:
    return Page(page(rehearsed("refused.toml")[0]))


@pytest.mark.parametrize("name", ["refused", "virtio-mem-day", "self-hosted", "pgd-policies"])
def test_a_page_is_whole_and_alone_and_its_headings_and_tables_are_in_order(name: str) -> None:
    run, _ = rehearsed(f"{name}.toml")
    found = Page(page(run))
    found.check_alone()
    found.check_outline()
    assert found.scripts == []
    assert found.headings[0] == (1, run.title)
    assert [level for level, _ in found.headings].count(3) == len(run.steps)
    ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_what_a_user_wrote_is_shown_and_not_done() -> None:
    run, _ = rehearsed("refused.toml")
    nasty = '<script>alert("1")</script>\x1b[31m\u202e&amp;'
    step = msgspec.structs.replace(run.steps[0], title=nasty, notes=[nasty])
    found = Page(page(msgspec.structs.replace(run, title=nasty, steps=[step, *run.steps[1:]])))
    shown = '<script>alert("1")</script>\\x1b[31m\\u202e&amp;'
    assert found.headings[0] == (1, shown)
    assert found.scripts == []
    assert found.text.count(shown) == 4
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202e]", found.text)


def percent(length: str | None) -> float:
    """A length of SVG in percent."""
    assert length is not None
    assert length.endswith("%")
    return float(length[:-1])


def test_the_blocks_that_refused_and_the_pages_in_the_way_are_marked_where_they_are(refused: Page) -> None:
    run, _ = rehearsed("refused.toml")
    frames = [each for each in refused.classed("refused", "rect") if "%" in (each["x"] or "")]
    pages = [each for each in refused.classed("way", "rect") if "%" in (each["x"] or "")]
    scale = scale_of(run)
    (frame,) = frames
    assert percent(frame["x"]) == pytest.approx(scale.x(4 * GiB) * 100, abs=0.001)
    assert percent(frame["width"]) == pytest.approx(scale.width(GiB) * 100, abs=0.001)
    assert percent(pages[0]["x"]) == pytest.approx(scale.x(4 * GiB) * 100, abs=0.01)
    last = pages[-1]
    end = percent(last["x"]) + percent(last["width"])
    assert end == pytest.approx(scale.x(4 * GiB + 900 * MiB) * 100, abs=0.3)
    assert "refused ▼" in refused.text
    (table,) = [each for each in refused.tables if each.caption == "In the way"]
    assert "32–39" in table.heads
    assert table.cells == [
        "0x100000000–0x140000000", "failure to isolate range", "PFN 0x100000–0x1383ff: 900 MiB kernel:slab",
    ]  # fmt: skip


def test_what_a_device_should_give_back_is_marked_while_it_stays() -> None:
    run, _ = rehearsed("virtio-mem-day.toml")
    marked = [step.index for step in run.steps if in_the_way(step)]
    short = [step.index for step in run.steps if any(each.plugged > each.requested for each in step.devices)]
    assert marked == short != []
    assert any("pinned:rdma" in cell for table in Page(page(run)).tables for cell in table.cells)


def bars(use: dict[str, int]) -> list[tuple[str, float]]:
    """The style and height of each bar of a block of 128 MiB that is used so."""
    block = BlockRun(
        first=0, last=0, state="online", zone="Normal", node=0, memmap_on_memory=False, start=0, size=128 * MiB
    )
    text = strip([block], [BlockUse(first=0, last=0, use=use)], [], Scale([(0, 128 * MiB)]), 128 * MiB)
    return [
        (attributes["class"] or "", float(attributes["height"] or 0))
        for _, attributes in Page(text).elements
        if (attributes.get("class") or "").startswith("u-")
    ]


def test_a_block_is_filled_by_its_uses_in_proportion_and_a_single_page_is_seen() -> None:
    assert bars({"free": 96 * MiB, "kernel": 32 * MiB}) == [("u-unmovable", USE / 4), ("u-free", 3 * USE / 4)]
    (pinned, height), (movable, rest) = bars({"pinned": 4096, "movable": 128 * MiB - 4096})
    assert (pinned, movable) == ("u-pinned", "u-movable")
    assert height >= 2
    assert height + rest == pytest.approx(USE, abs=0.02)


def test_blocks_too_narrow_to_be_told_apart_are_drawn_together() -> None:
    count = 20_000
    block = BlockRun(
        first=0, last=count - 1, state="online", zone="Normal", node=0, memmap_on_memory=False, start=0,
        size=count * 128 * MiB,
    )  # fmt: skip
    uses = [BlockUse(first=at, last=at, use={"kernel" if at % 2 else "free": 128 * MiB}) for at in range(count)]
    text = strip([block], uses, [], Scale([(0, count * 128 * MiB)]), 128 * MiB)
    elements = Page(text).elements
    assert 400 < len(elements) < 2_000


@pytest.mark.parametrize(("pixels", "styles"), [(300, {None}), (600, {None, "wide"})])
def test_labels_in_a_line_never_meet(pixels: int, styles: set[str | None]) -> None:
    labels = [Label(at / 20, f"{at << 30:#013x}") for at in range(20)] + [Label(1.0, "0x00500000000", ends=True)]
    shown = [attributes for _, attributes in Page("".join(spread(labels, 0))).elements]
    wide = 13 * 6.6
    starts = sorted(
        float((each["x"] or "")[:-1]) / 100 * pixels - (wide if each.get("text-anchor") == "end" else 0)
        for each in shown
        if each.get("class") in styles
    )
    assert len(starts) > 1
    assert all(after - before >= wide for before, after in pairwise(starts))


def test_the_entries_of_page_tables_that_changed_are_a_table_when_they_were_kept() -> None:
    text = '[machine]\npreset = "x86-vm"\nmemory = "1G"\n[[steps]]\ndo = "plug"\nsize = "1G"\n'
    run, _ = rehearse_scenario(loads(text), tables=True)
    found = Page(page(run))
    found.check_outline()
    (table,) = [each for each in found.tables if each.caption.startswith("Page-table entries")]
    assert table.heads[:6] == ["area", "level", "addresses", "what", "frames", "first entry"]
    assert len(table.cells) == 5 * len(run.steps[0].table_changes) > 0


def test_a_plan_is_drawn_with_its_steps_by_size_and_number() -> None:
    run, k = rehearse_scenario(loads('[machine]\npreset = "riscv-vm"\nmemory = "1G"\n'))
    made = plan(Session(k), 128 * GiB, Wish("dimm", zone="kernel"))
    found = Page(page(run, made))
    found.check_alone()
    found.check_outline()
    assert len(found.classed("step", "rect")) == len(made.steps) > 1
    shares = [float(str(each["width"]).rstrip("%")) for each in found.classed("takes", "rect")]
    assert shares == pytest.approx([100 * step.takes / (step.takes + step.leaves) for step in made.steps], abs=0.01)
    (table,) = [each for each in found.tables if each.caption == "Steps of the plan"]
    assert [f"{step.at:#x}" for step in made.steps] == [cell for cell in table.cells if cell.startswith("0x")]
    assert "went as expected" not in found.text


def test_every_style_that_is_used_is_defined_for_light_and_dark(refused: Page) -> None:
    style = "".join(refused.styles)
    light, dark = style.split("@media screen and (prefers-color-scheme: dark)")[:2]
    names = set(re.findall(r"(--[\w-]+):", light))
    assert names == set(re.findall(r"(--[\w-]+):", dark.split("} }")[0]))
    assert set(re.findall(r"var\((--[\w-]+)", style)) <= names | {"--z", "--hue", "--cpus", "--at"}
    assert "@media print" in style


def test_templates_escape_what_they_are_given_and_refuse_what_is_missing() -> None:
    from jinja2 import UndefinedError

    with pytest.raises(UndefinedError):
        render("base.html")
    assert "<title>&lt;b&gt;\\x07</title>" in render("base.html", title="<b>\x07")


def test_the_wheel_holds_templates_style_and_script() -> None:
    listed = {each.distribution_path for each in WheelBuilder(str(ROOT)).recurse_included_files()}
    parts = {
        path.relative_to(ROOT / "src").as_posix()
        for folder in ("assets", "templates")
        for path in (ROOT / "src/memhp/report" / folder).iterdir()
    }
    assert {f"memhp/report/{name}" for name in ("assets/common.css", "templates/base.html")} <= parts <= listed
    assert asset("common.css")


def test_a_run_without_a_page_does_not_load_templates() -> None:
    code = (
        "import sys; from memhp.cli.main import main; main(['rehearse', sys.argv[1]]); print('jinja2' in sys.modules)"
    )
    example = str(ROOT / "examples" / "refused.toml")
    out = subprocess.run([sys.executable, "-c", code, example], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "False"
