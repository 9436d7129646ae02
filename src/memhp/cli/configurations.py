"""The options that choose configurations, which several commands share, and what they choose."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable
from functools import reduce
from typing import TYPE_CHECKING, Any, TypeVar

import click

from memhp.errors import BadInput
from memhp.units import parse_size

if TYPE_CHECKING:
    from memhp.linux.config import Config

Command = TypeVar("Command", bound=Callable[..., Any])

arch_option = click.option(
    "--arch", "arches", multiple=True, type=click.Choice(["riscv64", "arm64", "x86_64"]), help="Only this one."
)
page_size_option = click.option("--page-size", metavar="SIZE", help="Only this page size: 4K, 16K or 64K.")
_OPTIONS = (
    arch_option,
    click.option("--profile", "profiles", multiple=True, metavar="NAME", help="Only this kernel, such as linux-6.12."),
    page_size_option,
    click.option("--va-bits", type=int, metavar="BITS", help="Only this width of virtual addresses."),
)


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
