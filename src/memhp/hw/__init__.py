"""The hardware: physical memory, page-table formats and the one walker, TLB state, CPUs and locks."""
# SPDX-License-Identifier: GPL-2.0-or-later
