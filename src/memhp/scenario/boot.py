"""The kernel's command line and the CPUs, as a scenario writes them."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace
from typing import Any

import msgspec

from memhp.linux.config import Config
from memhp.scenario.schema import Boot, Cpu


def with_boot(config: Config, boot: Boot | None) -> Config:
    """A configuration with what the scenario puts on the command line; what it does not name stays as it was."""
    return _with(config, boot)


def with_cpu(config: Config, cpu: Cpu | None) -> Config:
    """A configuration on CPUs that can do what the scenario says; what it does not name stays as it was."""
    return _with(config, cpu)


def _with(config: Config, keys: Boot | Cpu | None) -> Config:
    if keys is None:
        return config
    options: dict[str, Any] = {name: value for name, value in msgspec.structs.asdict(keys).items() if value is not None}
    return replace(config, **options)
