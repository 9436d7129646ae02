"""No sequence of plug, online, offline, remove, pin and unmap, with allocations failing anywhere, breaks a law.

But for what the kernels are known to leave behind, row by row.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
from typing import Any
from zlib import crc32

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from memhp.linux.config import Config, configs
from memhp.linux.profiles import profile
from scenario.faulty_life import FaultyLives

SETTINGS = settings(
    max_examples=int(os.environ.get("MEMHP_LIVES", "3")),
    stateful_step_count=14,
    print_blob=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
"""Few lives for each kernel, as there are many kernels; the environment may ask for more."""

USUAL = {("riscv64", 39), ("arm64", 48), ("x86_64", 48)}

KERNELS = [
    config
    for name in ("linux-5.13", "linux-6.12", "linux-7.2")
    for config in configs(profile(name))
    if (config.arch, config.va_bits) in USUAL
]


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda config: config.title)
def test_whatever_fails_every_law_holds(kernel: Config) -> None:
    members: dict[str, Any] = {"kernel": kernel}
    lives = seed(crc32(kernel.title.encode()))(type("LivesOfOneKernel", (FaultyLives,), members))
    run_state_machine_as_test(lives, settings=SETTINGS)
