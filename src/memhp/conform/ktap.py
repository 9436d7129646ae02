"""A comparison in KTAP, the test format that kernel CI systems read (Documentation/dev-tools/ktap.rst)."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Mapping

from memhp.conform.compare import Comparison


def ktap(found: Mapping[str, Comparison | str]) -> str:
    """One test for each comparison by name; one that could not be made is skipped, with the reason."""
    lines = ["KTAP version 1", f"1..{len(found)}"]
    for number, (name, each) in enumerate(found.items(), start=1):
        label = name.replace("#", "_")
        if isinstance(each, str):
            lines.append(f"ok {number} {label} # SKIP {each.replace('#', '_')}")
            continue
        wrong = [detail for detail in each.details if detail.verdict == "differing"]
        lines += [f"# {one.step}: {one.fact}: the kernel {one.expected}, the model {one.got}" for one in wrong]
        lines.append(
            f"# {each.facts} facts, {each.equal} equal, {len(wrong)} differing, {each.incomparable} incomparable"
        )
        lines.append(f"{'not ok' if wrong else 'ok'} {number} {label}")
    return "\n".join(lines) + "\n"
