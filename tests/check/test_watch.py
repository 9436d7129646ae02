"""A watch finds what a whole check finds, whatever broke since it looked last."""
# SPDX-License-Identifier: GPL-2.0-or-later

from contextlib import suppress
from copy import deepcopy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from architectures import DIRECT_MAPPED
from check import defects
from check.machines import config, grown, online, with_process
from memhp.check import breaches_of, check_all, notes_of, remember, snapshot, watch
from memhp.errors import KernelBug, KernelError
from memhp.linux.choices import Arch
from memhp.spans import Span, SpanMap

EVERY_FRAME = Span(0, 1 << 52)


@pytest.mark.parametrize("arch", DIRECT_MAPPED)
@pytest.mark.parametrize("defect", [defect for those in defects.DEFECTS.values() for defect in those])
def test_a_defect_is_found_by_a_watch_as_by_a_whole_check(arch: Arch, defect: defects.Defect) -> None:
    k = with_process(grown(config(arch)))
    baseline = snapshot(k)
    laws = watch(k, baseline)
    assert laws.check() == ([], notes_of(k, baseline))
    defect(k)
    assert k.hw.written is not None
    k.hw.written.tables(EVERY_FRAME)
    found = check_all(k, baseline)
    assert found
    assert laws.check() == (found, notes_of(k, baseline))
    with suppress(KernelError, KernelBug):
        online(k, max(last for _, last, _ in k.memory_blocks) - 1)
    assert laws.check() == (check_all(k, baseline), notes_of(k, baseline))


@pytest.mark.parametrize("defect", [defect for law in ("blocks", "resources") for defect in defects.DEFECTS[law]])
def test_a_defect_is_found_where_nothing_else_has_changed(defect: defects.Defect) -> None:
    k = with_process(grown(config("x86_64")))
    baseline = snapshot(k)
    laws = watch(k, baseline)
    assert laws.check() == ([], notes_of(k, baseline))
    defect(k)
    found = check_all(k, baseline)
    assert found
    assert laws.check() == (found, notes_of(k, baseline))


@pytest.mark.parametrize("defect", [defect for those in defects.DEFECTS.values() for defect in those])
def test_a_defect_of_a_copy_is_found_where_the_machine_that_was_copied_is_remembered(defect: defects.Defect) -> None:
    k = with_process(grown(config("riscv64")))
    remember(k)
    other = deepcopy(k)
    assert breaches_of(other) == []
    defect(other)
    assert other.hw.written is not None
    other.hw.written.tables(EVERY_FRAME)
    assert breaches_of(other) == check_all(other)
    assert breaches_of(deepcopy(k)) == []


RUNS = st.lists(st.tuples(st.integers(0, 300), st.integers(1, 20), st.integers(0, 2)), max_size=60)


@given(RUNS, RUNS)
def test_differences_of_maps_are_where_their_values_differ(
    first: list[tuple[int, int, int]], more: list[tuple[int, int, int]]
) -> None:
    old = SpanMap((at, at + size, value) for at, size, value in first)
    new = old.copy()
    for at, size, value in more:
        if value:
            new.set(at, at + size, value)
        else:
            new.clear(at, at + size)
    found = [at for span in new.differences(old) for at in range(*span)]
    assert found == [at for at in range(400) if new.get(at) != old.get(at)]
