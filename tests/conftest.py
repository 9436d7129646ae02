"""What all tests share: their helpers are importable, and Hypothesis draws the same examples everywhere, untimed."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest
from hypothesis import settings

settings.register_profile("memhp", deadline=None, derandomize=True)
settings.load_profile("memhp")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in capitals which real kernels were not booted: a run without them proves less."""
    reasons = {str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", ()) if report.longrepr}
    missing = sorted(reason.removeprefix("Skipped: ") for reason in reasons if "KERNEL WAS BOOTED" in reason)
    if missing:
        terminalreporter.section("REAL KERNELS ARE MISSING FROM THIS RUN", red=True, bold=True)
        for reason in missing:
            terminalreporter.write_line(reason, red=True)
    without = sorted(reason.removeprefix("Skipped: ") for reason in reasons if "NO TWIN WAS RUN" in reason)
    if without:
        terminalreporter.section("NO TOOL WAS RUN ON A TWIN IN THIS RUN", red=True, bold=True)
        for reason in without:
            terminalreporter.write_line(reason, red=True)
