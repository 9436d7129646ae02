"""The kernel's command line, as a scenario writes it."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace
from typing import Any

import msgspec

from memhp.linux.config import Config
from memhp.scenario.schema import Boot


def with_boot(config: Config, boot: Boot | None) -> Config:
    """A configuration with what the scenario puts on the command line; what it does not name stays as it was."""
    if boot is None:
        return config
    options: dict[str, Any] = {name: value for name, value in msgspec.structs.asdict(boot).items() if value is not None}
    return replace(config, **options)
