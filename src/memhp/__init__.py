"""memhp: Linux memory hot(un)plug, rehearsed before it is real.

The package is laid out in floors, each of which imports only from those below it:
``cli`` over ``report`` and ``claims`` over ``scenario`` over ``check`` and ``facts`` over
``linux`` (what the kernel does, under the kernel's names) over ``hw`` (physical memory, page-table
formats, TLB, CPUs and locks) over ``spans``, ``units`` and ``errors``.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

__version__ = "0.1.0"
