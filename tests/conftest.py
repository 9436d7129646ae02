"""What all tests share: their helpers are importable, and Hypothesis draws the same examples everywhere, untimed."""
# SPDX-License-Identifier: GPL-2.0-or-later

import signal
from pathlib import Path

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

settings.register_profile("memhp", deadline=None, derandomize=True)
settings.load_profile("memhp")


def pytest_configure() -> None:
    """What tests start heeds an interrupt, also where a shell in the background or nohup has these signals ignored."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling | None:
    """In several processes, tests of a file run in one where guests are booted: they share a guest, in their order."""
    guests = Path(__file__).parent / "guests"
    if any(Path(ignored).resolve() == guests for ignored in config.getoption("ignore") or ()):
        return None
    paths = [Path(arg.partition("::")[0]).resolve() for arg in config.args]
    booted = any(guests.is_relative_to(path) or path.is_relative_to(guests) for path in paths)
    return LoadFileScheduling(config, log) if booted and config.getvalue("dist") == "load" else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was not tried on this machine, such as real kernels that were not booted: a run without proves less."""
    reasons = {str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", ()) if report.longrepr}
    if reasons:
        terminalreporter.section("MISSING FROM THIS RUN", red=True, bold=True)
        for reason in sorted(reasons):
            terminalreporter.write_line(reason.removeprefix("Skipped: "), red=True)
