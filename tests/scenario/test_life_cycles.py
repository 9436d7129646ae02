"""Random life cycles on every architecture: all laws after every step, and as if nothing had been at the end."""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
from dataclasses import replace
from typing import Any
from zlib import crc32

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from memhp.linux.config import Config, configs
from memhp.linux.profiles import profile
from scenario.life import Lives

SETTINGS = settings(
    max_examples=int(os.environ.get("MEMHP_LIVES", "3")),
    stateful_step_count=16,
    print_blob=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
"""Few lives for each kernel, as there are many kernels; the environment may ask for more. Each has lives of its own."""

FREEING = {"loongarch64": {"vmemmap_free": "unused"}}
"""Choices without which no law of struct pages holds once memory has gone."""

KERNELS = [
    replace(config, profile=config.profile.choosing(config.arch, FREEING.get(config.arch, {})))
    for name in ("linux-6.12", "linux-7.2")
    for config in configs(profile(name))
]


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda config: config.title)
def test_whatever_happens_to_memory_every_law_holds(kernel: Config) -> None:
    members: dict[str, Any] = {"kernel": kernel}
    lives = seed(crc32(kernel.title.encode()))(type("LivesOfOneKernel", (Lives,), members))
    run_state_machine_as_test(lives, settings=SETTINGS)
