"""What is read from a modelled machine for a report: counters, use of blocks, page tables that changed, files."""
# SPDX-License-Identifier: GPL-2.0-or-later
