"""A comparison of the model with real kernels: as lines, as a document, and as a page."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from memhp.conform.compare import Comparison, Detail
from memhp.conform.life_results import Lives
from memhp.outputs.file import write_file
from memhp.report.documents_guests import ConformDocument, ConformMachine, LivesDocument
from memhp.report.rendering import Head, PageTable, render
from memhp.units import format_count

Found = Mapping[str, Comparison | str]
"""What was compared by name; or why it could not be."""
COUNTS = ("facts", "equal", "differing", "incomparable")


def compared(found: Found) -> dict[str, Comparison]:
    """Only what was compared."""
    return {name: each for name, each in found.items() if not isinstance(each, str)}


def skipped(found: Found) -> dict[str, str]:
    """What was not, and why."""
    return {name: each for name, each in found.items() if isinstance(each, str)}


def totals(found: Found) -> dict[str, int]:
    """The sums of all counts."""
    return {name: sum(getattr(each, name) for each in compared(found).values()) for name in COUNTS}


def reasons(found: Found) -> list[tuple[str, int]]:
    """Why facts could not be held against each other, the most frequent reason first."""
    counts: Counter[str] = Counter()
    for each in compared(found).values():
        for detail in each.details:
            if detail.verdict == "incomparable":
                counts[detail.reason] += detail.count
    return counts.most_common()


def differing(each: Comparison) -> list[Detail]:
    """The facts that no rule explains."""
    return [detail for detail in each.details if detail.verdict == "differing"]


def lines(found: Found) -> Iterator[str]:
    """A line a machine, what differs below it, the reasons, and the sums."""
    for name, each in found.items():
        if isinstance(each, str):
            yield f"- {name}: {each}"
            continue
        yield f"{'✗' if each.differing else '✓'} {name}: {each.equal} of {format_count(each.facts, 'fact')} equal"
        for detail in differing(each):
            yield f"    {detail.step}: {detail.fact}"
            yield f"      kernel {detail.expected!r}, model {detail.got!r}"
    for reason, count in reasons(found):
        yield f"  {count} incomparable: {reason}"
    sums = totals(found)
    facts = ", ".join([format_count(sums.pop("facts"), "fact"), *(f"{count} {name}" for name, count in sums.items())])
    missing = len(skipped(found))
    yield facts + (f", {format_count(missing, 'machine')} skipped" if missing else "")


def document(found: Found, lives: Lives | None, kept: list[str]) -> ConformDocument:
    """The same as JSON; `kept` are the scenarios of lives that differed."""
    sums = totals(found)
    return ConformDocument(
        verdict="differs" if sums["differing"] else "conforms",
        facts=sums["facts"],
        equal=sums["equal"],
        differing=sums["differing"],
        incomparable=sums["incomparable"],
        machines=[
            ConformMachine(name=name, **{count: getattr(each, count) for count in COUNTS})
            for name, each in compared(found).items()
        ],
        skipped=skipped(found),
        details=[detail for each in compared(found).values() for detail in each.details],
        lives=None if lives is None else LivesDocument(
            drawn=lives.lives, finished=lives.lives - len(lives.unfinished), differed=lives.differed,
            steps=lives.steps, tried=lives.tried, unsteady=lives.unsteady, unfinished=lives.unfinished, kept=kept,
        ),
    )  # fmt: skip


def write_page(found: Found, path: Path) -> None:
    """Write the page. Raises :class:`BadInput` if it cannot be written."""
    write_file(path, page(found))


def page(found: Found) -> str:
    """The page, as HTML that needs no other file."""
    heads = (Head("machine"), *(Head(name, right=True) for name in COUNTS))
    rows: list[tuple[str, ...]] = [
        (name, *(str(getattr(each, count)) for count in COUNTS)) for name, each in compared(found).items()
    ]
    return render(
        "conform.html",
        totals=totals(found),
        table_of_counts=PageTable("What was compared", heads, [*rows]),
        different=[(name, differing(each)) for name, each in compared(found).items() if each.differing],
        reasons=reasons(found),
        skipped=skipped(found),
    )
