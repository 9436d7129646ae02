"""Where calls run: here, in processes of this machine, or on a Dask cluster.

A pool takes numbered calls and gives back numbered results, in any order. A call that raises raises where its result
is asked for. What is called must do the same every time: the call of a worker that dies is made again. A worker whose
package is not the one that asks makes no calls: what it found would be of another kernel or another search.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import ctypes
import hashlib
import os
import platform
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.resource_tracker import ensure_running
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from memhp.errors import BadInput
from memhp.outputs.ending_signals import uninterrupted

_PR_SET_PDEATHSIG = 1

A = TypeVar("A")
T = TypeVar("T")
PACKAGE = Path(__file__).parent
ATTEMPTS = 3
"""How often a call is made whose workers die."""


class Call(NamedTuple):
    """A function of a module, and what it is called with; both can be pickled."""

    number: int
    function: Callable[..., Any]
    arguments: tuple[Any, ...]


class WorkerDied(Exception):
    """A call whose workers die, one after the other."""


@cache
def package_hash() -> str:
    """SHA-256 of the package's Python files, by name and text, and of the release of Python that runs them."""
    found = hashlib.sha256(str(sys.version_info[:2]).encode())
    for file in sorted(PACKAGE.rglob("*.py")):
        found.update(f"\0{file.relative_to(PACKAGE)}\0".encode() + file.read_bytes())
    return found.hexdigest()


def same_package(wanted: str, function: Callable[..., T], *arguments: Any) -> T:
    """Make a call in a worker whose :func:`package_hash` is the one wanted. BadInput: it is another."""
    if package_hash() != wanted:
        raise BadInput(
            f"the worker on {platform.node()} runs another memhp, or another Python, than the one that asks it",
            where="worker",
            fix="install the same everywhere, and leave the files alone while it runs",
        )
    return function(*arguments)


class Pool(Protocol):
    """Somewhere to run calls."""

    def put(self, call: Call, *, soon: bool = False) -> None:
        """Take a call, to be made after those that wait; `soon`: before them."""

    def get(self) -> tuple[int, Any]:
        """The number and the result of a call that is done; waits for one."""

    def close(self) -> None:
        """Stop at once, whatever is running."""


class Here:
    """Calls made one after the other in this process, when their results are asked for."""

    def __init__(self) -> None:
        self._calls: deque[Call] = deque()

    def put(self, call: Call, *, soon: bool = False) -> None:
        """Take a call."""
        self._calls.appendleft(call) if soon else self._calls.append(call)

    def get(self) -> tuple[int, Any]:
        """Make the next call."""
        call = self._calls.popleft()
        return call.number, call.function(*call.arguments)

    def close(self) -> None:
        """Nothing is running."""


class _Worker:
    """A process, and the call that it is at."""

    def __init__(self) -> None:
        context = get_context("spawn")
        ensure_running()
        self.pipe, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_work, args=(theirs, os.getpid()), daemon=True)
        self.process.start()
        theirs.close()
        self.call: Call | None = None

    def begin(self, call: Call) -> bool:
        """Hand a call over; False when the process is gone."""
        try:
            self.pipe.send((package_hash(), call))
        except OSError:
            return False
        self.call = call
        return True

    def kill(self) -> None:
        """End the process, whatever it is at."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _die_with(parent: int) -> None:
    """Have the kernel end this process when its parent ends, however that comes about (prctl(2))."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _work(pipe: Connection, parent: int) -> None:
    """A worker's life: what ends a run is the parent's business."""
    _die_with(parent)
    while True:
        try:
            wanted, call = pipe.recv()
        except EOFError:
            return
        try:
            answer: tuple[bool, Any] = (True, same_package(wanted, call.function, *call.arguments))
        except Exception as error:
            answer = (False, error)
        try:
            pipe.send(answer)
        except BrokenPipeError:
            return


class Processes:
    """Processes of this machine, started when there is work for them."""

    def __init__(self, workers: int) -> None:
        self._most = workers
        self._workers: list[_Worker] = []
        self._calls: deque[Call] = deque()
        self._attempts: dict[int, int] = {}

    def put(self, call: Call, *, soon: bool = False) -> None:
        """Take a call."""
        self._calls.appendleft(call) if soon else self._calls.append(call)

    def get(self) -> tuple[int, Any]:
        """Keep every process at work until one is done. WorkerDied: a call's workers died each time."""
        while True:
            self._hand_out()
            busy = {worker.pipe: worker for worker in self._workers if worker.call is not None}
            for ready in wait(list(busy)):
                worker = busy[ready]  # type: ignore[index]
                call = worker.call
                assert call is not None
                try:
                    fine, value = worker.pipe.recv()
                except (EOFError, OSError):
                    self._again(worker, call)
                    continue
                worker.call = None
                if not fine:
                    raise value
                return call.number, value

    @property
    def pids(self) -> list[int]:
        """The processes that there are."""
        return [worker.process.pid for worker in self._workers if worker.process.pid is not None]

    def close(self) -> None:
        """Kill every process and wait until it is gone."""
        with uninterrupted():
            for worker in self._workers:
                worker.kill()
            self._workers.clear()
            self._calls.clear()

    def _hand_out(self) -> None:
        idle = [worker for worker in self._workers if worker.call is None]
        while self._calls and (idle or len(self._workers) < self._most):
            if not idle:
                with uninterrupted():  # a worker has these signals blocked from its first moment on
                    self._workers.append(_Worker())
                idle.append(self._workers[-1])
            worker = idle.pop()
            if worker.begin(self._calls[0]):
                self._calls.popleft()
            else:
                self._drop(worker)

    def _again(self, worker: _Worker, call: Call) -> None:
        """A worker died at a call: somebody else makes it."""
        self._drop(worker)
        died = self._attempts[call.number] = self._attempts.get(call.number, 0) + 1
        if died == ATTEMPTS:
            raise WorkerDied(f"{died} workers died at {call.arguments[0]}")
        self._calls.appendleft(call)

    def _drop(self, worker: _Worker) -> None:
        worker.kill()
        self._workers.remove(worker)


def in_order(function: Callable[[A], T], arguments: Iterable[A], workers: int | None = None) -> Iterator[T]:
    """A function of each argument, in their order, on `workers` processes (by default one for each CPU)."""
    wanted = list(arguments)
    workers = workers or os.cpu_count() or 1
    if workers == 1 or len(wanted) < 2:
        yield from map(function, wanted)
        return
    pool = Processes(workers)
    try:
        for number, argument in enumerate(wanted):
            pool.put(Call(number, function, (argument,)))
        done: dict[int, T] = {}
        for number in range(len(wanted)):
            while number not in done:
                made, result = pool.get()
                done[made] = result
            yield done.pop(number)
    finally:
        pool.close()


class Cluster:
    """A Dask cluster, by the address of its scheduler; its workers need memhp as it is here."""

    def __init__(self, address: str, *, patience: float = 10) -> None:
        try:
            from distributed import Client, as_completed
        except ImportError:
            raise BadInput(
                "a cluster needs the package distributed", where="--cluster", fix="pip install 'memhp[dask]'"
            ) from None
        try:
            self._client = Client(address, timeout=patience)
        except (OSError, ValueError) as error:
            raise BadInput(f"no scheduler at {address}: {error}", where="--cluster", fix="tcp://HOST:8786") from None
        self._done = as_completed()
        self._numbers: dict[str, int] = {}

    def put(self, call: Call, *, soon: bool = False) -> None:
        """Submit a call; Dask makes it again elsewhere when its worker dies."""
        future = self._client.submit(
            same_package, package_hash(), call.function, *call.arguments, pure=False, priority=int(soon)
        )
        self._numbers[future.key] = call.number
        self._done.add(future)

    def get(self) -> tuple[int, Any]:
        """The next result."""
        future = next(self._done)
        return self._numbers.pop(future.key), future.result()

    def close(self) -> None:
        """Call off what is not done and leave the cluster."""
        self._client.cancel(list(self._done.futures))
        self._client.close()
