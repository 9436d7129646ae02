"""A race to be decided: its actors, its variants, and the machines on which each variant is explored.

A case is one row of a table of things that may go wrong when two paths meet. A *variant* is kernel code as it was when
it was broken, or as it was repaired: choices of a profile put in the place of what a release has. A *configuration* is
a machine: architecture, page size, address width, release. Case, variant and configuration give a program; deciding
it gives a row.

Every module of :mod:`memhp.explore.cases` describes one case, as `CASE`.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from memhp.errors import BadInput, one_of
from memhp.explore.doors.endless import to_end
from memhp.explore.doors.run import KernelProgram
from memhp.explore.engine.search import Limits
from memhp.linux.arch.registry import Arch, port
from memhp.linux.choice import check_types
from memhp.linux.config import Config
from memhp.linux.profiles import MAINLINE, profile
from memhp.units import KiB

StandsFor = Literal["broken", "repaired"]
OPTIONS = tuple(one.name for one in fields(Config) if one.name not in ("arch", "profile", "page_size", "va_bits"))
"""What the options of a variant may say of its kernel; the rest of that is the machine's."""


@dataclass(frozen=True)
class Configuration:
    """A machine that a variant is explored on; `note` tells what is particular about the case on it."""

    arch: Arch
    page_size: int
    va_bits: int
    release: str = "linux-6.12"
    note: str = ""

    def __post_init__(self) -> None:
        """BadInput: a field is of another sort than it is to be."""
        check_types(self)
        for name in ("release", "note"):
            _must_be_text(getattr(self, name), "configuration", name)

    @property
    def name(self) -> str:
        """``arm64-4K-48-linux-6.12``."""
        return f"{self.arch}-{self.page_size // KiB}K-{self.va_bits}-{self.release}"


def configurations(
    release: str = "linux-6.12", *arches: Arch, page_size: int | None = None
) -> tuple[Configuration, ...]:
    """Every configuration of a release: of the given architectures, of one page size or all.

    Without architectures: all that map memory in page tables. LoongArch reaches it through windows, takes away nothing
    but sections, and breaks a law with every removal, whoever else runs (docs/findings.md).
    """
    chosen = profile(release)
    return tuple(
        Configuration(arch, size, va_bits, release)
        for arch in chosen.arches
        if (arch in arches if arches else port(arch).direct_map_in_page_tables)
        for size in port(arch).va_bits
        if page_size in (None, size)
        for va_bits in port(arch).va_bits_of(chosen.arch(arch), size)
    )


def mainline(*arches: Arch, page_size: int | None = None) -> tuple[Configuration, ...]:
    """Every configuration of kernels as they are today; see :func:`configurations`."""
    return tuple(one for release in MAINLINE for one in configurations(release, *arches, page_size=page_size))


def _must_be_named(name: object, what: str) -> None:
    """BadInput: it has no name that a command line or a report can say."""
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise BadInput(f"wanted a name, a line of text, and got {name!r}", where=what)


def _must_be_text(given: object, where: str, name: str) -> None:
    """BadInput: it is no line of text."""
    if not isinstance(given, str) or (given and not given.isprintable()):
        raise BadInput(f"wanted a line of text as {name}, and got {given!r:.80}", where=where)


def _must_be_several(given: object, kind: type, where: str) -> None:
    """BadInput: it is no tuple of at least one object of that kind."""
    if isinstance(given, tuple) and given and all(type(one) is kind for one in given):
        return
    got = "an empty one" if given == () else f"{given!r:.80}"
    raise BadInput(f"wanted a tuple of {kind.__name__}s, and got {got}", where=where)


@dataclass(frozen=True)
class Variant:
    """Kernel code as it was, or as it was repaired.

    `choices` replace fields of the architecture's record of the release's profile, `generic` fields of the profile
    itself, `options` fields of the configuration (boot and build options). With no `choices` and no `generic` ones it
    is that release as it is.
    """

    name: str
    about: str
    """One line for people: what this kernel does."""
    stands_for: StandsFor
    """What the variant is known as; the verdict is computed and may differ."""
    configurations: tuple[Configuration, ...]
    choices: Mapping[str, Any] = field(default_factory=dict)
    generic: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    finding: str = ""
    """The heading of docs/findings.md that tells of a broken kernel of today, or of a verdict that was not expected."""
    of_kernel: bool = True
    """False where the actors do what no kernel does."""

    def config(self, configuration: Configuration) -> Config:
        """The kernel of this variant on a machine. BadInput: there cannot be such a kernel."""
        for name in self.options:
            if name not in OPTIONS:
                raise BadInput("there is no such option", where=f"options: {name}", fix=one_of(name, OPTIONS))
        chosen = profile(configuration.release).choosing(configuration.arch, {**self.generic, **self.choices})
        return Config(
            arch=configuration.arch,
            profile=chosen,
            page_size=configuration.page_size,
            va_bits=configuration.va_bits,
            **self.options,
        ).validate()

    def current(self, configuration: Configuration) -> bool:
        """Whether this is a kernel of today, unchanged."""
        return self.of_kernel and not self.choices and not self.generic and configuration.release in MAINLINE

    def configuration(self, name: str | None) -> Configuration:
        """A configuration by name, the first without one. BadInput: the variant is not explored on it."""
        if name is None:
            return self.configurations[0]
        for one in self.configurations:
            if one.name == name:
                return one
        fix = one_of(name, [one.name for one in self.configurations])
        raise BadInput(f"variant {self.name} is not explored on {name!r}", where="configuration", fix=fix)


def _must_be_variant(one: Variant) -> None:
    """BadInput: a field of a variant is of another sort than it is to be."""
    _must_be_named(one.name, "variant")
    where = f"variant {one.name}"
    for name in ("about", "finding"):
        _must_be_text(getattr(one, name), where, name)
    for name in ("choices", "generic", "options"):
        given = getattr(one, name)
        if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
            raise BadInput(f"wanted a mapping of names to values as {name}, and got {given!r:.80}", where=where)
    known = get_args(StandsFor)
    if one.stands_for not in known:
        raise BadInput(f"is known as {one.stands_for!r}", where=where, fix=one_of(str(one.stands_for), known))
    _must_be_several(one.configurations, Configuration, where)


@dataclass(frozen=True)
class Case:
    """One race: who takes part, what may break, the variants, and how a program is made of one of them."""

    name: str
    actors: str
    """One line for people: who does what at the same time."""
    variants: tuple[Variant, ...]
    build: Callable[[Variant, Configuration], KernelProgram]
    limits: Limits = field(default_factory=lambda: Limits(executions=20_000))
    """How far a search goes before it is undecided, and its bounds."""
    geometry: str = ""
    """What is smaller than on a real machine, if anything is."""

    def __post_init__(self) -> None:
        """BadInput: a field is of another sort than it is to be, or two variants have one name."""
        _must_be_named(self.name, "race")
        where = f"race {self.name}"
        _must_be_several(self.variants, Variant, where)
        for one in self.variants:
            _must_be_variant(one)
        names = [one.name for one in self.variants]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise BadInput(f"two variants are called {twice!r}", where=where, fix="give each a name of its own")
        if not callable(self.build):
            raise BadInput(f"build is a {type(self.build).__name__}, wanted a function", where=where)
        for name in ("actors", "geometry"):
            _must_be_text(getattr(self, name), where, name)
        if not isinstance(self.limits, Limits):
            raise BadInput(f"limits are a {type(self.limits).__name__}, wanted Limits", where=where)

    def variant(self, name: str) -> Variant:
        """A variant by name. BadInput: there is no such variant."""
        for one in self.variants:
            if one.name == name:
                return one
        fix = one_of(name, [one.name for one in self.variants])
        raise BadInput(f"{self.name} has no variant {name!r}", where="variant", fix=fix)

    def must_have_kernels(self) -> None:
        """BadInput: there cannot be the kernel of a variant on one of its configurations."""
        for one in self.variants:
            for configuration in one.configurations:
                try:
                    one.config(configuration)
                except BadInput as error:
                    where = f"variant {one.name} on {configuration.name}: {error.where}"
                    raise BadInput(error.message, where=where, fix=error.fix) from None

    def program(self, variant: str, configuration: str | None = None) -> KernelProgram:
        """The case as one variant has it, on one of its configurations (the first, if none is named)."""
        chosen = self.variant(variant)
        return self.made(chosen, chosen.configuration(configuration))

    def made(self, variant: Variant, configuration: Configuration) -> KernelProgram:
        """What `build` makes. BadInput: it does not end."""
        with to_end("build()"):
            return self.build(variant, configuration)
