"""Findings as text of 80 columns, and as SARIF 2.1.0 (OASIS, Static Analysis Results Interchange Format)."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from typing import Any

from memhp import __version__
from memhp.operate.blocks_text import as_text
from memhp.operate.lint import RULES, LintDocument
from memhp.units import format_count

SARIF_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def text_of(document: LintDocument) -> str:
    """Who wins, then finding after finding, the worst first."""
    return as_text(_lines(document))


def _lines(document: LintDocument) -> Iterator[str]:
    first = document.winner
    how = "in a way that shows when it runs" if first.how == "?" else f"as {first.how}"
    told = f", {how} ({first.file}:{first.line})" if first.by != "nobody" else ""
    yield f"{document.source}: {first.by} brings added memory online{told}"
    for each in document.findings:
        yield ""
        yield f"{each.severity}: {each.id} — {each.file}:{each.line}"
        yield f"  {each.text}"
        yield f"  → {each.remedy}"
    yield ""
    yield f"{format_count(len(document.findings), 'finding')}."


def sarif(document: LintDocument) -> dict[str, Any]:
    """The findings as a SARIF log with one run; files are URIs of the machine that was looked at."""
    rules = list(RULES)
    return {
        "$schema": SARIF_SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "memhp",
                        "semanticVersion": __version__,
                        "rules": [
                            {
                                "id": id,
                                "shortDescription": {"text": rule.sentence},
                                "defaultConfiguration": {"level": rule.severity},
                            }
                            for id, rule in RULES.items()
                        ],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "results": [
                    {
                        "ruleId": each.id,
                        "ruleIndex": rules.index(each.id),
                        "level": each.severity,
                        "message": {"text": f"{each.text}. {each.remedy}."},
                        "locations": [
                            {
                                "physicalLocation": {
                                    "artifactLocation": {"uri": f"file://{each.file}"},
                                    "region": {"startLine": each.line},
                                }
                            }
                        ],
                    }
                    for each in document.findings
                ],
            }
        ],
    }
