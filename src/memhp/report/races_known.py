"""The races that there are: an overview with a line for each, and one race with its variants and machines."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec
from rich.console import Console
from rich.text import Text

from memhp.explore.case import Case, Configuration, StandsFor
from memhp.report.lines import print_wrapped
from memhp.report.table import Column, print_table
from memhp.units import KiB, format_count


class VariantRow(msgspec.Struct, frozen=True, kw_only=True):
    """A variant of a race and the machines that it is explored on."""

    name: str
    about: str
    stands_for: StandsFor
    configurations: list[str]


class CaseRow(msgspec.Struct, frozen=True, kw_only=True):
    """A race with its variants."""

    name: str
    actors: str
    variants: list[VariantRow]


def case_row(one: Case) -> CaseRow:
    """A race for JSON."""
    variants = [
        VariantRow(
            name=each.name,
            about=each.about,
            stands_for=each.stands_for,
            configurations=[where.name for where in each.configurations],
        )
        for each in one.variants
    ]
    return CaseRow(name=one.name, actors=one.actors, variants=variants)


def print_cases(out: Console, cases: Sequence[Case]) -> None:
    """Print a line for each race: who takes part, and how many of its variants are known as broken and as repaired."""
    columns = (
        Column("race"), Column("who", fold=True), Column("broken", right=True), Column("repaired", right=True),
    )  # fmt: skip
    rows = []
    for one in cases:
        known = Counter(variant.stands_for for variant in one.variants)
        rows.append((Text(one.name, style="bold"), one.actors, str(known["broken"]), str(known["repaired"])))
    print_table(out, columns, rows)
    variants = sum(len(one.variants) for one in cases)
    out.print()
    text = (
        f"{format_count(len(cases), 'race')}, {format_count(variants, 'variant')}, by what they are known as. "
        "memhp explore RACE: its variants. memhp explore RACE --variant V: decide it. memhp races: decide all."
    )
    print_wrapped(out, Text(text, style="dim"))


def print_variants(out: Console, one: Case) -> None:
    """Print a race with its variants, and the configurations that each is explored on."""
    print_wrapped(out, Text.assemble((one.name, "bold"), f": {one.actors}"))
    if one.geometry:
        print_wrapped(out, Text(one.geometry, style="dim"))
    for variant in one.variants:
        out.print()
        print_wrapped(out, Text.assemble((f"--variant {variant.name}", "bold"), f"  known as {variant.stands_for}"))
        print_wrapped(out, Text(f"  {variant.about}"), hang=2)
        if variant.finding:
            print_wrapped(out, Text(f"  see docs/findings.md, {variant.finding}"), hang=2)
        number = format_count(len(variant.configurations), "configuration")
        print_wrapped(out, Text(f"  {number}: {machines(variant.configurations)}", style="dim"), hang=4)
    out.print()
    name = one.variants[0].configurations[0].name
    print_wrapped(out, Text(f"A configuration is named like {name}.", style="dim"))


def machines(configurations: Iterable[Configuration]) -> str:
    """Configurations in few words: ``linux-6.12 and linux-7.2: riscv64 4K 39/48/57, arm64 4K 39/48``."""
    widths: dict[str, dict[str, list[str]]] = {}
    for one in configurations:
        machine = f"{one.arch} {one.page_size // KiB}K"
        widths.setdefault(one.release, {}).setdefault(machine, []).append(str(one.va_bits))
    releases: dict[str, list[str]] = {}
    for release, found in widths.items():
        text = ", ".join(f"{machine} {'/'.join(bits)}" for machine, bits in found.items())
        releases.setdefault(text, []).append(release)
    return "; ".join(f"{', '.join(names)}: {text}" for text, names in releases.items())
