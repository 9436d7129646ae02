"""A choice is read or refused: each value of each choice shows somewhere, and nothing else can be chosen."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace
from typing import Any

import pytest

from choice_scripts import seen_of
from choice_witnesses import WITNESSES, choices, values, witnesses
from memhp.errors import BadInput
from memhp.linux.arch.arm64.choices import Arm64Profile
from memhp.linux.arch.x86.choices import X86Profile
from memhp.linux.choice import Choices, Told, hints, is_set, options
from memhp.linux.choices import Profile, generic_choices
from memhp.linux.config import Config
from memhp.linux.profiles import PROFILES, RECORDS, profile
from memhp.scenario.choices import with_choices


def told(each: object) -> str:
    return getattr(each, "__name__", str(each))


@pytest.mark.parametrize(("record", "choice"), choices(), ids=told)
def test_every_value_of_a_choice_looks_different_from_every_other(record: type[Choices], choice: str) -> None:
    shown = witnesses(record, choice)
    assert shown, "nothing is known to show this choice: name a witness in choice_witnesses.py"
    seen = {repr(value): tuple(each.shows(choice, value) for each in shown) for value in values(hints(record)[choice])}
    assert len(set(seen.values())) == len(seen), seen


def test_no_witness_is_of_a_choice_that_there_is_not() -> None:
    assert set(WITNESSES) == {name for _, name in choices()}
    for record, name in choices():
        if record is not Profile:
            assert {each.arch for each in witnesses(record, name)} == {record.arch}  # type: ignore[attr-defined]


def test_a_kernels_name_is_no_difference() -> None:
    kernel = profile("6.12")
    other = replace(kernel, name="another", source="elsewhere")
    first, second = (seen_of(Config("x86_64", each, 4096, 48), "life", stepped=False) for each in (kernel, other))
    assert first == second


@pytest.mark.parametrize("name", PROFILES)
def test_a_misspelt_value_is_refused_from_python_with_what_was_meant(name: str) -> None:
    kernel = PROFILES[name]
    with pytest.raises(BadInput) as refused:
        replace(kernel, zone_shrink="on-ofline")  # type: ignore[arg-type]
    assert str(refused.value) == 'zone_shrink: cannot be "on-ofline" (did you mean on-offline?)'


@pytest.mark.parametrize(
    ("record", "changes", "text"),
    [
        (Arm64Profile, {"free_empty_tables": "sometimes"}, 'free_empty_tables: cannot be "sometimes" (one of always, '),
        (Arm64Profile, {"remove_passes": 3}, "remove_passes: cannot be 3 (one of 1, 2)"),
        (Arm64Profile, {"remove_passes": 2.0}, "remove_passes: cannot be 2.0 (one of 1, 2)"),
        (Arm64Profile, {"remove_passes": True}, "remove_passes: cannot be true (one of 1, 2)"),
        (Arm64Profile, {"pgd_policy": "sync"}, "pgd_policy: there is no such choice (one of altmap_fallback, "),
        (Arm64Profile, {"leaf_flsh": "none"}, "leaf_flsh: there is no such choice (did you mean leaf_flush?)"),
        (X86Profile, {"populate_lock": "whole-range"}, 'populate_lock: cannot be "whole-range" (one of none, '),
        (X86Profile, {"pgd_preallocated": ("kasan",)}, 'pgd_preallocated: cannot have "kasan" (a list of vmalloc)'),
        (X86Profile, {"pgd_preallocated": "vmalloc"}, 'pgd_preallocated: cannot be "vmalloc" (a list of vmalloc)'),
        (
            X86Profile,
            {"pgd_preallocated": ("vmalloc", "vmalloc")},
            'pgd_preallocated: has "vmalloc" more than once (a list of vmalloc)',
        ),
        (X86Profile, {"vmalloc_fault": "yes"}, 'vmalloc_fault: want true or false, got "yes"'),
        (X86Profile, {"vmalloc_fault": 1}, "vmalloc_fault: want true or false, got 1"),
    ],
)  # fmt: skip
def test_a_record_refuses_what_its_port_does_not_read(
    record: type[Arm64Profile] | type[X86Profile], changes: dict[str, Any], text: str
) -> None:
    own = profile("6.12").record(record)
    for change in (replace, type(own).with_choices):
        with pytest.raises(BadInput) as refused:
            change(own, **changes)
        assert str(refused.value).startswith(text)


def test_of_a_name_that_is_none_those_that_can_be_meant_are_named_or_all() -> None:
    known = {*generic_choices(), *hints(X86Profile)}
    fixes = {}
    for name in ("leaf_flsh", "memmap", "xyzzy"):
        with pytest.raises(BadInput, match="there is no such choice") as refused:
            profile("6.12").choosing("x86_64", {name: "none"})
        fixes[name] = refused.value.fix
    assert fixes["leaf_flsh"] == "did you mean leaf_flush?"
    assert fixes["memmap"] == f"such as early_memmap, memmap_counters, memmap_on_memory; there are {len(known)}"
    assert set(fixes["xyzzy"].removeprefix("one of ").split(", ")) == known


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("vmemmap_partial_pmd", "never"),
        ("scan_movable_holes", "trust-range"),
        ("online_debug_pagealloc", True),
        ("populate_lock", "whole-range"),
        ("end_flush", "direct-map-range"),
        ("remove_passes", 2),
        ("virtio_mem_sleep", "always"),
    ],
)
def test_a_scenario_and_the_command_line_refuse_alike(name: str, value: object) -> None:
    said = set()
    for each in (value, Told(str(value).lower() if isinstance(value, bool) else value)):
        with pytest.raises(BadInput) as refused:
            with_choices(profile("6.12"), "x86_64", {name: each}, where="x.toml: machine.choices")
        said.add((refused.value.message, refused.value.fix))
    assert len(said) == 1


@pytest.mark.parametrize("record", [Profile, *RECORDS], ids=told)
def test_text_from_a_command_line_names_every_value(record: type[Choices]) -> None:
    kernel = profile("6.12")
    own = kernel if record is Profile else kernel.record(record)  # type: ignore[type-var]
    for name, hint in hints(record).items():
        for value in values(hint) if options(hint) else []:
            text = ",".join(value) if is_set(hint) else str(value).lower() if isinstance(value, bool) else str(value)
            assert getattr(own.with_choices(**{name: Told(text)}), name) == value
