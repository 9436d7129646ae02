"""What all tests share: their helpers are importable, and Hypothesis draws the same examples everywhere, untimed."""
# SPDX-License-Identifier: GPL-2.0-or-later

import signal

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

settings.register_profile("memhp", deadline=None, derandomize=True)
settings.load_profile("memhp")


def pytest_configure() -> None:
    """What tests start heeds an interrupt, also where a shell in the background or nohup has these signals ignored."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


class OneProcessAGuest(LoadScopeScheduling):
    """Tests of a file that boots a guest run in one process, in their order, and share it; all others anywhere."""

    def _split_scope(self, nodeid: str) -> str:
        """What runs in one process with a test."""
        path = nodeid.partition("::")[0]
        return path if "guests" in path.split("/") else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> OneProcessAGuest | None:
    """The order of tests in several processes, unless another is asked for."""
    return OneProcessAGuest(config, log) if config.getvalue("dist") == "load" else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was not tried on this machine, such as real kernels that were not booted: a run without proves less."""
    reasons = {str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", ()) if report.longrepr}
    if reasons:
        terminalreporter.section("MISSING FROM THIS RUN", red=True, bold=True)
        for reason in sorted(reasons):
            terminalreporter.write_line(reason.removeprefix("Skipped: "), red=True)
