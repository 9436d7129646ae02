"""The page-table dump of a modelled machine, as its kernel would print it."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.facts.ptdump import Event, Marker, dump, render
from memhp.facts.ptdump_style import STYLES
from memhp.facts.vmcoreinfo import Root
from memhp.linux.state import Kernel

MAX_LINES = {"ESPfix Area": 16}
"""Ranges that x86 prints of a section at most, where it sets a limit (arch/x86/mm/dump_pagetables.c)."""


def model_events(k: Kernel) -> list[Event]:
    """The ranges and sections of ``/sys/kernel/debug/kernel_page_tables`` for `init_mm`, under the layout's markers.

    Raises :class:`BadInput` when an entry points to a frame that holds no table.
    """
    markers = [Marker(marker.start, marker.name, MAX_LINES.get(marker.name, 0)) for marker in k.layout.markers]
    return list(dump(k.hw.memory, Root(k.hw.fmt, k.init_mm.frame), markers))


def model_ptdump(k: Kernel) -> str:
    """The text of ``/sys/kernel/debug/kernel_page_tables`` for `init_mm`. Raises as :func:`model_events`."""
    return render(model_events(k), STYLES[k.config.arch])
