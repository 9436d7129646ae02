"""What ``--json`` prints: one typed document a command, from which its JSON Schema is made (``memhp schema``).

Sizes are bytes, addresses integers of up to 64 bits; a key of anything else names its unit. `schema` changes when a key
goes or means something else, not when one is added. `verdict` is one word for the whole.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from typing import Any, Literal

import msgspec

from memhp.claims.claim import ClaimRow
from memhp.claims.fix import FixRow
from memhp.explore.explored import Explored
from memhp.explore.row import Row as RaceRow
from memhp.facts.page_tables import AreaUse, Difference, MappedRange, MissingTable, TableChange
from memhp.linux.choice_table import ChoiceRow
from memhp.linux.geometry import Row as GeometryRow
from memhp.linux.memmap_verdicts import MemmapRow
from memhp.operate.apply import Applied
from memhp.operate.blocks import BlocksDocument
from memhp.operate.lint import LintDocument
from memhp.operate.plan import HostPlan
from memhp.operate.why import WhyDocument
from memhp.report.documents_guests import GUEST_DOCUMENTS
from memhp.report.json_hex import hex_schema
from memhp.report.races_known import CaseRow, VariantRow
from memhp.scenario.result import Assumption, LawResult, MachineResult, Run, State, StepResult
from memhp.target.device.status import DeviceDocument
from memhp.target.model.matrix import MatrixRow
from memhp.target.model.plan import Plan
from memhp.target.vm import VmStatus
from memhp.target.vm_agent import GuestBlock
from memhp.target.vm_resize import Change
from memhp.twin.control import Answer
from memhp.twin.result import TwinRun

Expected = Literal["expected", "unexpected"]
"""Whether all came out as it should, which exit code 0 says too."""


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """What all documents begin with."""

    schema: Literal[1] = 1
    """The version of the document."""


class RehearseDocument(Document, frozen=True, kw_only=True):
    """``memhp rehearse --json``; `verdict` is ``unexpected`` too if the plan does not reach its size."""

    verdict: Expected
    title: str
    machine: MachineResult
    steps: list[StepResult]
    state: State
    laws: list[LawResult]
    assumptions: list[Assumption]
    """What the run rests on: told by the machine, foretold, or assumed because nobody said."""
    plan: Plan | None = None


class MatrixDocument(Document, frozen=True, kw_only=True):
    """``memhp matrix --json``."""

    verdict: Expected
    rows: list[MatrixRow]
    choices: dict[str, Any]
    """What kernels were told to decide otherwise."""


class ExploreDocument(Explored, frozen=True, kw_only=True):
    """``memhp explore RACE --variant VARIANT --json``: what was found out, with the trace of what goes wrong."""

    schema: Literal[1] = 1
    verdict: Literal["safe", "bounded", "broken", "undecided"]
    """``bounded``: safe as far as `bound` goes."""


class ExploreListDocument(Document, frozen=True, kw_only=True):
    """``memhp explore --json``: the races that there are."""

    verdict: Literal["listed"] = "listed"
    races: list[CaseRow]


class ExploreVariantsDocument(Document, frozen=True, kw_only=True):
    """``memhp explore RACE --json`` without a variant: those that the race has."""

    verdict: Literal["listed"] = "listed"
    name: str
    actors: str
    variants: list[VariantRow]


class ExampleRow(msgspec.Struct, frozen=True, kw_only=True):
    """A scenario that comes with memhp, and its title."""

    name: str
    title: str


class ExampleDocument(Document, frozen=True, kw_only=True):
    """``memhp example --json``: the scenarios that there are, or the `text` of the one that is named."""

    verdict: Literal["listed"] = "listed"
    examples: list[ExampleRow]
    text: str | None = None


class RacesDocument(Document, frozen=True, kw_only=True):
    """``memhp races --json``."""

    verdict: Expected
    rows: list[RaceRow]


class ClaimsDocument(Document, frozen=True, kw_only=True):
    """``memhp claims --json``; `verdict` is ``unexpected`` if a row has another than it is known to have."""

    verdict: Expected
    claims: list[ClaimRow]


class GeometryDocument(Document, frozen=True, kw_only=True):
    """``memhp geometry --json``: one of the two lists, by ``--memmap-on-memory``."""

    verdict: Literal["listed"] = "listed"
    rows: list[GeometryRow] = []
    memmap_on_memory: list[MemmapRow] = []


class ChoicesDocument(Document, frozen=True, kw_only=True):
    """``memhp choices --json``."""

    verdict: Literal["listed"] = "listed"
    choices: list[ChoiceRow]


class FixesDocument(Document, frozen=True, kw_only=True):
    """``memhp fixes --json``: every fix, or those that `kernel` lacks, and what its name leaves open."""

    verdict: Literal["listed"] = "listed"
    kernel: str | None
    left_open: str = ""
    fixes: list[FixRow]


class LawOfTables(msgspec.Struct, frozen=True, kw_only=True):
    """One law on real page tables: where it does not hold, what is worth knowing, or why it was not looked at."""

    law: str
    sentence: str
    holds: bool | None
    """Null: not checked."""
    breaches: list[str]
    notes: list[str]
    unchecked: str


class PagetablesDocument(Document, frozen=True, kw_only=True):
    """``memhp pagetables --json``; what an option did not ask for is empty."""

    verdict: Literal["listed", "incomplete", "equal", "differs", "expected", "unexpected"]
    """``incomplete``: tables are missing. ``equal`` and ``differs`` with --diff, the last two with --check."""
    source: str
    kind: str
    """``ELF core``, ``compressed dump``, ``RAM`` or ``live kernel``."""
    release: str | None
    """``uname -r`` of the kernel."""
    format: str
    root: int
    """Physical address of the first entry of the root table."""
    doubts: list[str]
    """Why areas may be named wrongly."""
    areas: list[AreaUse]
    ranges: list[MappedRange] = []
    missing: list[MissingTable] = []
    differences: list[Difference] = []
    table_changes: list[TableChange] = []
    laws: list[LawOfTables] = []


class VmRehearsal(msgspec.Struct, frozen=True, kw_only=True):
    """What the model says of a change."""

    ok: bool
    step: StepResult
    """The change itself, on the model."""
    assumed: list[str]


class VmDocument(Document, frozen=True, kw_only=True):
    """``memhp vm … --json``."""

    verdict: Literal["listed", "rehearsed", "unrehearsed", "refused", "requested", "reached", "stuck", "timeout"]
    """``listed`` by status; ``rehearsed``, ``unrehearsed`` and ``refused`` (by the rehearsal): nothing was changed;
    the rest: how the change ended."""
    vm: VmStatus | None = None
    """Before the change."""
    block_size: int | None = None
    blocks: list[GuestBlock] = []
    """What the guest's agent tells of its memory blocks."""
    rehearsal: VmRehearsal | None = None
    change: Change | None = None


class TwinDocument(TwinRun, frozen=True, kw_only=True):
    """``memhp twin --record FILE.json``."""

    schema: Literal[1] = 1
    verdict: Expected


DOCUMENTS: dict[str, type[msgspec.Struct]] = {
    "rehearse": RehearseDocument,
    "matrix": MatrixDocument,
    "explore": ExploreDocument,
    "explore list": ExploreListDocument,
    "explore variants": ExploreVariantsDocument,
    "example": ExampleDocument,
    "races": RacesDocument,
    "claims": ClaimsDocument,
    "geometry": GeometryDocument,
    "blocks": BlocksDocument,
    "why": WhyDocument,
    "plan": HostPlan,
    "apply": Applied,
    "lint": LintDocument,
    "choices": ChoicesDocument,
    "fixes": FixesDocument,
    "device": DeviceDocument,
    "twin": TwinDocument,
    "twin ctl": Answer,
    "pagetables": PagetablesDocument,
    "vm": VmDocument,
    **GUEST_DOCUMENTS,
}
"""The document of each command."""


def json_schema(command: str, *, hexadecimal: bool = False) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a command's document, or of the one that ``--json=hex`` prints."""
    plain = msgspec.json.schema(DOCUMENTS[command])
    return hex_schema(plain) if hexadecimal else plain


def expected(fine: bool) -> Expected:
    """The verdict that goes with exit codes 0 and 1."""
    return "expected" if fine else "unexpected"


def rehearse_document(run: Run, plan: Plan | None, *, fine: bool) -> RehearseDocument:
    """The document of a rehearsal, and of what was planned after it."""
    return RehearseDocument(
        verdict=expected(fine), title=run.title, machine=run.machine, steps=run.steps, state=run.state, laws=run.laws,
        assumptions=run.assumptions, plan=plan,
    )  # fmt: skip


def twin_document(run: TwinRun) -> TwinDocument:
    """The document of a run on a twin."""
    return TwinDocument(**msgspec.structs.asdict(run), verdict=expected(run.fine))


def explore_document(found: Explored) -> ExploreDocument:
    """The document of one race."""
    verdict: Literal["safe", "bounded", "broken", "undecided"] = "safe" if found.bound is None else "bounded"
    if found.verdict in ("broken", "undecided"):
        verdict = "broken" if found.verdict == "broken" else "undecided"
    return ExploreDocument(**{**msgspec.structs.asdict(found), "verdict": verdict})
