"""What all tests share: their helpers are importable, and Hypothesis draws the same examples everywhere, untimed."""
# SPDX-License-Identifier: GPL-2.0-or-later

from pathlib import Path

import pytest
from hypothesis import settings

TO_MEND = Path(__file__).with_name("to_mend.tsv")
"""Tests that are known to fail since something under them changed, with the reason: a list that is to become empty."""

settings.register_profile("memhp", deadline=None, derandomize=True)
settings.load_profile("memhp")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that is to be mended may fail; the end of the run says how many did."""
    rows = [line.split("\t") for line in TO_MEND.read_text(encoding="utf-8").splitlines()[1:]]
    why = {row[0]: row[1] for row in rows}
    for item in items:
        reason = why.get(item.nodeid.partition("[")[0])
        if reason is not None:
            item.add_marker(pytest.mark.xfail(reason=f"to be mended: {reason}", strict=False))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in capitals which real kernels were not booted: a run without them proves less."""
    reasons = {str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", ()) if report.longrepr}
    missing = sorted(reason.removeprefix("Skipped: ") for reason in reasons if "KERNEL WAS BOOTED" in reason)
    failed = len(terminalreporter.stats.get("xfailed", ()))
    if failed:
        terminalreporter.section("TESTS TO BE MENDED", red=True, bold=True)
        terminalreporter.write_line(f"{failed} failed that tests/to_mend.tsv lists: they prove nothing now", red=True)
    if missing:
        terminalreporter.section("REAL KERNELS ARE MISSING FROM THIS RUN", red=True, bold=True)
        for reason in missing:
            terminalreporter.write_line(reason, red=True)
