"""What all tests share: their helpers are importable, and Hypothesis draws the same examples everywhere, untimed."""
# SPDX-License-Identifier: GPL-2.0-or-later

import signal

import pytest
from hypothesis import settings

settings.register_profile("memhp", deadline=None, derandomize=True)
settings.load_profile("memhp")


def pytest_configure() -> None:
    """What tests start heeds an interrupt, also where a shell in the background or nohup has these signals ignored."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in capitals which real kernels were not booted and which twins not run: a run without them proves less."""
    reasons = {str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", ()) if report.longrepr}
    told = sorted(reason.removeprefix("Skipped: ") for reason in reasons)
    for loud, title in (("KERNEL WAS BOOTED", "REAL KERNELS ARE"), ("NO TWIN WAS RUN", "TWINS ARE")):
        missing = [reason for reason in told if loud in reason]
        if missing:
            terminalreporter.section(f"{title} MISSING FROM THIS RUN", red=True, bold=True)
            for reason in missing:
                terminalreporter.write_line(reason, red=True)
