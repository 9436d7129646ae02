"""A served device and a front end that is connected to it."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from pathlib import Path

import pytest

from front_end import BLOCK, FrontEnd, Served, served
from memhp.target.device.control import Ask


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as found:
        found.server.answer(Ask(requested=8 * BLOCK))
        yield found


@pytest.fixture
def front(host: Served) -> Iterator[FrontEnd]:
    found = FrontEnd(host.path, host.turn)
    yield found
    found.close()
