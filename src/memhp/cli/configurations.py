"""The options that choose configurations, which several commands share, and what they choose."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING, Any, TypeVar

import click

from memhp.cli import offered
from memhp.errors import BadInput
from memhp.linux.arch.registry import ARCHES
from memhp.units import parse_size

if TYPE_CHECKING:
    from memhp.linux.choice import Told
    from memhp.linux.config import Config

Command = TypeVar("Command", bound=Callable[..., Any])

arch_option = click.option("--arch", "arches", multiple=True, type=click.Choice(ARCHES), help="Only this one.")
page_size_option = click.option("--page-size", metavar="SIZE", help="Only this page size: 4K, 16K or 64K.")
_OPTIONS = (
    arch_option,
    click.option("--profile", "profiles", multiple=True, metavar="NAME", help="Only this kernel, such as linux-6.12."),
    page_size_option,
    click.option("--va-bits", type=int, metavar="BITS", help="Only this width of virtual addresses."),
)


choice_option = click.option(
    "--choice",
    "chosen_texts",
    multiple=True,
    metavar="NAME=VALUE",
    shell_complete=offered.CHOICES,
    help="Let the kernel choose otherwise (memhp choices lists what).",
)
"""What a kernel is to decide otherwise; it arrives as the argument of :func:`told_choices`."""


def told_choices(texts: tuple[str, ...]) -> "dict[str, Told]":
    """The choices that ``--choice`` names. BadInput: one is not written as NAME=VALUE, or told twice."""
    from memhp.linux.choice import Told

    told = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise BadInput(f"want NAME=VALUE, got {text!r}", where="--choice", fix="memhp choices lists the names")
        key = name.strip().replace("-", "_")
        if key in told:
            raise BadInput("told twice", where=f"--choice {key}", fix="keep one of them")
        told[key] = Told(value.strip())
    return told


def choosing(configs: "list[Config]", told: "Mapping[str, Told]") -> "list[Config]":
    """Those of the configurations whose kernels have all these choices, with them changed.

    BadInput: none has them, or a value is not one that the choice can have.
    """
    from memhp.linux.choice import hints
    from memhp.linux.choices import generic_choices
    from memhp.scenario.choices import with_choices

    shared = generic_choices()
    left = [each for each in configs if all(name in shared or name in hints(type(each.choices)) for name in told)]
    return [
        replace(each, profile=with_choices(each.profile, each.arch, told, where="--choice")).validate()
        for each in left or configs[:1]
    ]


def configuration_options(command: Command) -> Command:
    """``--arch``, ``--profile``, ``--page-size``, ``--va-bits``: the arguments of :func:`chosen_configs`."""
    return reduce(lambda decorated, option: option(decorated), reversed(_OPTIONS), command)


def page_size_bytes(page_size: str | None) -> int | None:
    """What ``--page-size`` says, in bytes. BadInput: it is no size."""
    return None if page_size is None else parse_size(page_size, where="--page-size")


def chosen_configs(
    arches: tuple[str, ...], profiles: tuple[str, ...], page_size: str | None, va_bits: int | None
) -> "list[Config]":
    """The configurations that the options leave. BadInput: none is left, or there is no such kernel."""
    from memhp.linux.config import configs
    from memhp.linux.profiles import PROFILES, profile

    size = page_size_bytes(page_size)
    chosen = [
        config
        for each in ([profile(name, where="--profile") for name in profiles] or PROFILES.values())
        for config in configs(each)
        if (not arches or config.arch in arches)
        and size in {None, config.page_size}
        and va_bits in {None, config.va_bits}
    ]
    if not chosen:
        raise BadInput("no configuration is left by these options", fix="memhp geometry lists all there are")
    return chosen
