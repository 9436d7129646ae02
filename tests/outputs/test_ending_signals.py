"""What ends a run waits until files and processes are whole, whichever thread of the process takes it."""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

import pytest

from memhp.outputs.ending_signals import ENDING_SIGNALS, uninterrupted


class Asked(BaseException):
    """What a handler raises here."""


def raises(number: int, _: object) -> None:
    raise Asked(number)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Every signal that ends a run raises where the program is."""
    before = {each: signal.signal(each, raises) for each in ENDING_SIGNALS}
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


@contextmanager
def another_thread() -> Iterator[None]:
    """A thread that blocks no signal: the kernel hands it what the main one blocks."""
    over = Event()
    thread = Thread(target=over.wait)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def asks_and_goes_on(number: int) -> None:
    """Time enough for a handler to run, were it to."""
    os.kill(os.getpid(), number)
    for _ in range(20):
        time.sleep(0.001)


@pytest.mark.parametrize("number", sorted(ENDING_SIGNALS))
def test_a_signal_that_another_thread_takes_waits_as_well(number: int) -> None:
    whole = False
    with another_thread(), pytest.raises(Asked) as raised, uninterrupted():
        asks_and_goes_on(number)
        whole = True
    assert whole
    assert raised.value.args == (number,)


def test_a_block_within_another_ends_neither() -> None:
    whole = False
    with another_thread(), pytest.raises(Asked), uninterrupted():
        with uninterrupted():
            asks_and_goes_on(signal.SIGTERM)
        for _ in range(20):
            time.sleep(0.001)
        whole = True
    assert whole


def test_what_waits_can_be_taken_without_its_handler() -> None:
    """sigtimedwait(2), as a write on a host asks whether it is to end."""
    with another_thread(), uninterrupted():
        asks_and_goes_on(signal.SIGINT)
        taken = signal.sigtimedwait(ENDING_SIGNALS, 1)
    assert taken is not None
    assert taken.si_signo == signal.SIGINT


def test_handlers_and_mask_are_as_before() -> None:
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with uninterrupted():
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) >= ENDING_SIGNALS
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == [raises, raises]
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def in_a_thread(does: Callable[[], None]) -> None:
    thread = Thread(target=does)
    thread.start()
    thread.join()


def test_a_thread_holds_back_what_it_would_take_itself() -> None:
    """Handlers belong to the main thread, which goes on."""
    seen: list[bool] = []

    def blocked() -> None:
        with uninterrupted():
            seen.append(signal.pthread_sigmask(signal.SIG_BLOCK, ()) >= ENDING_SIGNALS)

    in_a_thread(blocked)
    assert seen == [True]
    assert signal.getsignal(signal.SIGINT) is raises
