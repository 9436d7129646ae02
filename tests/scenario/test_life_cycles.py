"""Random lives of hot-plugged memory on every architecture: every law holds after every step, and all goes back."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from memhp.linux.config import Config
from memhp.linux.profiles import profile
from memhp.units import KiB
from scenario.life import Lives

MACHINES = [
    ("riscv64", 4, 39, "linux-6.12"),
    ("riscv64", 4, 48, "linux-7.2"),
    ("riscv64", 4, 57, "linux-6.12"),
    ("arm64", 4, 48, "linux-6.12"),
    ("arm64", 16, 47, "linux-7.2"),
    ("arm64", 64, 52, "linux-6.12"),
    ("x86_64", 4, 48, "linux-7.2"),
    ("x86_64", 4, 57, "linux-6.12"),
]
"""Architecture, page size in KiB, address width and kernel."""


@pytest.mark.parametrize(("arch", "page", "va_bits", "kernel"), MACHINES, ids=str)
def test_whatever_happens_every_law_holds_and_everything_goes_back(
    arch: str, page: int, va_bits: int, kernel: str
) -> None:
    config = Config(arch, profile(kernel), page * KiB, va_bits).validate()  # type: ignore[arg-type]
    lives = type("LivesOfThis", (Lives,), {"kernel": config})
    run_state_machine_as_test(lives, settings=settings(max_examples=12, stateful_step_count=16))
