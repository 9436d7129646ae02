"""Half-open spans of integers (bytes or PFNs), sets of them, and maps from spans to values.

Per-page facts of a machine with billions of pages live here: cost grows with the number of *runs* of equal
pages, never with pages. All spans are half-open, ``[start, end)``.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.spans.span import Span
from memhp.spans.span_map import SpanMap
from memhp.spans.span_set import SpanSet

__all__ = ["Span", "SpanMap", "SpanSet"]
