"""A gauge that follows a machine reads what one put to it anew reads."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Sequence
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memhp.errors import BadInput, KernelError
from memhp.linux.init import start_kernel
from memhp.scenario import schema
from memhp.scenario.machine import machine_spec
from memhp.target.measure.counters import Gauge, block_runs
from memhp.target.model.session import Session
from memhp.target.model.steps import RUNNERS

STEPS = st.one_of(
    st.builds(
        schema.Plug,
        size=st.just("512M"),
        driver=st.sampled_from(["dimm", "kmem", "virtio_mem"]),
        node=st.sampled_from([0, 1]),
        online=st.sampled_from([None, "kernel", "movable"]),
    ),
    st.builds(schema.Allocate, size=st.just("64M"), tag=st.sampled_from("ab")),
    st.builds(schema.Free, tag=st.sampled_from("ab")),
    st.sampled_from([schema.Unplug(), schema.Offline(), schema.Remove(), schema.Online()]),
)


@pytest.mark.parametrize("memmap_on_memory", ["N", "Y"])
@settings(max_examples=10)
@given(steps=st.lists(STEPS, max_size=12))
def test_readings_are_those_of_a_new_gauge(memmap_on_memory: str, steps: Sequence[schema.StepKind]) -> None:
    boot = schema.Boot(memmap_on_memory="Y" if memmap_on_memory == "Y" else "N")
    session = Session(start_kernel(machine_spec(schema.MachineText(preset="x86-vm", nodes=2, boot=boot), where="test")))
    k = session.k
    gauge = Gauge(k)
    for step in steps:
        with suppress(KernelError, BadInput):
            RUNNERS[type(step)](session, step)
        fresh = Gauge(k)
        assert gauge.blocks() == block_runs(k)
        assert gauge.memory() == fresh.memory()
        assert list(gauge.memmap_places().items()) == list(fresh.memmap_places().items())
