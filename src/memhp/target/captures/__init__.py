"""Captures: the facts of a machine kept as flat files, a folder for each step (docs/captures.md)."""
# SPDX-License-Identifier: GPL-2.0-or-later
