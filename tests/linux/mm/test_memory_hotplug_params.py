"""Parameters of memory_hotplug that are written at run time: what each takes, and what it changes from then on."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from memhp.errors import KernelError
from memhp.linux.mm.memory_hotplug_params import param_attr_store
from memhp.scenario.load import loads
from memhp.target.model.run import rehearse_scenario

MACHINE = 'machine = { preset = "x86-vm", memory = "4G"%s }\n'


def result_of(step: str, machine: str = "") -> str:
    run, _ = rehearse_scenario(loads(f'{MACHINE % machine}steps = [{{ do = "set", {step} }}]'))
    return run.steps[0].outcome.result


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("online_policy", "auto-movable\n", "auto-movable"),
        ("auto_movable_ratio", "0x12d", 301),
        ("auto_movable_ratio", "0144", 100),
        ("auto_movable_ratio", "4294967295", 4294967295),
        ("auto_movable_numa_aware", "off", False),
        ("auto_movable_numa_aware", "Yes", True),
    ],
)
def test_a_value_is_read_as_the_kernel_reads_it(name: str, text: str, value: object) -> None:
    _, k = rehearse_scenario(loads(MACHINE % ""))
    param_attr_store(k, name, text)
    assert getattr(k.config, name) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("online_policy", "auto"),
        ("online_policy", " auto-movable"),
        ("auto_movable_ratio", " 301"),
        ("online_policy", "Contig-Zones"),
        ("auto_movable_ratio", "-1"),
        ("auto_movable_ratio", "09"),
        ("auto_movable_ratio", "0x"),
        ("auto_movable_ratio", ""),
        ("auto_movable_numa_aware", "o"),
        ("auto_movable_numa_aware", ""),
    ],
)
def test_other_values_are_invalid_and_change_nothing(name: str, text: str) -> None:
    _, k = rehearse_scenario(loads(MACHINE % ""))
    before = k.config
    with pytest.raises(KernelError) as refused:
        param_attr_store(k, name, text)
    assert refused.value.name == "EINVAL"
    assert k.config is before


@pytest.mark.parametrize("text", ["4294967296", "0x100000000", "0777777777777777777777777", "18446744073709551616 KiB"])
def test_a_ratio_that_32_bits_do_not_hold_is_out_of_range(text: str) -> None:
    """kstrtouint(): -ERANGE; of what 64 bits do not hold before it looks at what follows."""
    _, k = rehearse_scenario(loads(MACHINE % ""))
    before = k.config
    with pytest.raises(KernelError) as refused:
        param_attr_store(k, "auto_movable_ratio", text)
    assert refused.value.name == "ERANGE"
    assert k.config is before


def test_auto_online_blocks_takes_the_four_online_types() -> None:
    results = [
        result_of(f'parameter = "auto_online_blocks", to = "{text}"')
        for text in ("offline", "online", "online_kernel", "online_movable", "movable")
    ]
    assert results == ["ok", "ok", "ok", "ok", "EINVAL"]


def test_a_kernel_before_auto_movable_has_no_such_file() -> None:
    old = ', profile = "5.14"'
    assert result_of('parameter = "online_policy", to = "contig-zones"', old) == "EACCES"
    assert result_of('parameter = "online_policy", to = "contig-zones"') == "ok"


def test_from_then_on_memory_goes_online_as_the_parameters_say() -> None:
    steps = """steps = [
      { do = "set", parameter = "online_policy", to = "auto-movable" },
      { do = "plug", size = "1G", online = "auto" },
      { do = "set", parameter = "auto_movable_ratio", to = 0 },
      { do = "plug", size = "1G", online = "auto" },
      { do = "set", parameter = "auto_online_blocks", to = "online_movable" },
      { do = "plug", size = "1G" },
    ]"""
    run, k = rehearse_scenario(loads(MACHINE % "" + steps))
    assert [step.outcome.result for step in run.steps] == ["ok"] * 6
    zones = [block.zone.name for first, _, block in k.memory_blocks if first >= 40 and block.zone is not None]
    assert zones == ["MOVABLE", "NORMAL", "MOVABLE"]
