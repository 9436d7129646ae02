"""First fit and counting over spans, against sets of single integers."""
# SPDX-License-Identifier: GPL-2.0-or-later

from hypothesis import given
from hypothesis import strategies as st

from memhp.spans import Span, SpanMap, SpanSet

TOP = 96

spans = st.tuples(st.integers(0, TOP), st.integers(0, TOP)).map(lambda pair: Span(min(pair), max(pair)))
changes = st.lists(st.tuples(st.booleans(), spans), max_size=12)


def _built(history: list[tuple[bool, Span]]) -> tuple[SpanSet, set[int]]:
    model: set[int] = set()
    built = SpanSet()
    for add, span in history:
        if add:
            built.add(*span)
            model |= set(range(*span))
        else:
            built.remove(*span)
            model -= set(range(*span))
    return built, model


@given(changes)
def test_a_set_counts_its_integers_through_any_change(history: list[tuple[bool, Span]]) -> None:
    built, model = _built(history)
    assert built.size == len(model)
    assert built.copy().size == len(model)
    assert SpanSet(built).size == len(model)


@given(changes, spans, st.sampled_from([1, 2, 4, 8]))
def test_first_fit_is_the_lowest_aligned_chunk_with_all_that_follow_it(
    history: list[tuple[bool, Span]], window: Span, size: int
) -> None:
    built, model = _built(history)
    chunks = [
        at
        for at in range(0, TOP, size)
        if window.start <= at and at + size <= window.end and all(i in model for i in range(at, at + size))
    ]
    fit = built.first_fit(size, *window)
    if not chunks:
        assert fit is None
        return
    run = [at for i, at in enumerate(chunks) if at == chunks[0] + i * size]
    assert fit == Span(run[0], run[-1] + size)


@given(st.lists(st.tuples(spans, st.sampled_from("ab")), max_size=8), st.integers(0, TOP))
def test_the_next_run_holds_the_place_or_follows_it(runs: list[tuple[Span, str]], at: int) -> None:
    built: SpanMap[str] = SpanMap((*span, value) for span, value in runs)
    expected = next((run for run in built if run[1] > at), None)
    assert built.next_run(at) == expected


@given(changes, spans, st.sampled_from([1, 2, 4, 8]), st.integers(0, 12))
def test_many_fits_are_the_lowest_aligned_chunks(
    history: list[tuple[bool, Span]], window: Span, size: int, most: int
) -> None:
    built, model = _built(history)
    chunks = [
        at
        for at in range(0, TOP, size)
        if window.start <= at and at + size <= window.end and all(i in model for i in range(at, at + size))
    ]
    found = [at for fit in built.fits(size, *window, most) for at in range(*fit, size)]
    assert found == chunks[:most]


@given(st.lists(st.tuples(spans, st.sampled_from("ab")), max_size=8), st.sets(st.integers(0, TOP)), st.booleans())
def test_what_many_spans_get_at_once_is_what_they_get_one_by_one(
    runs: list[tuple[Span, str]], edges: set[int], clear: bool
) -> None:
    ends = sorted(edges)
    apart = [Span(*pair) for pair in zip(ends[::2], ends[1::2], strict=False)]
    at_once: SpanMap[str] = SpanMap((*span, value) for span, value in runs)
    one_by_one = at_once.copy()
    as_set, other = SpanSet(span for span, _ in runs), SpanSet(span for span, _ in runs)
    for span in apart:
        if clear:
            one_by_one.clear(*span)
            other.remove(*span)
        else:
            one_by_one.set(*span, "a")
            other.add(*span)
    if clear:
        at_once.clear_each(apart)
        as_set.remove_each(apart)
    else:
        at_once.set_each(apart, "a")
        as_set.add_each(apart)
    assert at_once == one_by_one
    assert as_set == other and as_set.size == other.size


@given(st.lists(st.integers(0, 4 * TOP), max_size=60, unique=True), changes)
def test_what_one_set_has_and_another_has_not(edges: list[int], history: list[tuple[bool, Span]]) -> None:
    ends = sorted(edges)
    these = SpanSet(zip(ends[::2], ends[1::2], strict=False))
    others, model = _built(history)
    left = these.minus(others)
    assert [at for span in left for at in range(*span)] == [
        at for span in these for at in range(*span) if at not in model
    ]
    assert all(span for span in left) and sorted(left) == left
    assert these.minus(these.copy()) == []
