"""Prometheus's text format, version 0.0.4, read strictly: https://prometheus.io/docs/instrumenting/exposition_formats/.

Lines end with ``\\n``, the last one too. One HELP and one TYPE for a metric, before its samples; samples of a metric
stand together, none twice with the same labels. Escapes are ``\\\\`` and ``\\n`` in help, in values ``\\"`` too.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from typing import NamedTuple

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r"[a-zA-Z_][a-zA-Z0-9_]*"
VALUE = r'"((?:[^"\\\n]|\\[\\"n])*)"'
_HELP = re.compile(rf"# HELP ({NAME}) ((?:[^\\\n]|\\[\\n])+)")
_TYPE = re.compile(rf"# TYPE ({NAME}) (counter|gauge|histogram|summary|untyped)")
_PAIR = re.compile(rf"({LABEL})={VALUE}")
_SAMPLE = re.compile(rf"({NAME})(?:\{{({LABEL}={VALUE}(?:,{LABEL}={VALUE})*)?\}})? (\S+)")
_PLAIN = {r"\\": "\\", r"\"": '"', r"\n": "\n"}


class Metric(NamedTuple):
    """A metric: its help, its type, and its samples by their labels, in order of names."""

    help: str
    type: str
    samples: dict[tuple[tuple[str, str], ...], float]


def read(text: str) -> dict[str, Metric]:
    """All metrics of a text. Raises ValueError with the line that is wrong."""
    if not text.endswith("\n"):
        raise ValueError("the last line has no end")
    helps: dict[str, str] = {}
    found: dict[str, Metric] = {}
    for line in text[:-1].split("\n"):
        last = next(reversed(found), None)
        if told := _HELP.fullmatch(line):
            if told[1] in helps or told[1] in found:
                raise ValueError(line)
            helps[told[1]] = told[2]
        elif typed := _TYPE.fullmatch(line):
            if typed[1] in found or typed[1] not in helps:
                raise ValueError(line)
            found[typed[1]] = Metric(helps[typed[1]], typed[2], {})
        elif sample := _SAMPLE.fullmatch(line):
            if sample[1] != last:
                raise ValueError(line)
            pairs = [(name, re.sub(r'\\[\\"n]', lambda m: _PLAIN[m[0]], value)) for name, value in
                     _PAIR.findall(sample[2] or "")]  # fmt: skip
            labels = tuple(sorted(pairs))
            if len(dict(pairs)) != len(pairs) or labels in found[sample[1]].samples:
                raise ValueError(line)
            found[sample[1]].samples[labels] = float(sample[sample.re.groups])
        else:
            raise ValueError(line)
    if empty := [name for name, metric in found.items() if not metric.samples]:
        raise ValueError(f"no sample of {', '.join(empty)}")
    return found
