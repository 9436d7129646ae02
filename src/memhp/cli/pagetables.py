"""``memhp pagetables``: the page tables of a real kernel, read from a dump, from a VM's RAM or from this machine."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from memhp.cli.at_work import at_work
from memhp.cli.memory_options import opened_memory, ram_option
from memhp.cli.output import echo_lines, emit_json, json_option
from memhp.errors import BadInput, one_of
from memhp.printable import printable

if TYPE_CHECKING:
    from memhp.check.dump_laws import DumpedTables, Finding
    from memhp.facts.page_tables import SeenTables
    from memhp.spans import Span

LEVELS = ("PTE", "PMD", "PUD", "P4D", "PGD")
END = 1 << 64


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--summary", is_flag=True, help="A tree instead: what each area maps, and what its tables take.")
@click.option("--leaves", is_flag=True, help="Ranges with physical addresses, cut where these do not follow on.")
@click.option("--diff", "other", type=click.Path(path_type=Path), metavar="LATER", help="What a later moment has else.")
@click.option("--check", is_flag=True, help="Whether the laws that need only page tables and iomem hold.")
@click.option("--iomem", type=click.Path(path_type=Path), metavar="FILE", help="Its /proc/iomem, for --check.")
@click.option("--area", "names", multiple=True, metavar="NAME", help="Only this area: 'direct map', vmemmap, vmalloc …")
@click.option("--from", "start", metavar="ADDRESS", help="Only from this virtual address on.")
@click.option("--to", "end", metavar="ADDRESS", help="Only up to this virtual address.")
@click.option("--level", type=click.Choice(LEVELS, case_sensitive=False), help="Only leaves of this level.")
@click.option("--register", "registers", multiple=True, metavar="NAME=VALUE", help="A CPU's cr3, cr4, satp …")
@click.option("--arch", metavar="ARCH", help="What registers belong to, if RAM does not tell.")
@ram_option
@json_option
def pagetables(
    source: Path,
    summary: bool,
    leaves: bool,
    other: Path | None,
    check: bool,
    iomem: Path | None,
    names: tuple[str, ...],
    start: str | None,
    end: str | None,
    level: str | None,
    registers: tuple[str, ...],
    arch: str | None,
    pieces: tuple[str, ...],
    as_json: bool,
) -> int:
    """Print the kernel page tables of SOURCE in the format of the kernel's own dump.

    SOURCE is an ELF core with VMCOREINFO (kdump, QEMU, page tables alone), a dump that makedumpfile or QEMU compressed,
    one of IBM Z's tools, a file that holds a VM's RAM, the socket of QEMU's monitor, or /proc/kcore. Exit code 1 if
    tables are missing, moments differ or a law is broken.
    """
    if sum((summary, leaves, other is not None, check)) > 1:
        raise click.UsageError("one of --summary, --leaves, --diff and --check")
    if iomem is not None and not check:
        raise click.UsageError("--iomem goes with --check")
    from memhp.facts.page_tables import area_uses, in_the_same_areas, read_tables_of

    options = {"registers": _registers(registers), "arch": _arch(arch)}
    with at_work(f"reading {source}"):
        seen = read_tables_of(opened_memory(source, pieces, **options))
    spans = _spans(seen, names, start, end)
    if other is not None:
        with at_work(f"reading {other}"):
            later = read_tables_of(opened_memory(other, pieces, **options))
        seen, later = in_the_same_areas(seen, later)
        return _diff(seen, later, _spans(seen, names, start, end), as_json=as_json)
    if check:
        return _check(seen, iomem, as_json=as_json)
    if as_json:
        from memhp.facts.page_tables import mapped_ranges

        found = [] if summary else mapped_ranges(seen, spans, level)
        _emit(seen, "incomplete" if seen.missing else "listed", ranges=found, missing=seen.missing)
    elif summary:
        from memhp.report.page_tables import missing_lines, summary_lines

        uses = [use for use in area_uses(seen) if not names or any(use.start in span for span in spans)]
        echo_lines([*summary_lines(seen, uses), *missing_lines(seen.missing)])
    elif leaves:
        from memhp.facts.page_tables import mapped_ranges
        from memhp.report.page_tables import missing_lines, range_lines

        echo_lines([*range_lines(mapped_ranges(seen, spans, level)), *missing_lines(seen.missing)], fold=False)
    else:
        _print_dump(seen, spans, level, everything=not (names or start or end or level))
    _tell(seen)
    return 1 if seen.missing else 0


def _registers(texts: tuple[str, ...]) -> dict[str, int]:
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        try:
            found[name.lower()] = int(value, 0)
        except ValueError:
            equals = ""
        if not equals or not 0 <= found[name.lower()] < END:
            raise BadInput(f"not a register and its value: {text!r}", where="--register", fix="such as cr3=0x1e06000")
    return found


def _arch(arch: str | None) -> str | None:
    if arch is not None:
        from memhp.linux.arch.registry import ARCHES, READ_ONLY

        if arch not in (known := (*ARCHES, *READ_ONLY)):
            raise BadInput(f"no architecture {arch!r}", where="--arch", fix=one_of(arch, known))
    return arch


def _spans(seen: "SeenTables", names: tuple[str, ...], start: str | None, end: str | None) -> "list[Span]":
    """The addresses that the options leave, ascending."""
    from memhp.facts.noted_layout import area_named
    from memhp.spans import Span

    low, high = _address(start, 0, "--from"), _address(end, END, "--to")
    if low >= high:
        raise BadInput(f"{low:#x} is not below {high:#x}", where="--to", fix="an address above --from")
    if names and seen.kernel is None:
        raise BadInput("where its areas lie is not known: no VMCOREINFO", where="--area", fix="use --from and --to")
    whole = Span(low, high)
    areas = sorted({area_named(seen.areas, name).span for name in names}) if names else [Span(0, END)]
    return [span for span in (area.clip(whole) for area in areas) if span]


def _address(text: str | None, default: int, where: str) -> int:
    if text is None:
        return default
    try:
        value = int(text, 16)
    except ValueError:
        value = -1
    if not 0 <= value <= END:
        raise BadInput(f"not an address: {text!r}", where=where, fix="hexadecimal, such as 0xffff888000000000")
    return value


def _print_dump(seen: "SeenTables", spans: "list[Span]", level: str | None, *, everything: bool) -> None:
    from memhp.facts.page_tables import chosen_events, events_of
    from memhp.facts.ptdump import render
    from memhp.linux.arch.registry import tables_port

    events = events_of(seen)
    style = tables_port(seen.fmt.arch).ptdump_style_of(seen.fmt)
    click.echo(render(events if everything else chosen_events(events, style, spans, level), style), nl=False)


def _diff(before: "SeenTables", after: "SeenTables", spans: "list[Span]", *, as_json: bool) -> int:
    from memhp.facts.page_tables import area_uses, differences, table_changes
    from memhp.report.page_tables import difference_lines, missing_lines

    found = differences(before, after, spans)
    uses = [[use for use in area_uses(seen) if _shown(use.start, use.end, spans)] for seen in (before, after)]
    tables = table_changes(*uses)
    missing = [*before.missing, *after.missing]
    if as_json:
        verdict = "differs" if found or tables else "incomplete" if missing else "equal"
        _emit(before, verdict, differences=found, table_changes=tables, missing=missing)
    else:
        echo_lines([*difference_lines(found, tables), *missing_lines(missing)], fold=False)
    _tell(before)
    return 1 if found or tables or missing else 0


def _shown(start: int, end: int, spans: "list[Span]") -> bool:
    return any(span.start < end and start < span.end for span in spans)


def _check(seen: "SeenTables", iomem: Path | None, *, as_json: bool) -> int:
    from memhp.check.dump_laws import check_dumped
    from memhp.report.page_tables import law_lines

    findings = check_dumped(_dumped(seen, iomem))
    broken = any(finding.breaches for finding in findings)
    if as_json:
        _emit(seen, "unexpected" if broken else "expected", laws=_laws(findings), missing=seen.missing)
    else:
        echo_lines(law_lines(findings))
    _tell(seen)
    return 1 if broken else 0


def _dumped(seen: "SeenTables", iomem: Path | None) -> "DumpedTables":
    """What the laws look at; a live kernel's /proc/iomem is at hand."""
    from memhp.check.dump_laws import DumpedTables
    from memhp.facts.iomem import parse
    from memhp.facts.page_table_laws import memory_frames, ram_frames
    from memhp.inputs import read_file
    from memhp.limits import FILE_SIZE

    maps = seen.kernel.maps if seen.kernel is not None else None
    path = iomem or (Path("/proc/iomem") if seen.source.live else None)
    if path is None:
        return DumpedTables(seen.everything, seen.tables, maps)
    resources = parse(read_file(path, FILE_SIZE).decode("utf-8", "replace"), where=str(path))
    shift = seen.fmt.page_shift
    ram, memory = ram_frames(resources, shift), memory_frames(resources, shift)
    return DumpedTables(seen.everything, seen.tables, maps, ram, memory)


def _laws(findings: "Iterable[Finding]") -> list[Any]:
    from memhp.report.documents import LawOfTables

    return [
        LawOfTables(
            law=each.law,
            sentence=each.sentence,
            holds=None if each.unchecked else not each.breaches,
            breaches=[breach.text for breach in each.breaches],
            notes=[note.text for note in each.notes],
            unchecked=each.unchecked,
        )
        for each in findings
    ]


def _emit(seen: "SeenTables", verdict: Any, **found: Any) -> None:
    from memhp.facts.page_tables import area_uses
    from memhp.report.documents import PagetablesDocument

    source = seen.source
    emit_json(
        PagetablesDocument(
            verdict=verdict,
            source=source.where,
            kind=source.kind,
            release=source.info.release if source.info is not None else None,
            format=seen.fmt.name,
            root=source.root.address,
            doubts=list(seen.kernel.doubts) if seen.kernel is not None else [],
            areas=area_uses(seen),
            **found,
        )
    )


def _tell(seen: "SeenTables") -> None:
    """What a reader should know of the run, on stderr."""
    for doubt in seen.kernel.doubts if seen.kernel is not None else ():
        click.echo(f"note: {printable(doubt)}", err=True)
    if seen.source.live:
        click.echo("note: the kernel ran meanwhile: what it changed may be seen half", err=True)
