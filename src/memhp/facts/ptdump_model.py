"""The page-table dump of a modelled machine, as its kernel would print it."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.facts.ptdump import Event, Marker, dump, render
from memhp.linux.port import Root
from memhp.linux.state import Kernel


def model_events(k: Kernel) -> list[Event]:
    """The ranges and sections of ``/sys/kernel/debug/kernel_page_tables`` for `init_mm`, under the layout's markers.

    Raises :class:`BadInput` when an entry points to a frame that holds no table.
    """
    limits = k.port.ptdump_style.section_limits
    markers = [Marker(marker.start, marker.name, limits.get(marker.name, 0)) for marker in k.layout.markers]
    return list(dump(k.hw.memory, Root(k.hw.fmt, k.init_mm.frame), markers))


def model_ptdump(k: Kernel) -> str:
    """The text of ``/sys/kernel/debug/kernel_page_tables`` for `init_mm`. Raises as :func:`model_events`."""
    return render(model_events(k), k.port.ptdump_style)
