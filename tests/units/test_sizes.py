"""Sizes as text: three significant digits for people, every byte where that is the point."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memhp.units import GiB, KiB, MiB, exact_size, format_count, format_size

BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40, "PiB": 1 << 50, "EiB": 1 << 60}


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (4097, "4.00 KiB"),
        (128 * MiB, "128 MiB"),
        (3 * GiB // 2, "1.5 GiB"),
        (1012 * GiB, "1012 GiB"),
        (25 * GiB, "25 GiB"),
        (25 * GiB - 20 * MiB, "25.0 GiB"),
        (1024 * GiB - 1, "1.00 TiB"),
        (-900 * MiB, "-900 MiB"),
    ],
)
def test_people_read_three_digits_in_the_largest_unit(size: int, text: str) -> None:
    assert format_size(size) == text


@given(st.integers(1, 1 << 60))
def test_what_people_read_is_right_to_half_a_percent_and_what_must_be_exact_is(size: int) -> None:
    number, unit = format_size(size).split()
    assert abs(float(number) * BYTES[unit] - size) <= size * 0.005
    assert len(re.sub(r"\D", "", number)) <= 4
    number, unit = exact_size(size).split()
    whole, _, part = number.partition(".")
    assert int(whole + part) * BYTES[unit] == size * 10 ** len(part)


def test_a_step_that_is_to_be_typed_is_exact() -> None:
    assert exact_size(241 * GiB + 768 * MiB) == "241.75 GiB"
    assert exact_size(99968 * MiB) == "97.625 GiB"
    assert exact_size(1966084 * KiB) == "1966084 KiB"


@pytest.mark.parametrize(
    ("what", "many"),
    [("step", "steps"), ("class", "classes"), ("PTE entry", "PTE entries"), ("leaf", "leaves"), ("fix", "fixes"),
     ("way", "ways"), ("memory block", "memory blocks")],
)  # fmt: skip
def test_one_is_one_and_any_other_number_is_many(what: str, many: str) -> None:
    assert [format_count(count, what) for count in (0, 1, 2)] == [f"0 {many}", f"1 {what}", f"2 {many}"]
