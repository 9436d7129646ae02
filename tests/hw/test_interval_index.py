"""Which of many things reach into a range: against looking at each."""
# SPDX-License-Identifier: GPL-2.0-or-later

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from memhp.hw.interval_index import Overlaps
from memhp.spans import Span

spans = st.tuples(st.integers(0, 60), st.integers(1, 12)).map(lambda pair: Span(pair[0], pair[0] + pair[1]))


@given(things=st.lists(st.lists(spans, min_size=1, max_size=4), max_size=20), asked=st.lists(spans, max_size=8))
def test_first_and_last_are_those_that_a_look_at_each_finds(things: list[list[Span]], asked: list[Span]) -> None:
    index = Overlaps()
    for number, runs in enumerate(things):
        index.append(np.array([run.start for run in runs]), np.array([run.end for run in runs]))
        assert len(index) == number + 1
        for span in asked:
            hits = [i for i in range(number + 1) if any(run.overlaps(span) for run in things[i])]
            assert index.first(span) == min(hits, default=None)
            assert index.last(span) == max(hits, default=None)


def test_nothing_overlaps_where_there_is_nothing() -> None:
    assert Overlaps().first(Span(0, 1)) is None
    assert Overlaps().last(Span(0, 1)) is None
