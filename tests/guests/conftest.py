"""A guest that is too slow for this machine is no failure: the end of the run says that it was not tried."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Generator

import pytest

from memhp.target.guest.agent import GuestSlow


def _unless_slow() -> Generator[None, object, object]:
    try:
        return (yield)
    except GuestSlow as error:
        pytest.skip(f"A REAL KERNEL WAS TOO SLOW: {error}")


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call() -> Generator[None, object, object]:
    return (yield from _unless_slow())


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup() -> Generator[None, object, object]:
    return (yield from _unless_slow())
