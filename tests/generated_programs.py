"""Generated programs, held against every schedule of theirs."""
# SPDX-License-Identifier: GPL-2.0-or-later

import random

from memhp.explore.engine.search import Limits, search
from memhp.explore.programs import cells
from memhp.explore.programs.generate import program
from memhp.explore.programs.program import Program
from memhp.explore.programs.shared import Body

KEPT = Limits(stop_at_failure=False, keep_behaviours=True, keep_classes=True)
SMALL = Limits(300, stop_at_failure=False, keep_behaviours=True, keep_classes=True)


def agree_with_every_schedule(seeds: range, *, joint: bool = False, fair: bool = False) -> int:
    """What the reducing search finds of the small ones is what there is, each class once; how many were compared."""
    compared = 0
    for seed in seeds:
        run = program(seed, joint=joint, fair=fair).run()
        every = search(run, SMALL, reduce=False)
        if every.finished:
            compared += 1
            reduced = search(run, KEPT).coverage
            assert reduced.behaviours == every.coverage.behaviours, seed
            assert reduced.classes == every.coverage.classes, seed
            assert reduced.executions == len(reduced.classes) or reduced.again, seed
        run.close()
    return compared


def counting(draw: random.Random) -> Body:
    """A thread that changes a counter, and compares it with marks."""
    steps = [draw.choice((cells.add("free", draw.choice((-2, -1, 1, 2))), cells.above("free", draw.randint(1, 5))))
             for _ in range(draw.randint(1, 3))]  # fmt: skip
    return lambda memory: tuple([memory.do(step) for step in steps])


def counting_program(seed: int) -> Program:
    """Three threads, drawn at random, that share a counter."""
    draw = random.Random(seed)
    return Program(tuple(counting(draw) for _ in range(3)), {"free": 3})
