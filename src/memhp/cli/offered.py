"""What a shell offers where a name is wanted (``memhp completion``): each looked up when somebody asks, not before."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem

Offer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _offer(names: Callable[[click.Context], Iterable[str]], *, files: bool = False) -> Offer:
    """The names that begin as what is written already, and files where one may be named as well."""

    def offer(ctx: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
        found = [CompletionItem(name) for name in names(ctx) if name.startswith(begun)]
        return [*found, CompletionItem(begun, type="file")] if files else found

    return offer


def _races(_: click.Context) -> Iterable[str]:
    from memhp.explore.cases import CASES

    return (case.name for case in CASES)


def _variants(ctx: click.Context) -> Iterable[str]:
    from memhp.explore.cases import CASES

    named = ctx.params.get("names") or [ctx.params.get("name")]
    chosen = [case for case in CASES if case.name in named] or CASES
    return dict.fromkeys(variant.name for case in chosen for variant in case.variants)


def _claims(_: click.Context) -> Iterable[str]:
    from memhp.claims.table import CLAIMS

    return (claim.id for claim in CLAIMS)


def _choices(_: click.Context) -> Iterable[str]:
    from memhp.linux.choice_table import choice_rows

    return dict.fromkeys(row.name for row in choice_rows())


def _examples(_: click.Context) -> Iterable[str]:
    from memhp.scenario.examples import examples

    return (path.stem for path in examples())


def _example_files(ctx: click.Context) -> Iterable[str]:
    return (f"examples/{name}.toml" for name in _examples(ctx))


def _presets(_: click.Context) -> Iterable[str]:
    from memhp.scenario.presets import PRESETS

    return PRESETS


def _documents(_: click.Context) -> Iterable[str]:
    from memhp.report.documents import DOCUMENTS

    return DOCUMENTS


RACES, VARIANTS, CLAIMS, CHOICES = map(_offer, (_races, _variants, _claims, _choices))
EXAMPLES, DOCUMENTS = map(_offer, (_examples, _documents))
SCENARIOS, PRESETS = _offer(_example_files, files=True), _offer(_presets, files=True)
