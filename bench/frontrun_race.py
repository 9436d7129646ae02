"""The increment race of bench/explore.py as the package frontrun explores it.

Run under the command frontrun: ``frontrun python bench/frontrun_race.py THREADS {all,lost}``; prints JSON: executions,
seconds, and seconds of processor time. With ``lost`` it ends at the first execution that loses an increment.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
import sys
import time

import frontrun


class Counter:
    """What the threads share."""

    def __init__(self) -> None:
        self.value = 0

    def increment(self) -> None:
        """Read, then write."""
        self.value = self.value + 1


def main() -> None:
    """Explore and print."""
    threads, until = int(sys.argv[1]), sys.argv[2]
    lost = until == "lost"
    start, start_busy = time.perf_counter(), time.process_time()
    result = frontrun.explore(
        setup=Counter,
        workers=Counter.increment,
        count=threads,
        invariant=lambda counter: not lost or counter.value == threads,
        preemption_bound=None,
        stop_on_first=lost,
        detect_io=False,
    )
    print(json.dumps([result.num_explored, time.perf_counter() - start, time.process_time() - start_busy]))


if __name__ == "__main__":
    main()
