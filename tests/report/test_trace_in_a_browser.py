"""The page of a trace in a real browser: what keys, clicks and taps do, and that it needs nothing but itself."""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from memhp.explore.explored import Explored, explore
from memhp.report.trace_page import page

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine (Debian: apt install chromium)")

HELPERS = """
const key = name => document.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true }));
const click = node => node.dispatchEvent(new MouseEvent("click", { bubbles: true }));
const twice = node => {
  click(node); click(node);
  node.dispatchEvent(new MouseEvent("dblclick", { bubbles: true }));
};
const all = selector => [...document.querySelectorAll(selector)];
const at = () => Number(document.getElementById("at").textContent);
const rows = () => all("#columns .row").length;
const seen = id => document.getElementById(id).getClientRects().length > 0;
const outside = () => all("[src], link, [href]:not([href^='#'])").map(node => node.outerHTML);
const copied = [];
Object.defineProperty(navigator, "clipboard", { value: { writeText: text => Promise.resolve(copied.push(text)) } });
"""
CATCH = "<script>window.wrong = []; window.onerror = text => window.wrong.push(text);</script>"


@pytest.fixture(scope="module")
def broken() -> Explored:
    """A dump of the direct map that reads a table which hot-remove has freed."""
    return explore("ptdump-vs-hot-remove", "no-lock", "riscv64-4K-48-linux-6.12")


def told(broken: Explored, folder: Path, script: str, *, width: int = 1400) -> Any:
    """What a script says (the value that it returns), run in the page after it has been loaded."""
    assert BROWSER is not None
    probe = f"""<script>{HELPERS}
const said = (() => {{ {script} }})();
const result = document.createElement("pre");
result.id = "said";
Promise.resolve().then(() => {{
  result.textContent = JSON.stringify({{ said, copied, outside: outside(), wrong: window.wrong }});
  document.body.append(result);
}});
</script></body></html>"""
    whole = page(broken).replace("</head>", CATCH + "</head>").replace("</body></html>", probe)
    file = folder / "trace.html"
    file.write_text(whole)
    options = ("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}", "--dump-dom")
    done = subprocess.run(
        [BROWSER, *options, f"--window-size={width},900", f"file://{file}#step=3"],
        text=True, capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    result = json.loads(unescape(done.stdout.rpartition('<pre id="said">')[2].partition("</pre>")[0]))
    assert result["wrong"] == []
    assert result["outside"] == []
    return result


def test_keys_go_through_the_steps(broken: Explored, tmp_path: Path) -> None:
    script = """
    const been = [at()];
    for (const name of ["j", "ArrowDown", "k", "Home", "n", "p", "End", "q"]) { key(name); been.push(at()); }
    return [been, location.hash];
    """
    assert broken.trace is not None
    lines = broken.trace.lines
    switch = next(line.step for line in lines if line.thread != lines[0].thread)
    been, where = told(broken, tmp_path, script)["said"]
    assert been == [3, 4, 5, 4, 1, switch, 1, len(lines), len(lines)]
    assert where == f"#step={len(lines)}"


def test_a_click_picks_a_step_in_each_of_the_views(broken: Explored, tmp_path: Path) -> None:
    script = """
    const been = [];
    for (const node of [...all("#columns .row"), ...all("#sequence [data-step]"), ...all(".strip [data-step]")]) {
      click(node);
      been.push([at(), Number(node.dataset.step), Number(node.dataset.last)]);
    }
    return been;
    """
    been = told(broken, tmp_path, script)["said"]
    assert len(been) > 20
    assert all(first == at <= last for at, first, last in been)


def test_steps_taken_together_unfold_and_fold_and_two_quick_clicks_leave_them_as_they_were(
    broken: Explored, tmp_path: Path
) -> None:
    script = """
    const button = all(".fold")[0], row = button.closest(".row"), counts = [rows()];
    for (const act of [() => click(button), () => click(button), () => twice(button),
                       () => { click(row); key("f"); }, () => key("f"),
                       () => row.dispatchEvent(new MouseEvent("dblclick", { bubbles: true }))]) {
      act();
      counts.push(rows());
    }
    return [counts, row.dataset.last - row.dataset.step + 1];
    """
    counts, inside = told(broken, tmp_path, script)["said"]
    closed, opened = counts[0], counts[0] + inside
    assert inside > 1
    assert counts == [closed, opened, closed, closed, opened, closed, opened]


def test_the_buttons_copy_the_schedule_and_the_command_that_replays_it(broken: Explored, tmp_path: Path) -> None:
    script = 'all("button[data-copy]").forEach(click); key("c");'
    assert broken.trace is not None
    schedule = broken.trace.schedule
    command = (
        f"memhp explore {broken.name} --variant {broken.variant} --configuration {broken.configuration} "
        f"--replay {schedule}"
    )
    assert told(broken, tmp_path, script)["copied"] == [schedule, command, schedule]


@pytest.mark.parametrize("width", [1400, 500])
def test_one_view_is_seen_at_a_time_and_nothing_is_wider_than_the_window(
    broken: Explored, tmp_path: Path, width: int
) -> None:
    script = """
    const views = () => [seen("columns"), seen("sequence")], found = [views()];
    for (const act of [() => key("v"), () => key("v"), () => click(document.getElementById("tab-sequence")),
                       () => click(document.getElementById("tab-columns"))]) {
      act();
      found.push(views());
    }
    return [found, document.documentElement.scrollWidth - innerWidth];
    """
    columns, diagram = [True, False], [False, True]
    found, too_wide = told(broken, tmp_path, script, width=width)["said"]
    assert found == [columns, diagram, columns, diagram, columns]
    assert too_wide <= 0


def test_rows_are_reached_and_walked_with_the_keyboard_alone(broken: Explored, tmp_path: Path) -> None:
    script = """
    const reachable = () => all("#columns .row[tabindex='0']");
    const press = name =>
      document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true }));
    const focused = () => Number(document.activeElement.dataset.step);
    const once = reachable().length;
    reachable()[0].focus();
    const been = [focused()];
    for (const name of ["ArrowDown", "ArrowUp", "Home"]) { press(name); been.push(focused()); }
    const fold = all("#columns .row[aria-expanded]")[0];
    click(fold); fold.focus();
    const counts = [rows()];
    for (const name of ["ArrowRight", "ArrowRight", "ArrowLeft", "Enter", "Enter"]) {
      press(name);
      counts.push(rows());
    }
    document.getElementById("tab-columns").focus();
    press("ArrowRight");
    return [once, been, counts, fold.dataset.last - fold.dataset.step + 1, document.activeElement.id, seen("sequence"),
            all("#columns .row[aria-selected=true]").length];
    """
    once, been, counts, inside, tab, diagram, selected = told(broken, tmp_path, script)["said"]
    assert (once, selected) == (1, 1)
    assert been == [3, 4, 3, 1]
    closed = counts[0]
    assert counts == [closed, closed + inside, closed + inside, closed, closed + inside, closed]
    assert (tab, diagram) == ("tab-sequence", True)
